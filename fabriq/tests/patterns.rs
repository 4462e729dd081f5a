//! Every pattern over every transport of this build, through the public API. Tests behaviour, not speed.

use std::time::Duration;

use fabriq::{Context, Error, Frame, Message, Options, Socket, SocketType};

/// Longer than anything here takes; a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket
        .set_options(|options| {
            options.send_timeout = Some(PATIENCE);
            options.receive_timeout = Some(PATIENCE);
            options.linger = Some(Duration::from_secs(5));
        })
        .unwrap();
    socket
}

fn message(parts: &[&str]) -> Message {
    Message::from_parts(parts.iter().copied()).unwrap()
}

/// A bound and a connected socket. `endpoint` may hold `{}`, which becomes unlike in every test.
fn pair(context: &Context, endpoint: &str, bound: SocketType, connected: SocketType) -> (Socket, Socket) {
    let (bound, connected) = (socket(context, bound), socket(context, connected));
    let endpoint = bound.bind(endpoint).unwrap();
    connected.connect(endpoint.as_str()).unwrap();
    (bound, connected)
}

fn request_and_reply(context: &Context, endpoint: &str) {
    let (server, client) = pair(context, endpoint, SocketType::Rep, SocketType::Req);
    assert!(matches!(server.send("too early").unwrap_err().error, Error::OutOfTurn));
    for round in 0..100 {
        client.send(format!("request {round}")).unwrap();
        assert!(matches!(client.send("again").unwrap_err().error, Error::OutOfTurn));
        assert_eq!(server.recv().unwrap().body(), format!("request {round}").as_str());
        server.send(message(&["reply", "in parts"])).unwrap();
        assert_eq!(client.recv().unwrap(), message(&["reply", "in parts"]));
    }
}

fn push_and_pull(context: &Context, endpoint: &str) {
    let (pull, push) = pair(context, endpoint, SocketType::Pull, SocketType::Push);
    let sender = std::thread::spawn(move || {
        for number in 0..20_000u32 {
            push.send(&number.to_le_bytes()).unwrap();
        }
    });
    for number in 0..20_000u32 {
        assert_eq!(pull.recv().unwrap().body(), &number.to_le_bytes());
    }
    sender.join().unwrap();
    assert!(matches!(pull.send("x").unwrap_err().error, Error::NotSupported(..)));
    assert!(matches!(pull.try_recv(), Err(Error::Again)));
}

fn pushes_are_balanced_and_pulls_are_fair(context: &Context, endpoint: &str) {
    let push = socket(context, SocketType::Push);
    let endpoint = push.bind(endpoint).unwrap();
    let pulls: Vec<_> = (0..3)
        .map(|_| {
            let pull = socket(context, SocketType::Pull);
            pull.connect(endpoint.as_str()).unwrap();
            pull
        })
        .collect();
    // A peer that is not up yet gets nothing, so wait until each has had something.
    let mut seen = [0; 3];
    while seen.contains(&0) {
        push.send("warm up").unwrap();
        let mut items: Vec<_> = pulls.iter().map(fabriq::PollItem::readable).collect();
        assert!(fabriq::poll(&mut items, Some(PATIENCE)).unwrap() > 0);
        for (at, item) in items.iter().enumerate() {
            if item.ready.readable {
                item.socket.recv().unwrap();
                seen[at] += 1;
            }
        }
    }
    for _ in 0..300 {
        push.send("work").unwrap();
    }
    for pull in &pulls {
        for _ in 0..100 {
            assert_eq!(pull.recv().unwrap().body(), "work");
        }
    }
}

fn publish_and_subscribe(context: &Context, endpoint: &str) {
    let publisher = socket(context, SocketType::Pub);
    let subscriber = socket(context, SocketType::Sub);
    let endpoint = publisher.bind(endpoint).unwrap();
    subscriber.connect(endpoint.as_str()).unwrap();
    subscriber.subscribe("weather.").unwrap();
    subscriber.subscribe("sport.").unwrap();
    sync(&publisher, &subscriber, "weather.sync");
    for _ in 0..10 {
        publisher.send(message(&["weather.berlin", "rain"])).unwrap();
        publisher.send(message(&["stocks.x", "down"])).unwrap();
        publisher.send(message(&["sport.chess", "draw"])).unwrap();
    }
    for _ in 0..10 {
        assert_eq!(subscriber.recv().unwrap(), message(&["weather.berlin", "rain"]));
        assert_eq!(subscriber.recv().unwrap(), message(&["sport.chess", "draw"]));
    }
    subscriber.unsubscribe("weather.").unwrap();
    assert!(subscriber.unsubscribe("weather.").is_err());
    publisher.send("weather.late").unwrap();
    publisher.send("sport.end").unwrap();
    assert_eq!(subscriber.recv().unwrap().body(), "sport.end");
}

