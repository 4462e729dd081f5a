//! Patterns over a wire that goes one way, epgm:// on the loopback interface: what runs unchanged, what is refused, and that nothing
//! is left of what has no way to go. Lost packets are ci/multicast's.

use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use fabriq::{Context, Error, EventKind, OpenError, Socket, SocketType};

const PATIENCE: Duration = Duration::from_secs(20);

/// A group that no other test has, nor another process.
fn url() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [.., a, b] = std::process::id().to_be_bytes();
    format!("epgm://lo;239.193.{a}.{b}:{}", 8000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

fn open(context: &Context, kind: SocketType, url: &str) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket.connect(url).unwrap();
    socket
}

/// A publisher of a kind and a subscriber of a kind that has heard of it. The subscriber takes what begins with `topic`.
fn pair(context: &Context, publisher: SocketType, subscriber: SocketType, topic: &str) -> (Socket, Socket) {
    pair_of((context, context), publisher, subscriber, topic)
}

fn pair_of(
    (context, subscribers): (&Context, &Context),
    publisher: SocketType,
    subscriber: SocketType,
    topic: &str,
) -> (Socket, Socket) {
    let url = url();
    let there = subscribers.socket(subscriber).unwrap();
    let monitor = there.monitor().unwrap();
    if subscriber == SocketType::Sub {
        there.subscribe(topic).unwrap();
    } else {
        there.send(format!("\u{1}{topic}")).unwrap();
    }
    there.connect(&url).unwrap();
    let here = open(context, publisher, &url);
    while monitor.next_timeout(PATIENCE).expect("the publisher is heard").kind
        != EventKind::HandshakeSucceeded
    {}
    (here, there)
}

#[test]
fn every_kind_of_publisher_reaches_every_kind_of_subscriber() {
    let context = fabriq::context().unwrap();
    for publisher in [SocketType::Pub, SocketType::Xpub] {
        for subscriber in [SocketType::Sub, SocketType::Xsub] {
            let (here, there) = pair(&context, publisher, subscriber, "a");
            for body in ["a1", "b1", "a2", "b2", "a3"] {
                here.send(body).unwrap();
            }
            // A publisher without a way back sends everything; a SUB chooses, an XSUB takes what comes, as libzmq's do.
            let all: &[&str] = match subscriber {
                SocketType::Sub => &["a1", "a2", "a3"],
                _ => &["a1", "b1", "a2", "b2", "a3"],
            };
            for want in all {
                let message = there.recv_timeout(PATIENCE).unwrap();
                assert_eq!((message.body(), message.gap_before()), (&(*want).into(), false));
            }
            // A subscription and its end need no publisher that hears of them.
            if subscriber == SocketType::Sub {
                there.subscribe("b").unwrap();
                there.unsubscribe("a").unwrap();
                for body in ["a4", "b4"] {
                    here.send(body).unwrap();
                }
                assert_eq!(there.recv_timeout(PATIENCE).unwrap().body(), "b4");
            }
        }
    }
}

#[test]
fn parts_of_a_message_stay_together() {
    let context = fabriq::context().unwrap();
    let (here, there) = pair(&context, SocketType::Pub, SocketType::Sub, "");
    for number in 0..100u32 {
        let parts = vec![vec![number as u8; number as usize * 100]; 1 + number as usize % 5];
        here.send(fabriq::Message::from_parts(parts).unwrap()).unwrap();
    }
    for number in 0..100u32 {
        let message = there.recv_timeout(PATIENCE).unwrap();
        assert_eq!(message.len(), 1 + number as usize % 5);
        assert!(message.parts().all(|part| part[..] == vec![number as u8; number as usize * 100]));
    }
}

#[test]
fn what_goes_both_ways_is_refused_before_anything_exists() {
    let context = fabriq::context().unwrap();
    let one_way = [SocketType::Pub, SocketType::Sub, SocketType::Xpub, SocketType::Xsub];
    for kind in SocketType::ALL.into_iter().filter(|kind| !one_way.contains(kind)) {
        let socket = context.socket(kind).unwrap();
        // An interface that is not there: whoever looked for it would say so.
        for url in ["epgm://nosuch0;239.192.1.1:5555", "pgm://nosuch0;239.192.1.1:5555"] {
            for refused in [socket.bind(url).map(drop), socket.connect(url)] {
                let Err(Error::Open(error)) = refused else { panic!("{kind} on {url}: {refused:?}") };
                assert!(matches!(*error, OpenError::Incompatible { .. }), "{kind} on {url}: {error}");
                assert!(error.to_string().contains("PUB and SUB"), "{error}");
            }
        }
    }
}

#[test]
fn nothing_is_left_of_subscriptions_and_messages_that_have_no_way_to_go() {
    let (context, subscribers) = (fabriq::context().unwrap(), fabriq::context().unwrap());
    for subscriber in [SocketType::Sub, SocketType::Xsub] {
        let (here, there) = pair_of((&context, &subscribers), SocketType::Pub, subscriber, "a");
        there.set_options(|options| options.linger = None).unwrap();
        for number in 0..10_000 {
            let topic = number.to_string();
            if subscriber == SocketType::Sub {
                there.subscribe(&topic).unwrap();
                there.unsubscribe(&topic).unwrap();
            } else {
                there.send(format!("\u{2}{topic}")).unwrap();
            }
        }
        here.send("a").unwrap();
        assert_eq!(there.recv_timeout(PATIENCE).unwrap().body(), "a");
        // The publisher stays.
        drop(there);
        assert!(subscribers.wait_until_sent(Some(PATIENCE)), "a {subscriber} lingers for what nobody hears");
    }
}
