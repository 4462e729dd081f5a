//! fork(): every call in the child fails with [`Error::Forked`], nothing hangs or disturbs the parent, and the child may
//! make a context of its own. Tests no library that forks by itself.

mod wire;

use std::cell::RefCell;
use std::io::Write;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Duration;

use fabriq::{Context, Error, Interest, PollItem, Poller, Socket, SocketType};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, waitpid};

use wire::{alone, socket};

/// Runs `child` in a forked process, and fails when it fails or takes ten seconds.
fn in_a_child(child: impl FnOnce()) {
    ends_well(fork(child));
}

/// Runs `child` in a forked process.
fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the child runs only `child` and ends without a return into the test harness. Other threads' locks may be
    // held for ever in it; that the calls under test touch none of those is what is tested.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // The harness would keep what a panic says to itself.
        std::panic::set_hook(Box::new(|panic| drop(writeln!(std::io::stderr(), "in the child: {panic}"))));
        let well = catch_unwind(AssertUnwindSafe(child)).is_ok();
        // SAFETY: ends the process; no destructor of the parent's things runs.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    // What the parent has of the closure is the child's by now.
    std::mem::forget(child);
    Pid::from_raw(pid).expect("fork works")
}

/// Waits for a forked process.
fn ends_well(pid: Pid) {
    let ended = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let fds = &mut [PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
    let in_time = rustix::event::poll(fds, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })) == Ok(1);
    if !in_time {
        kill_process(pid, Signal::KILL).unwrap();
    }
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    assert!(in_time, "the child hangs");
    assert_eq!(status.exit_status(), Some(0), "the child failed");
}

/// A server and a client that are never at rest.
struct Traffic {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u32>>,
}

impl Traffic {
    fn start(context: &Context, endpoint: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (server, client) = (socket(context, SocketType::Rep), socket(context, SocketType::Req));
        client.connect(server.bind(endpoint).unwrap().as_str()).unwrap();
        let serve = move || {
            let mut rounds = 0;
            loop {
                let request = server.recv().unwrap();
                let last = request.body() == "end";
                server.send(request).unwrap();
                if last {
                    return rounds;
                }
                rounds += 1;
            }
        };
        let ask = {
            let over = over.clone();
            move || {
                let mut number = 0u32;
                while !over.load(Relaxed) || number == 0 {
                    client.send(&number.to_le_bytes()).unwrap();
                    assert_eq!(client.recv().unwrap().body(), &number.to_le_bytes());
                    number += 1;
                }
                client.send("end").unwrap();
                client.recv().unwrap();
                number
            }
        };
        Self { over, threads: vec![std::thread::spawn(serve), std::thread::spawn(ask)] }
    }

    /// Nothing was lost, doubled or delayed beyond patience.
    fn end(self) {
        self.over.store(true, Relaxed);
        let rounds: Vec<_> = self.threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert_eq!(rounds[0], rounds[1]);
        assert!(rounds[0] > 0);
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut std::task::Context::from_waker(Waker::noop()))
}

/// Every call of a socket that was made before the fork.
fn every_call_is_refused(socket: &Socket, endpoint: &str) {
    assert!(matches!(socket.loan(1000), Err(Error::Forked)));
    let moment = Duration::from_millis(1);
    assert_eq!(socket.try_recv(), Err(Error::Forked));
    assert_eq!(socket.recv_timeout(moment), Err(Error::Forked));
    assert_eq!(socket.recv(), Err(Error::Forked));
    assert_eq!(socket.try_send("x").unwrap_err().error, Error::Forked);
    assert_eq!(socket.send_timeout("x", moment).unwrap_err().error, Error::Forked);
    let back = socket.send("x").unwrap_err();
    assert_eq!((back.error, back.message.body() == "x"), (Error::Forked, true));
    assert_eq!(socket.bind(endpoint).unwrap_err(), Error::Forked);
    assert_eq!(socket.connect(endpoint).unwrap_err(), Error::Forked);
    assert_eq!(socket.unbind(endpoint).unwrap_err(), Error::Forked);
    assert_eq!(socket.disconnect(endpoint).unwrap_err(), Error::Forked);
    assert_eq!(socket.subscribe("x").unwrap_err(), Error::Forked);
    assert_eq!(socket.unsubscribe("x").unwrap_err(), Error::Forked);
    assert_eq!(socket.set_options(|_| {}).unwrap_err(), Error::Forked);
    assert_eq!(socket.options().unwrap_err(), Error::Forked);
    assert_eq!(socket.monitor().unwrap_err(), Error::Forked);
    socket.stop_monitor();
    for timeout in [Some(Duration::ZERO), Some(moment), None] {
        assert_eq!(fabriq::poll(&mut [PollItem::readable(socket)], timeout), Err(Error::Forked));
    }
    assert_eq!(poll_once(socket.recv_async()), Poll::Ready(Err(Error::Forked)));
    assert!(
        matches!(poll_once(socket.send_async("x")), Poll::Ready(Err(back)) if back.error == Error::Forked)
    );
    assert!(!socket.is_readable() && !socket.is_writable());
    assert!(socket.metadata(b"anybody").is_none());
}