/// Publishes until the subscriber hears it: a subscription takes a moment to reach its publisher.
fn sync(publisher: &Socket, subscriber: &Socket, topic: &str) {
    for _ in 0..10_000 {
        publisher.send(topic).unwrap();
        if subscriber.recv_timeout(Duration::from_millis(10)).is_ok() {
            while subscriber.recv_timeout(Duration::from_millis(20)).is_ok() {}
            return;
        }
    }
    panic!("the subscription never arrived");
}

/// Subscriptions go up through an XSUB and an XPUB, messages come down, and so do what subscribers say.
fn a_forwarder_between_publishers_and_subscribers(context: &Context, endpoint: &str) {
    let (xsub, publisher) = pair(context, endpoint, SocketType::Xsub, SocketType::Xpub);
    let (xpub, subscriber) =
        pair(context, &endpoint.replace("inproc://", "inproc://below-"), SocketType::Xpub, SocketType::Sub);
    subscriber.subscribe("a").unwrap();
    let up = xpub.recv().unwrap();
    assert_eq!(up.body(), "\u{1}a");
    xsub.send(up).unwrap();
    assert_eq!(publisher.recv().unwrap().body(), "\u{1}a");
    publisher.send("b, which nobody wants").unwrap();
    publisher.send(message(&["a", "in parts"])).unwrap();
    let down = xsub.recv().unwrap();
    assert_eq!(down, message(&["a", "in parts"]));
    xpub.send(down).unwrap();
    assert_eq!(subscriber.recv().unwrap(), message(&["a", "in parts"]));
    xsub.send("a message of its own").unwrap();
    assert_eq!(publisher.recv().unwrap().body(), "a message of its own");
    drop(subscriber);
    xsub.send(xpub.recv().unwrap()).unwrap();
    assert_eq!(publisher.recv().unwrap().body(), "\0a");
}

fn dealer_and_router(context: &Context, endpoint: &str) {
    let router = socket(context, SocketType::Router);
    router.set_options(|options| options.router_mandatory = true).unwrap();
    let endpoint = router.bind(endpoint).unwrap();
    let dealers: Vec<_> = ["anna", "bert"]
        .iter()
        .map(|name| {
            let dealer = socket(context, SocketType::Dealer);
            dealer.set_options(|options| options.routing_id = Frame::from(*name)).unwrap();
            dealer.connect(endpoint.as_str()).unwrap();
            dealer.send(message(&["", "hello from", name])).unwrap();
            dealer
        })
        .collect();
    for _ in 0..2 {
        let mut hello = router.recv().unwrap();
        let id = hello.pop_front().unwrap();
        assert_eq!(hello.body(), &id);
        hello.push_front(id);
        router.send(hello).unwrap();
    }
    for (dealer, name) in dealers.iter().zip(["anna", "bert"]) {
        assert_eq!(dealer.recv().unwrap(), message(&["", "hello from", name]));
    }
    let nobody = router.send(message(&["carl", "x"])).unwrap_err();
    assert_eq!(nobody.error, Error::Unroutable);
    assert_eq!(*nobody.message, message(&["carl", "x"]));
}

fn exclusive_pair(context: &Context, endpoint: &str) {
    let (a, b) = pair(context, endpoint, SocketType::Pair, SocketType::Pair);
    for _ in 0..10 {
        a.send("to b").unwrap();
        b.send("to a").unwrap();
        assert_eq!(a.recv().unwrap().body(), "to a");
        assert_eq!(b.recv().unwrap().body(), "to b");
    }
}

