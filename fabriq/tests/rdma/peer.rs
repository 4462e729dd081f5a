//! A peer in a process of its own, which can be stopped and killed: this test program, run again. Judges nothing but
//! what it receives.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use fabriq::{Error, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use super::parcel::{pack, unpack};
use super::{PATIENCE, socket};

const PEER: &str = "FABRIQ_TEST_PEER";

/// What this process hears of the peer's lines begins so; the test harness in there has some of its own.
const SAID: &str = "the peer: ";

/// The other process. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    lines: Receiver<String>,
}

impl Peer {
    /// One that binds `url`, takes parcels and tells their numbers.
    pub(crate) fn taker(url: &str) -> Self {
        Self::start(&format!("take {url}"))
    }

    /// One that connects to `url`, and sends a large parcel for each message it gets.
    pub(crate) fn giver(url: &str) -> Self {
        Self::start(&format!("give {url}"))
    }

    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "peer::the_other_process", "--nocapture"])
            .env(PEER, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAID)
                    && say.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// What it says next.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the peer lives, and says something")
    }

    /// Its process runs no further; the kernel goes on for it.
    pub(crate) fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }

    pub(crate) fn proceed(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
    }

    /// kill -9. Says which number it had.
    pub(crate) fn kill(&mut self) -> u32 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process. Does nothing by itself.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(PEER) else { return };
    let (role, url) = role.split_once(' ').unwrap();
    let say = |what: &str| {
        println!("{SAID}{what}");
        std::io::stdout().flush().unwrap();
    };
    let context = fabriq::context().unwrap();
    let dealer = socket(&context, SocketType::Dealer);
    if role == "take" {
        say(dealer.bind(url).unwrap().as_str());
        // Ends when killed, or when nothing comes for as long as the socket waits.
        loop {
            match dealer.recv() {
                Ok(message) => say(&unpack(&message).to_string()),
                // It was stopped, and goes on.
                Err(Error::Interrupted) => {}
                Err(_) => return,
            }
        }
    } else {
        dealer.connect(url).unwrap();
        let mut number = 0;
        while dealer.recv().is_ok() {
            dealer.send(pack(&context, number)).unwrap();
            number += 1;
        }
    }
}