fn refused_in_a_child(endpoint: &str) {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let traffic = Traffic::start(&context, endpoint);
    // Bound, connected, with a message that waits and one that nobody takes.
    let (bound, dialled) = (socket(&context, SocketType::Pair), socket(&context, SocketType::Pair));
    let real = bound.bind(endpoint).unwrap_or_else(|_| bound.bind("inproc://a second one").unwrap());
    dialled.connect(real.as_str()).unwrap();
    dialled.send("waits").unwrap();
    let mut items = [PollItem::readable(&bound)];
    assert_eq!(fabriq::poll(&mut items, Some(wire::PATIENCE)), Ok(1));
    let poller = RefCell::new(Poller::new(&context));
    poller.borrow_mut().add(&bound, 0, Interest::READABLE).unwrap();
    for _ in 0..20 {
        in_a_child(|| {
            let (mut poller, mut ready) = (poller.borrow_mut(), Vec::new());
            for timeout in [Some(Duration::ZERO), Some(Duration::from_millis(1)), None] {
                assert_eq!(poller.wait(&mut ready, timeout), Err(Error::Forked));
            }
            assert_eq!(poll_once(poller.wait_async(&mut ready)), Poll::Ready(Err(Error::Forked)));
            assert_eq!(poller.remove(&bound), Err(Error::Forked));
            every_call_is_refused(&bound, real.as_str());
            every_call_is_refused(&dialled, real.as_str());
            assert!(matches!(context.socket(SocketType::Pair), Err(Error::Forked)));
        });
    }
    assert_eq!(bound.recv().unwrap().body(), "waits");
    bound.send("back").unwrap();
    assert_eq!(dialled.recv().unwrap().body(), "back");
    traffic.end();
}

#[test]
fn calls_are_refused_over_inproc() {
    refused_in_a_child("inproc://traffic");
}

#[test]
fn calls_are_refused_over_tcp() {
    refused_in_a_child("tcp://127.0.0.1:*");
}

/// What the child drops was the parent's: no linger, no close, no wait.
fn drops_disturb_nobody(endpoint: &str) {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let traffic = Traffic::start(&context, endpoint);
    for _ in 0..10 {
        let mut listener = String::new();
        let sockets: Vec<_> = ["inproc://dropped", endpoint]
            .into_iter()
            .flat_map(|endpoint| {
                let (bound, dialled) =
                    (socket(&context, SocketType::Pair), socket(&context, SocketType::Pair));
                listener = bound.bind(endpoint).unwrap().to_string();
                dialled.connect(&listener).unwrap();
                dialled.send("for the parent").unwrap();
                [bound, dialled]
            })
            .collect();
        let monitor = sockets[2].monitor().unwrap();
        // The child's copies of the very same things.
        let sockets_too = std::mem::ManuallyDrop::new(sockets);
        let context_too = std::mem::ManuallyDrop::new(context.clone());
        in_a_child(|| {
            // SAFETY: the parent's copies are beyond this process's reach, and this one is used no more.
            let (sockets, context) =
                unsafe { (std::ptr::read(&*sockets_too), std::ptr::read(&*context_too)) };
            drop(sockets);
            context.shutdown();
            assert!(context.wait_until_sent(None), "nothing of a child's is left to send");
            drop(context);
        });
        drop(std::mem::ManuallyDrop::into_inner(context_too));
        let sockets = std::mem::ManuallyDrop::into_inner(sockets_too);
        assert_eq!(sockets[0].recv().unwrap().body(), "for the parent");
        assert_eq!(sockets[2].recv().unwrap().body(), "for the parent");
        sockets[2].send("still up").unwrap();
        assert_eq!(sockets[3].recv().unwrap().body(), "still up");
        if let Some(path) = listener.strip_prefix("ipc://") {
            assert!(std::path::Path::new(path).exists(), "the child has removed {path}");
        }
        let gone = |kind: &fabriq::EventKind| matches!(kind, fabriq::EventKind::Disconnected(..));
        assert!(!wire::events_now(&monitor).iter().any(gone));
    }
    traffic.end();
}