fn sizes_from_nothing_to_64_mib(context: &Context, endpoint: &str) {
    let (a, b) = pair(context, endpoint, SocketType::Pair, SocketType::Pair);
    for size in [0, 1, 70, 71, 255, 256, 8191, 8192, 65_536, 1 << 20, (4 << 20) + 1, 64 << 20] {
        let body: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251) as u8).collect();
        let parts = [Frame::from("head"), Frame::from(body.clone()), Frame::EMPTY];
        a.send(Message::from_parts(parts).unwrap()).unwrap();
        let got = b.recv().unwrap();
        assert_eq!(got.len(), 3);
        assert!(got.part(1).unwrap() == body.as_slice(), "{size} bytes differ");
    }
}

fn high_water_mark_blocks_and_releases(context: &Context, endpoint: &str) {
    let push = socket(context, SocketType::Push);
    let pull = socket(context, SocketType::Pull);
    let small = |options: &mut Options| (options.send_hwm, options.receive_hwm) = (10, 10);
    push.set_options(small).unwrap();
    pull.set_options(small).unwrap();
    let endpoint = pull.bind(endpoint).unwrap();
    push.connect(endpoint.as_str()).unwrap();
    // The link is up, however long that took.
    push.send("first").unwrap();
    assert_eq!(pull.recv().unwrap().body(), "first");
    let mut sent = 0u32;
    let body = vec![0u8; 100_000];
    while push.send_timeout(body.clone(), Duration::from_millis(200)).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "nothing ever pushed back");
    }
    // As in libzmq, what was received makes room in steps of half the mark, and the first is no step.
    assert!(sent >= 20 - 1, "{sent}");
    for _ in 0..sent {
        pull.recv().unwrap();
    }
    push.send("flows again").unwrap();
    assert_eq!(pull.recv().unwrap().body(), "flows again");
}

fn connect_before_bind(context: &Context, endpoint: &str) {
    // Find an endpoint, give it up, and use it the other way round.
    let finder = socket(context, SocketType::Pull);
    let endpoint = finder.bind(endpoint).unwrap();
    drop(finder);
    let push = socket(context, SocketType::Push);
    push.set_options(|options| options.reconnect_interval = Some(Duration::from_millis(5))).unwrap();
    push.connect(endpoint.as_str()).unwrap();
    push.send("queued").unwrap();
    let pull = socket(context, SocketType::Pull);
    let bound = (0..1000).find_map(|_| pull.bind(endpoint.as_str()).ok());
    assert!(bound.is_some());
    assert_eq!(pull.recv().unwrap().body(), "queued");
}

fn a_closed_socket_still_delivers(context: &Context, endpoint: &str) {
    let (pull, push) = pair(context, endpoint, SocketType::Pull, SocketType::Push);
    for _ in 0..500 {
        push.send(vec![1u8; 10_000]).unwrap();
    }
    drop(push);
    for _ in 0..500 {
        assert_eq!(pull.recv().unwrap().body().len(), 10_000);
    }
}

fn termination_wakes_everyone(context: &Context, endpoint: &str) {
    let pull = socket(context, SocketType::Pull);
    pull.bind(endpoint).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pull.recv());
        while !waiting.is_finished() {
            context.shutdown();
            std::thread::yield_now();
        }
        assert_eq!(waiting.join().unwrap().unwrap_err(), Error::Terminated);
    });
}

fn futures_and_blocking_calls_mix(context: &Context, endpoint: &str) {
    let (server, client) = pair(context, endpoint, SocketType::Rep, SocketType::Req);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let serving = std::thread::spawn(move || {
        for _ in 0..200 {
            let request = server.recv().unwrap();
            server.send(request).unwrap();
        }
    });
    runtime.block_on(async {
        for round in 0..200u32 {
            client.send_async(&round.to_le_bytes()).await.unwrap();
            assert_eq!(client.recv_async().await.unwrap().body(), &round.to_le_bytes());
        }
    });
    serving.join().unwrap();
}

fn client_and_server(context: &Context, endpoint: &str) {
    let server = socket(context, SocketType::Server);
    let endpoint = server.bind(endpoint).unwrap();
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let client = socket(context, SocketType::Client);
            client.connect(endpoint.as_str()).unwrap();
            client
        })
        .collect();
    for round in 0..50 {
        for (number, client) in clients.iter().enumerate() {
            client.send(format!("{number} {round}")).unwrap();
        }
        for _ in 0..clients.len() {
            let request = server.recv().unwrap();
            let from = request.routing_id().expect("a server hears who asks");
            server.send(Message::new(request.body().clone()).to(from)).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.recv().unwrap().body(), format!("{number} {round}").as_str());
        }
    }
    assert_eq!(server.send(Message::new("x").to(u32::MAX)).unwrap_err().error, Error::Unroutable);
    assert_eq!(server.send("x").unwrap_err().error, Error::NoRoutingId);
    let parts = clients[0].send(message(&["two", "parts"])).unwrap_err();
    assert_eq!((parts.error, *parts.message), (Error::Parts(SocketType::Client), message(&["two", "parts"])));
}

