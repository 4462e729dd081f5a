//! PUB and SUB of the two libraries: what goes upstream, what comes down, and what a reconnect says again. Tests no
//! matching at scale.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use fabriq::SocketType;

use crate::party::{Party, Side, World, body, connected, mixed, open, over_tcp_and_ipc};

/// Publishes until the subscriber hears it, since a subscription takes a moment, and reads what came of it.
fn sync(publisher: &Party, subscriber: &Party, topic: &[u8]) {
    subscriber.set_timeouts(Duration::from_millis(10));
    let heard = (0..1000).any(|_| {
        publisher.send(&[topic, b"sync"]);
        subscriber.try_recv().is_some()
    });
    assert!(heard, "the subscription never arrived");
    publisher.send(&[topic, b"synced"]);
    subscriber.set_timeouts(crate::wire::PATIENCE);
    while subscriber.recv()[1] != b"synced" {}
}

fn topics_are_filtered_and_given_up(wildcard: &str) {
    connected(wildcard, SocketType::Pub, SocketType::Sub, |publisher, subscriber| {
        subscriber.subscribe(b"weather.");
        subscriber.subscribe(b"sport.");
        sync(&publisher, &subscriber, b"weather.");
        sync(&publisher, &subscriber, b"sport.");
        for _ in 0..50 {
            publisher.send(&["weather.berlin", "rain"]);
            publisher.send(&["weather", "too short"]);
            publisher.send(&["stocks.x", "down"]);
            publisher.send(&["sport.", "exactly"]);
            publisher.send(&[""]);
        }
        for _ in 0..50 {
            subscriber.expect(&["weather.berlin", "rain"]);
            subscriber.expect(&["sport.", "exactly"]);
        }
        subscriber.unsubscribe(b"weather.");
        publisher.send(&["weather.late"]);
        publisher.send(&["sport.end"]);
        subscriber.expect(&["sport.end"]);
    });
}

fn topics_are_bytes(wildcard: &str) {
    let long = body(300, 0);
    let longer = body(5000, 1);
    let topics = [&b"\x00"[..], b"\x00\x00\x01", b"\x01", b"\xff\xfe", &long, &longer];
    connected(wildcard, SocketType::Pub, SocketType::Sub, |publisher, subscriber| {
        topics.iter().for_each(|topic| subscriber.subscribe(topic));
        topics.iter().for_each(|topic| sync(&publisher, &subscriber, topic));
        for topic in topics {
            publisher.send(&[topic, b"exact"]);
            publisher.send(&[&[topic, b"!"].concat()[..], b"longer"]);
            publisher.send(&["none of them"]);
        }
        for topic in topics {
            subscriber.expect(&[topic, b"exact"]);
            subscriber.expect(&[&[topic, b"!"].concat()[..], b"longer"]);
        }
    });
}

fn the_empty_topic_is_everything(wildcard: &str) {
    connected(wildcard, SocketType::Pub, SocketType::Sub, |publisher, subscriber| {
        subscriber.subscribe(b"");
        sync(&publisher, &subscriber, b"anything");
        // Overlapping subscriptions do not double.
        subscriber.subscribe(b"a");
        sync(&publisher, &subscriber, b"a");
        publisher.send(&[""]);
        publisher.send(&["", "b"]);
        publisher.send(&["abc"]);
        subscriber.expect(&[""]);
        subscriber.expect(&["", "b"]);
        subscriber.expect(&["abc"]);
        subscriber.unsubscribe(b"");
        publisher.send(&["b"]);
        publisher.send(&["a still"]);
        subscriber.expect(&["a still"]);
    });
}