#[test]
fn drops_disturb_nobody_over_tcp() {
    drops_disturb_nobody("tcp://127.0.0.1:*");
}

/// The file of a listener, too, is the parent's.
#[test]
fn drops_disturb_nobody_over_ipc() {
    drops_disturb_nobody("ipc://*");
}

/// A child that makes its own context talks as anybody does, also to its parent.
fn a_child_with_its_own_context(wildcard: &str) {
    let _alone = alone();
    let context = fabriq::context().unwrap();
    let pull = socket(&context, SocketType::Pull);
    let endpoint = pull.bind(wildcard).unwrap();
    in_a_child(|| {
        let context = fabriq::context().unwrap();
        for endpoint in ["inproc://of the child", wildcard] {
            let traffic = Traffic::start(&context, endpoint);
            std::thread::sleep(Duration::from_millis(10));
            traffic.end();
        }
        let push = socket(&context, SocketType::Push);
        push.connect(endpoint.as_str()).unwrap();
        push.send("hello, parent").unwrap();
        // A grandchild finds the child's context forked, too.
        in_a_child(|| every_call_is_refused(&push, endpoint.as_str()));
        push.send("good-bye").unwrap();
        drop(push);
        drop(context);
    });
    assert_eq!(pull.recv().unwrap().body(), "hello, parent");
    assert_eq!(pull.recv().unwrap().body(), "good-bye");
}

#[test]
fn a_child_with_its_own_context_over_tcp() {
    a_child_with_its_own_context("tcp://127.0.0.1:*");
}

#[test]
fn a_child_with_its_own_context_over_ipc() {
    a_child_with_its_own_context("ipc://*");
}

/// The same over an RDMA device, whose memory, queues and descriptors a child has copies of.
#[cfg(feature = "device")]
mod verbs {
    use super::*;

    fn endpoint() -> String {
        let verbs = fabriq::transports().into_iter().find(|known| known.schemes() == ["verbs"]).unwrap();
        verbs.local("verbs").expect("an RDMA device with an IPv4 address; these tests need one").to_string()
    }

    #[test]
    fn calls_are_refused() {
        refused_in_a_child(&endpoint());
    }

    #[test]
    fn drops_disturb_nobody() {
        super::drops_disturb_nobody(&endpoint());
    }

    #[test]
    fn a_child_with_its_own_context() {
        super::a_child_with_its_own_context(&endpoint());
    }

    /// Pages that a device reads and writes stay the parent's, though a child lives that shares them otherwise: were they
    /// copied on the parent's next write, the device would go on with the old ones.
    #[test]
    fn a_living_child_takes_no_page_from_the_device() {
        const LEN: usize = 1 << 20;
        let _alone = alone();
        let context = fabriq::context().unwrap();
        let (pull, push) = (socket(&context, SocketType::Pull), socket(&context, SocketType::Push));
        push.connect(pull.bind(&endpoint()).unwrap().as_str()).unwrap();
        let transfer = |round: u8| {
            // Small ones through packet buffers, large ones from slot to slot.
            for len in [1000, LEN] {
                let mut loan = push.loan(len).unwrap();
                loan.fill(round);
                push.send(loan).unwrap();
                let message = pull.recv().unwrap();
                assert_eq!(message.body().len(), len);
                assert!(message.body().iter().all(|byte| *byte == round), "{len} bytes of round {round}");
            }
        };
        transfer(0);
        let (over, tell) = std::io::pipe().unwrap();
        let child = fork(|| {
            let fds = &mut [PollFd::from_borrowed_fd(over.as_fd(), PollFlags::IN)];
            let patience = Timespec { tv_sec: wire::PATIENCE.as_secs() as i64, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(fds, Some(&patience)), Ok(1));
        });
        (1..20).for_each(transfer);
        (&tell).write_all(b".").unwrap();
        ends_well(child);
        transfer(20);
    }
}