fn peers_number_each_other(context: &Context, endpoint: &str) {
    let (bound, dialling) = (socket(context, SocketType::Peer), socket(context, SocketType::Peer));
    let endpoint = bound.bind(endpoint).unwrap();
    let number = dialling.connect_peer(endpoint.as_str()).unwrap();
    dialling.send(Message::new("hello").to(number)).unwrap();
    let hello = bound.recv().unwrap();
    assert_eq!(hello.body(), "hello");
    bound.send(Message::new("welcome").to(hello.routing_id().unwrap())).unwrap();
    let welcome = dialling.recv().unwrap();
    assert_eq!((welcome.body() == "welcome", welcome.routing_id()), (true, Some(number)));
    let client = socket(context, SocketType::Client);
    assert!(matches!(client.connect_peer(endpoint.as_str()), Err(Error::NotSupported(..))));
}

fn scatter_gather_and_channel(context: &Context, endpoint: &str) {
    let (gather, scatter) = pair(context, endpoint, SocketType::Gather, SocketType::Scatter);
    for round in 0..100 {
        scatter.send(format!("work {round}")).unwrap();
    }
    for round in 0..100 {
        assert_eq!(gather.recv().unwrap().body(), format!("work {round}").as_str());
    }
    let endpoint = endpoint.replace("inproc://", "inproc://channel-");
    let (here, there) = pair(context, &endpoint, SocketType::Channel, SocketType::Channel);
    for round in 0..100 {
        there.send(format!("there {round}")).unwrap();
        assert_eq!(here.recv().unwrap().body(), format!("there {round}").as_str());
        here.send(format!("here {round}")).unwrap();
        assert_eq!(there.recv().unwrap().body(), format!("here {round}").as_str());
    }
}

fn radio_and_dish(context: &Context, endpoint: &str) {
    let (radio, dish) = pair(context, endpoint, SocketType::Radio, SocketType::Dish);
    dish.join("weather").unwrap();
    dish.join("w").unwrap();
    assert!(matches!(dish.join("w"), Err(Error::Invalid(_))));
    assert!(matches!(dish.leave("x"), Err(Error::Invalid(_))));
    // A group that was joined reaches the radio in its own time; until then it sends to nobody.
    let sync = |group: &str| {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            radio.send(message(&[group, "sync"])).unwrap();
            match dish.recv_timeout(Duration::from_millis(20)) {
                Ok(_) => break,
                Err(_) => assert!(std::time::Instant::now() < until, "{group} is never heard"),
            }
        }
    };
    sync("weather");
    sync("w");
    for group in ["we", "w", "weather", "weather."] {
        radio.send(message(&[group, "rain"])).unwrap();
    }
    let rain: Vec<_> = std::iter::from_fn(|| Some(dish.recv().unwrap()))
        .filter(|message| message.body() == "rain")
        .take(2)
        .collect();
    assert_eq!(rain, [message(&["w", "rain"]), message(&["weather", "rain"])]);
    dish.leave("w").unwrap();
    dish.join("end").unwrap();
    sync("end");
    for group in ["w", "end"] {
        radio.send(message(&[group, "last"])).unwrap();
    }
    let last = std::iter::from_fn(|| Some(dish.recv().unwrap())).find(|message| message.body() == "last");
    assert_eq!(last.unwrap(), message(&["end", "last"]));
    assert_eq!(radio.send("no group").unwrap_err().error, Error::NoGroup);
}

/// What a STREAM receives next of a connection.
fn piece(stream: &Socket) -> (Frame, Frame) {
    let message = stream.recv().unwrap();
    assert_eq!(message.len(), 2);
    (message.part(0).unwrap().clone(), message.body().clone())
}