/// What our SUB says upstream, as their XPUB hears it.
fn subscriptions_go_upstream_once(wildcard: &str) {
    for we_bind in [true, false] {
        let world = World::new();
        let (ours, xpub) =
            (world.party(Side::Ours, SocketType::Sub), world.party(Side::Theirs, SocketType::Xpub));
        ours.subscribe(b"before");
        open(wildcard, &ours, &xpub, we_bind);
        xpub.expect(&[b"\x01before"]);
        ours.subscribe(b"twice");
        ours.subscribe(b"twice");
        ours.subscribe(b"");
        ours.unsubscribe(b"twice");
        ours.unsubscribe(b"before");
        ours.unsubscribe(b"twice");
        let long = body(1000, 3);
        ours.subscribe(&long);
        xpub.expect(&[b"\x01twice"]);
        xpub.expect(&[b"\x01"]);
        xpub.expect(&[b"\x00before"]);
        xpub.expect(&[b"\x00twice"]);
        xpub.expect(&[&[b"\x01", &long[..]].concat()]);
        xpub.send(&["news"]);
        ours.expect(&["news"]);
        if we_bind {
            // A dialled pipe outlives its connection, and so do the subscriptions in it.
            continue;
        }
        drop(ours);
        let mut ended = [xpub.recv().remove(0), xpub.recv().remove(0)];
        ended.sort();
        assert_eq!(ended, [b"\x00".to_vec(), [b"\x00", &long[..]].concat()]);
    }
}

/// Their XSUB says whatever it is told to; our PUB makes sense of it.
fn their_xsub_subscribes_by_message(wildcard: &str) {
    let world = World::new();
    let (ours, xsub) =
        (world.party(Side::Ours, SocketType::Pub), world.party(Side::Theirs, SocketType::Xsub));
    xsub.connect(&ours.bind(wildcard));
    xsub.send(&[b"\x01a"]);
    xsub.send(&[b"\x02a message of its own that a PUB does not hear"]);
    xsub.send(&[b"\x01b"]);
    sync(&ours, &xsub, b"b");
    sync(&ours, &xsub, b"a");
    xsub.send(&[b"\x00a"]);
    xsub.send(&[b"\x01c"]);
    sync(&ours, &xsub, b"c");
    ours.send(&["a"]);
    ours.send(&["b"]);
    xsub.expect(&["b"]);
}

/// The publisher goes and comes back at the same address: the subscriber says again what it still wants, and no more.
fn a_reconnect_replays_subscriptions(wildcard: &str) {
    let world = World::new();
    let ours = world.party(Side::Ours, SocketType::Sub);
    let xpub = world.party(Side::Theirs, SocketType::Xpub);
    let endpoint = open(&lasting(wildcard), &xpub, &ours, true);
    for topic in [b"a", b"b", b"c"] {
        ours.subscribe(topic);
        xpub.expect(&[[1, topic[0]]]);
    }
    ours.unsubscribe(b"b");
    xpub.expect(&[b"\x00b"]);
    drop(xpub);
    // What is said while nobody listens counts as well.
    ours.subscribe(b"d");
    ours.unsubscribe(b"a");
    for _ in 0..3 {
        let xpub = rebind(&world, Side::Theirs, SocketType::Xpub, &endpoint);
        let mut topics = [xpub.recv().remove(0), xpub.recv().remove(0)];
        topics.sort();
        assert_eq!(topics, [b"\x01c", b"\x01d"]);
        xpub.send(&["a no"]);
        xpub.send(&["c yes"]);
        xpub.send(&["d yes"]);
        ours.expect(&["c yes"]);
        ours.expect(&["d yes"]);
        xpub.set_timeouts(Duration::from_millis(20));
        assert_eq!(xpub.try_recv(), None, "it said more than that");
    }
}

/// An endpoint to bind where others will bind later. Behind a wildcard, libzmq removes the file when it comes to close the
/// socket, whoever has bound the path by then; behind a path of the user's it leaves the file.
fn lasting(wildcard: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Relaxed));
    wildcard.replace("ipc://*", &format!("ipc://{}/lasting-{process}-{number}", env!("CARGO_TARGET_TMPDIR")))
}

/// A socket bound where another of either library was until a moment ago: libzmq closes in the background.
fn rebind(world: &World, side: Side, kind: SocketType, endpoint: &str) -> Party {
    match side {
        Side::Ours => {
            let socket = world.ours(kind);
            socket.bind(endpoint).unwrap();
            Party::Ours(socket)
        }
        Side::Theirs => {
            let socket = world.theirs(kind);
            let start = std::time::Instant::now();
            while let Err(error) = socket.try_bind(endpoint) {
                assert!(start.elapsed() < crate::wire::PATIENCE, "{endpoint}: {error:?}");
                std::thread::yield_now();
            }
            Party::Theirs(socket)
        }
    }
}

