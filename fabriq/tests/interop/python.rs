//! pyzmq in processes of its own: every pattern, blocking and under asyncio, bound and connected. The peer is
//! peer.py, which checks what it gets; this file checks the other half.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use fabriq::{Context, Frame, Message, Socket, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use crate::party::over_tcp_and_ipc;
use crate::wire::{PATIENCE, socket};

/// One process of peer.py. Killed (SIGKILL) when dropped.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    lines: Mutex<Receiver<String>>,
}

impl Python {
    /// Arguments: `blocking|asyncio ROLE bind|connect ENDPOINT [OPTION=VALUE ...]`; see peer.py.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peer.py");
        let mut child = Command::new("/usr/bin/python3")
            // Where libzmq binds ipc://*; who is killed leaves that behind.
            .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
            .arg("-u")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 starts; ci/install installs it");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| say.send(line)).ok();
        });
        Self { child, lines: Mutex::new(lines) }
    }

    /// Says something to it.
    fn tell(&self) {
        writeln!(&mut self.child.stdin.as_ref().unwrap()).unwrap();
    }

    /// The next line it prints; a bound one prints its endpoint first.
    pub(crate) fn line(&self) -> String {
        self.wait_for_line(PATIENCE).expect("peer.py prints a line")
    }

    fn wait_for_line(&self, timeout: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.lock().unwrap().recv_timeout(timeout)
    }

    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it, and returns the lines it had still printed.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.lines.lock().unwrap().iter().collect()
    }

    /// Waits until it has ended well.
    pub(crate) fn finish(mut self) {
        match self.wait_for_line(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("peer.py did not end: {other:?}"),
        }
        assert!(self.child.wait().unwrap().success(), "peer.py found something wrong");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Must be what peer.py has.
const ROUNDS: u32 = 200;

fn parts(parts: &[&[u8]]) -> Message {
    Message::from_parts(parts.iter().copied()).unwrap()
}

/// The body of round `number`: sizes on both sides of every limit.
fn body(number: u32) -> Frame {
    let sizes = [0usize, 1, 33, 70, 71, 255, 256, 9000, 70_000, 300_000];
    Frame::from(number.to_le_bytes().repeat(sizes[number as usize % sizes.len()].div_ceil(4)))
}

fn numbered(number: u32) -> Message {
    Message::from_parts([Frame::from(&number.to_le_bytes()), body(number), Frame::EMPTY]).unwrap()
}

/// Our half of what peer.py does as `role`.
fn answer(role: &str, socket: &Socket, python: &Python) {
    match role {
        // They ask, or send and expect it back.
        "req" | "dealer" | "pair" => {
            for number in 0..ROUNDS {
                let message = socket.recv().unwrap();
                let id = usize::from(socket.socket_type() == SocketType::Router);
                assert!(message.parts().skip(id).eq(numbered(number).parts()), "{role} {number}");
                socket.send(message).unwrap();
            }
        }
        // They echo.
        "rep" | "router" | "echo-pair" => {
            for number in 0..ROUNDS {
                socket.send(numbered(number)).unwrap();
                assert_eq!(socket.recv().unwrap(), numbered(number), "{role}");
            }
        }
        "push" => (0..ROUNDS).for_each(|number| assert_eq!(socket.recv().unwrap(), numbered(number))),
        "pull" => (0..ROUNDS).for_each(|number| socket.send(numbered(number)).unwrap()),
        "pub" => {
            assert_eq!(socket.recv().unwrap(), parts(&[b"sync"]));
            python.tell();
            let mut message = socket.recv().unwrap();
            while message == parts(&[b"sync"]) {
                message = socket.recv().unwrap();
            }
            for number in 0..ROUNDS {
                assert_eq!(message, parts(&[b"topic", &number.to_le_bytes()]));
                if number + 1 < ROUNDS {
                    message = socket.recv().unwrap();
                }
            }
        }
        "sub" => {
            let start = std::time::Instant::now();
            while python.wait_for_line(Duration::from_millis(5)).as_deref() != Ok("synced") {
                assert!(start.elapsed() < PATIENCE, "their subscription never arrived");
                socket.send("sync").unwrap();
            }
            for number in 0..ROUNDS {
                socket.send(parts(&[b"other", b"noise"])).unwrap();
                socket.send(parts(&[b"topic", &number.to_le_bytes()])).unwrap();
            }
            socket.send(parts(&[b"topic", b"end"])).unwrap();
        }
        _ => unreachable!("{role}"),
    }
}

fn opposite(role: &str) -> SocketType {
    match role {
        "req" => SocketType::Rep,
        "rep" => SocketType::Req,
        "dealer" => SocketType::Router,
        "router" => SocketType::Dealer,
        "pair" | "echo-pair" => SocketType::Pair,
        "push" => SocketType::Pull,
        "pull" => SocketType::Push,
        "pub" => SocketType::Sub,
        "sub" => SocketType::Pub,
        _ => unreachable!("{role}"),
    }
}

const ROLES: [&str; 10] =
    ["req", "rep", "dealer", "router", "pair", "echo-pair", "push", "pull", "pub", "sub"];

fn our_side(context: &Context, role: &str) -> Socket {
    let ours = socket(context, opposite(role));
    if role == "pub" {
        ours.subscribe("topic").unwrap();
        ours.subscribe("sync").unwrap();
    }
    ours
}

fn every_role(mode: &str, wildcard: &str) {
    let context = fabriq::context().unwrap();
    for role in ROLES {
        for they_bind in [true, false] {
            eprintln!("-- {mode} {role} {}", if they_bind { "bind" } else { "connect" });
            let ours = our_side(&context, role);
            let python = if they_bind {
                let python = Python::start(&[mode, role, "bind", wildcard]);
                ours.connect(&python.line()).unwrap();
                python
            } else {
                let endpoint = ours.bind(wildcard).unwrap();
                Python::start(&[mode, role, "connect", endpoint.as_str()])
            };
            answer(role, &ours, &python);
            drop(ours);
            python.finish();
        }
    }
}

fn every_pattern_with_blocking_pyzmq(wildcard: &str) {
    every_role("blocking", wildcard);
}

fn every_pattern_with_asyncio_pyzmq(wildcard: &str) {
    every_role("asyncio", wildcard);
}

/// All patterns at once in one event loop of theirs, and in one context and as many threads of ours.
fn one_event_loop_for_all_patterns(wildcard: &str) {
    let context = fabriq::context().unwrap();
    let ours = ROLES.map(|role| our_side(&context, role));
    let endpoints: Vec<_> = ours.iter().map(|ours| ours.bind(wildcard).unwrap().to_string()).collect();
    let python = Python::start(&["asyncio", &ROLES.join(","), "connect", &endpoints.join(",")]);
    std::thread::scope(|scope| {
        let python = &python;
        for (ours, role) in ours.into_iter().zip(ROLES) {
            scope.spawn(move || answer(role, &ours, python));
        }
    });
    python.finish();
}

over_tcp_and_ipc!(
    every_pattern_with_blocking_pyzmq,
    every_pattern_with_asyncio_pyzmq,
    one_event_loop_for_all_patterns,
);