fn streams_carry_bytes(context: &Context, endpoint: &str) {
    let (server, client) = (socket(context, SocketType::Stream), socket(context, SocketType::Stream));
    let endpoint = server.bind(endpoint).unwrap();
    let to_server = client.connect_as(endpoint.as_str(), Some(b"server")).unwrap();
    assert_eq!(to_server, "server");
    assert!(
        matches!(client.connect_as(endpoint.as_str(), Some(b"server")), Err(Error::Invalid(_))),
        "in use"
    );
    client.send(message(&["server", "before it is there, ", "and more"])).unwrap();
    let (to_client, arrival) = piece(&server);
    assert!(arrival.is_empty() && to_client[0] == 0);
    assert_eq!(piece(&client), ("server".into(), Frame::EMPTY));
    let mut heard = Vec::new();
    while heard.len() < 28 {
        heard.extend_from_slice(&piece(&server).1);
    }
    assert_eq!(heard, b"before it is there, and more");
    let metadata = server.metadata(&to_client).unwrap();
    assert!(metadata.iter().any(|(name, value)| name == "Peer-Address" && !value.is_empty()));
    assert!(server.metadata(b"nobody").is_none());
    // Longer than any read, and than the system's buffers. What is written before an end goes out whatever the linger time is.
    server.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
    let long: Vec<u8> = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server.send(Message::from_parts([to_client.clone(), long[..].into()]).unwrap()).unwrap();
            server.send(Message::from_parts([to_client.clone(), Frame::EMPTY]).unwrap()).unwrap();
        });
        let mut heard = Vec::new();
        loop {
            let (from, bytes) = piece(&client);
            assert_eq!(from, "server");
            if bytes.is_empty() {
                break;
            }
            heard.extend_from_slice(&bytes);
        }
        assert!(heard == long, "all of it, and then the end");
    });
    let gone = server.send(Message::from_parts([to_client, "x".into()]).unwrap()).unwrap_err();
    assert_eq!(gone.error, Error::Unroutable);
    // Ended and dialled again under the same name.
    client.send(Message::from_parts([&b"server"[..], b""]).unwrap()).unwrap();
    client.connect_as(endpoint.as_str(), Some(b"server")).unwrap();
    while piece(&client).1 != "again" {
        let (to_client, _) = piece(&server);
        let _ = server.send(Message::from_parts([to_client, "again".into()]).unwrap());
    }
    client.send(message(&["server", "still known"])).unwrap();
    while piece(&server).1 != "still known" {}
    assert_eq!(client.send("no name").unwrap_err().error, Error::NoRoutingId);
    // A dealer's first bytes are a greeting.
    let dealer = socket(context, SocketType::Dealer);
    dealer.connect(endpoint.as_str()).unwrap();
    let greeting = std::iter::from_fn(|| Some(piece(&server).1)).find(|bytes| !bytes.is_empty()).unwrap();
    assert_eq!(greeting[0], 0xFF);
}

fn conflating_pipes_keep_the_newest_message(context: &Context, endpoint: &str) {
    const COUNT: u32 = 5_000;
    let (pull, push) = (socket(context, SocketType::Pull), socket(context, SocketType::Push));
    for socket in [&pull, &push] {
        // Marks count for nothing here.
        let conflate = |options: &mut Options| {
            (options.conflate, options.send_hwm, options.receive_hwm) = (true, 1, 1);
        };
        socket.set_options(conflate).unwrap();
    }
    let endpoint = pull.bind(endpoint).unwrap();
    push.connect(endpoint.as_str()).unwrap();
    for number in 0..COUNT {
        let body = Frame::from(&number.to_be_bytes());
        push.try_send(Message::from_parts([body.clone(), body]).unwrap()).expect("no send ever waits");
    }
    let mut before = None;
    let mut received = 0;
    while before != Some(COUNT - 1) {
        let message = pull.recv().unwrap();
        assert_eq!(message.len(), 2, "messages stay whole");
        assert_eq!(message.part(0), message.part(1), "and are not mixed");
        let number = u32::from_be_bytes(message.body()[..].try_into().unwrap());
        assert!(before < Some(number), "{number} after {before:?}");
        before = Some(number);
        received += 1;
    }
    assert!(received < COUNT, "every message came through");
    assert_eq!(pull.try_recv(), Err(Error::Again));
}