/// The same between any two: traffic flows again after each restart of the publisher.
fn subscribers_find_a_restarted_publisher(wildcard: &str) {
    for (publishes, subscribes) in [(Side::Ours, Side::Theirs), (Side::Theirs, Side::Ours)] {
        let world = World::new();
        let subscriber = world.party(subscribes, SocketType::Sub);
        subscriber.subscribe(b"news");
        let mut publisher = world.party(publishes, SocketType::Pub);
        let endpoint = open(&lasting(wildcard), &publisher, &subscriber, true);
        for _ in 0..3 {
            sync(&publisher, &subscriber, b"news");
            publisher.send(&["other"]);
            publisher.send(&["news", "of the day"]);
            subscriber.expect(&["news", "of the day"]);
            drop(publisher);
            publisher = rebind(&world, publishes, SocketType::Pub, &endpoint);
        }
    }
}

/// A subscriber that does not read loses messages, costs the publisher no wait, and never sees them out of order.
fn a_slow_subscriber_stops_nobody(wildcard: &str) {
    const COUNT: u32 = 3000;
    mixed(SocketType::Pub, SocketType::Sub, |publisher, slow| {
        publisher.set_marks(10);
        slow.set_marks(10);
        publisher.set_buffers(64 << 10);
        slow.set_buffers(64 << 10);
        slow.subscribe(b"");
        open(wildcard, &publisher, &slow, true);
        sync(&publisher, &slow, b"");
        let padding = body(10_000, 0);
        for number in 0..COUNT {
            publisher.send(&[&number.to_le_bytes()[..], &padding]);
        }
        let mut last = None;
        slow.set_timeouts(Duration::from_millis(500));
        let mut seen = 0;
        while let Some(message) = slow.try_recv() {
            assert_eq!((message.len(), message[1].len()), (2, padding.len()));
            let number = u32::from_le_bytes(message[0][..].try_into().unwrap());
            assert!(last.is_none_or(|last| last < number), "{last:?} before {number}");
            (last, seen) = (Some(number), seen + 1);
        }
        assert!((1..COUNT).contains(&seen), "{seen} of {COUNT} arrived");
        slow.set_timeouts(crate::wire::PATIENCE);
        publisher.send(&["flows", "again"]);
        slow.expect(&["flows", "again"]);
    });
}

/// The same the other way round: our XPUB hears their subscribers, their XPUB ours, and messages go upstream.
fn xpub_and_xsub_on_either_side(wildcard: &str) {
    for ours_publishes in [true, false] {
        let world = World::new();
        let (up, down) = if ours_publishes { (Side::Ours, Side::Theirs) } else { (Side::Theirs, Side::Ours) };
        let (xpub, xsub, sub) = (
            world.party(up, SocketType::Xpub),
            world.party(down, SocketType::Xsub),
            world.party(down, SocketType::Sub),
        );
        let endpoint = xpub.bind(wildcard);
        xsub.connect(&endpoint);
        xsub.send(&[b"\x01a"]);
        xpub.expect(&[b"\x01a"]);
        sub.connect(&endpoint);
        sub.subscribe(b"b");
        xpub.expect(&[b"\x01b"]);
        xsub.send(&["of its own"]);
        xpub.expect(&["of its own"]);
        xpub.send(&["a", "1"]);
        xpub.send(&["b", "2"]);
        xsub.expect(&["a", "1"]);
        sub.expect(&["b", "2"]);
        xsub.send(&[b"\x00a"]);
        xpub.expect(&[b"\x00a"]);
        drop(sub);
        xpub.expect(&[b"\x00b"]);
    }
}

over_tcp_and_ipc!(
    topics_are_filtered_and_given_up,
    topics_are_bytes,
    the_empty_topic_is_everything,
    subscriptions_go_upstream_once,
    their_xsub_subscribes_by_message,
    a_reconnect_replays_subscriptions,
    subscribers_find_a_restarted_publisher,
    a_slow_subscriber_stops_nobody,
    xpub_and_xsub_on_either_side,
);