fn immediate_pipes_exist_while_their_peer_is_there(context: &Context, endpoint: &str) {
    let finder = socket(context, SocketType::Pull);
    let endpoint = finder.bind(endpoint).unwrap();
    drop(finder);
    let push = socket(context, SocketType::Push);
    let immediate = |options: &mut Options| {
        options.immediate = true;
        // Only the end of the pipe can refuse a message.
        options.send_hwm = 0;
        options.reconnect_interval = Some(Duration::from_millis(5));
    };
    push.set_options(immediate).unwrap();
    push.connect(endpoint.as_str()).unwrap();
    assert_eq!(push.try_send("to nobody").unwrap_err().error, Error::Again);
    for round in ["first", "second"] {
        let pull = socket(context, SocketType::Pull);
        let bound = (0..1000).find_map(|_| pull.bind(endpoint.as_str()).ok());
        assert!(bound.is_some());
        push.send(round).unwrap();
        assert_eq!(pull.recv().unwrap().body(), round, "nothing was kept for it from before");
        drop(pull);
        let until = std::time::Instant::now() + PATIENCE;
        while push.try_send("to one who goes").is_ok() {
            assert!(std::time::Instant::now() < until, "the pipe outlives its peer");
        }
    }
    push.disconnect(endpoint.as_str()).unwrap();
    assert!(matches!(push.disconnect(endpoint.as_str()), Err(Error::NoSuchEndpoint(_))));
}

#[cfg(feature = "device")]
fn rdma_endpoint() -> String {
    let verbs = fabriq::transports().into_iter().find(|known| known.schemes() == ["verbs"]).unwrap();
    verbs.local("verbs").expect("an RDMA device with an IPv4 address; these tests need one").to_string()
}

/// The same device, by libfabric's provider for it.
#[cfg(feature = "device")]
fn ofi_rdma_endpoint() -> String {
    format!("{}?provider=verbs", rdma_endpoint().replace("verbs://", "ofi://"))
}

macro_rules! over_every_transport {
    (bytes: $($bytes:ident),*; wires: $($wire:ident),*; all: $($test:ident),* $(,)?) => {
        mod inproc {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), concat!("inproc://", stringify!($test)));
            })*
        }
        over_wires!(bytes: $($bytes),*; all: $($wire,)* $($test),*);
    };
}

macro_rules! over_wires {
    (bytes: $($bytes:ident),*; all: $($test:ident),*) => {
        mod tcp_bytes {
            $(#[test]
            fn $bytes() {
                super::$bytes(&fabriq::context().unwrap(), "tcp://127.0.0.1:*");
            })*
        }
        mod ipc_bytes {
            $(#[test]
            fn $bytes() {
                super::$bytes(&fabriq::context().unwrap(), "ipc://*");
            })*
        }
        mod tcp {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "tcp://127.0.0.1:*");
            })*
        }
        mod ipc {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "ipc://*");
            })*
        }
        // Every provider of libfabric's that needs no hardware.
        mod ofi_tcp {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "ofi://127.0.0.1:*?provider=tcp");
            })*
        }
        mod ofi_rxm {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "ofi://127.0.0.1:*?provider=tcp;ofi_rxm");
            })*
        }
        mod ofi_net {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "ofi://127.0.0.1:*?provider=net&endpoint=rdm");
            })*
        }
        mod ofi_shm {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), "ofi://127.0.0.1:*?provider=shm");
            })*
        }
        #[cfg(feature = "device")]
        mod verbs {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), &super::rdma_endpoint());
            })*
        }
        #[cfg(feature = "device")]
        mod ofi_verbs {
            $(#[test]
            fn $test() {
                super::$test(&fabriq::context().unwrap(), &super::ofi_rdma_endpoint());
            })*
        }
    };
}

over_every_transport!(
    // Where a link carries messages there are no streams of bytes.
    bytes: streams_carry_bytes;
    // In-process there is no link that could be down.
    wires: immediate_pipes_exist_while_their_peer_is_there;
    all: request_and_reply,
    push_and_pull,
    pushes_are_balanced_and_pulls_are_fair,
    publish_and_subscribe,
    a_forwarder_between_publishers_and_subscribers,
    dealer_and_router,
    exclusive_pair,
    sizes_from_nothing_to_64_mib,
    high_water_mark_blocks_and_releases,
    connect_before_bind,
    a_closed_socket_still_delivers,
    termination_wakes_everyone,
    futures_and_blocking_calls_mix,
    conflating_pipes_keep_the_newest_message,
    client_and_server,
    peers_number_each_other,
    scatter_gather_and_channel,
    radio_and_dish,
);
