//! ofi:// when something breaks, on every provider that needs no hardware, and by the feature `device` on verbs: a peer that is
//! killed in the middle of a rendezvous, one that is held up while its link ends, and addresses that lead nowhere. Tests no pattern; `patterns.rs` does. Needs libfabric,
//! which ci/install installs.

#[path = "../rdma/parcel.rs"]
mod parcel;
#[path = "../rdma/peer.rs"]
mod peer;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use fabriq::{Context, EventKind, Message, Monitor, Socket, SocketType};
use parcel::{SLOTS, context, pack, pack_len, slots, unpack};
use peer::Peer;

/// Longer than anything here takes. A test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const ROUNDS: usize = 3;

/// A socket whose calls fail rather than hang a test, and that comes back soon.
fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).unwrap();
    socket
        .set_options(|options| {
            options.send_timeout = Some(PATIENCE);
            options.receive_timeout = Some(PATIENCE);
            options.linger = Some(PATIENCE);
            options.reconnect_interval = Some(Duration::from_millis(50));
        })
        .unwrap();
    socket
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: never");
        std::thread::yield_now();
    }
}

/// Waits for an event, and returns what came before it.
fn events_before(monitor: &Monitor, mut last: impl FnMut(&EventKind) -> bool) -> Vec<EventKind> {
    let mut seen = Vec::new();
    loop {
        let Some(event) = monitor.next_timeout(PATIENCE) else { panic!("only these events came: {seen:#?}") };
        if last(&event.kind) {
            return seen;
        }
        seen.push(event.kind);
    }
}

fn is_up(kind: &EventKind) -> bool {
    *kind == EventKind::HandshakeSucceeded
}

fn is_down(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Disconnected(..))
}

/// Whether a process has shared memory of libfabric's.
fn shares_memory(id: u32) -> bool {
    let own = format!("{id}:");
    let mut files = std::fs::read_dir("/dev/shm").unwrap().flatten();
    files.any(|it| it.file_name().to_string_lossy().starts_with(&own))
}

/// The survivor's frames are announced and being read. They are free again, and what was never announced goes to whoever comes
/// in the dead one's place.
fn the_reader_is_killed(wildcard: &str) {
    let context = context();
    let home = slots(&context);
    let dealer = socket(&context, SocketType::Dealer);
    let monitor = dealer.monitor().unwrap();
    let mut peer = Peer::taker(wildcard);
    let url = peer.line();
    dealer.connect(&url).unwrap();
    events_before(&monitor, is_up);
    let mut number = 0;
    let mut send = || {
        dealer.send(pack(&context, number)).unwrap();
        number += 1;
        number - 1
    };
    for _ in 0..ROUNDS {
        let first = send();
        while peer.line() != first.to_string() {}
        wait_until("all slots are at home", || slots(&context) == home);
        // While the peer's process stands still, as many are announced as go on the wire, and none is read.
        peer.stop();
        let numbers: Vec<u64> = (0..SLOTS).map(|_| send()).collect();
        peer.proceed();
        assert_eq!(peer.line(), numbers[0].to_string());
        let id = peer.kill();
        let before = events_before(&monitor, is_down);
        assert!(!before.iter().any(is_up), "{before:?}");
        wait_until("its shared memory is gone", || !shares_memory(id));

        peer = Peer::taker(&url);
        assert_eq!(peer.line(), url);
        let between = events_before(&monitor, is_up);
        assert!(!between.iter().any(is_down), "one link, one end: {between:?}");
        let last = send();
        let mut before = first;
        while before != last {
            let received = peer.line().parse().unwrap();
            assert!(received > before, "{received} after {before}");
            before = received;
        }
        wait_until("all slots are at home", || slots(&context) == home);
    }
}

/// The survivor reads, and what it reads is gone. The slots that it read into are free again, and half a parcel is never delivered.
fn the_one_who_is_read_from_is_killed(wildcard: &str) {
    let context = context();
    let dealer = socket(&context, SocketType::Dealer);
    let monitor = dealer.monitor().unwrap();
    let url = dealer.bind(wildcard).unwrap();
    let ask = || (0..SLOTS).for_each(|_| dealer.send("one more").unwrap());
    let fresh = || {
        let peer = Peer::giver(url.as_str());
        events_before(&monitor, is_up);
        peer
    };
    let mut peer = fresh();
    ask();
    let home = hold_all(&dealer);
    for _ in 0..ROUNDS {
        ask();
        assert_eq!(unpack(&dealer.recv().unwrap()), SLOTS as u64);
        let id = peer.kill();
        events_before(&monitor, is_down);
        wait_until("its shared memory is gone", || !shares_memory(id));
        // What had come whole before.
        while let Ok(message) = dealer.try_recv() {
            assert!((SLOTS as u64..2 * SLOTS as u64).contains(&unpack(&message)));
        }
        peer = fresh();
        ask();
        assert_eq!(hold_all(&dealer), home, "a slot is missing");
    }
}

/// What a peer has not taken of a link that is cut short, it may not get; but not what its sender's memory was used for since.
fn a_held_up_peer_never_gets_what_came_after_the_links_end(wildcard: &str) {
    const AFTER: u64 = 1_000;
    let context = fabriq::context().unwrap();
    let mut number = 0;
    for len in [2_000, 8_000, 12_000].repeat(ROUNDS) {
        let (held_up, other) = (Peer::taker(wildcard), Peer::taker(wildcard));
        let connected = |url: &str| {
            let dealer = socket(&context, SocketType::Dealer);
            dealer.connect(url).unwrap();
            dealer
        };
        let mut send = |dealer: &Socket, from: u64| {
            number += 1;
            dealer.send(pack_len(&context, from + number, len)).unwrap();
            from + number
        };
        let url = held_up.line();
        let (to_it, to_other) = (connected(&url), connected(&other.line()));
        let first = send(&to_it, 0);
        assert_eq!(held_up.line(), first.to_string());
        held_up.stop();
        for _ in 0..SLOTS {
            send(&to_it, 0);
        }
        to_it.set_options(|options| options.linger = Some(Duration::ZERO)).unwrap();
        to_it.close();
        for _ in 0..4 * SLOTS {
            let sent = send(&to_other, AFTER);
            assert_eq!(other.line(), sent.to_string());
        }
        held_up.proceed();
        let again = connected(&url);
        let last = send(&again, 0);
        let mut before = first;
        while before != last {
            let received = held_up.line().parse().unwrap();
            assert!(before < received && received <= last, "{received} after {before}, of {len} bytes");
            before = received;
        }
    }
}

/// Receives as many as the pool has slots, holds them all at once, and tells where they were.
fn hold_all(dealer: &Socket) -> BTreeSet<usize> {
    let held: Vec<Message> = (0..SLOTS).map(|_| dealer.recv().unwrap()).collect();
    for (message, number) in held.iter().zip(0..) {
        assert_eq!(unpack(message), number);
    }
    held.iter().map(|message| message.body().as_ptr().addr()).collect()
}

/// An RDMA device, by libfabric's provider for it.
#[cfg(feature = "device")]
fn rdma_wildcard() -> String {
    let verbs = fabriq::transports().into_iter().find(|known| known.schemes() == ["verbs"]).unwrap();
    let local = verbs.local("verbs").expect("an RDMA device with an IPv4 address; these tests need one");
    format!("{}?provider=verbs", local.as_str().replace("verbs://", "ofi://"))
}

macro_rules! on_every_provider {
    ($($(#[$cfg:meta])? $name:ident = $wildcard:expr;)*) => {$(
        $(#[$cfg])?
        mod $name {
            #[test]
            fn the_reader_is_killed() {
                super::the_reader_is_killed($wildcard);
            }
            #[test]
            fn the_one_who_is_read_from_is_killed() {
                super::the_one_who_is_read_from_is_killed($wildcard);
            }
            #[test]
            fn a_held_up_peer_never_gets_what_came_after_the_links_end() {
                super::a_held_up_peer_never_gets_what_came_after_the_links_end($wildcard);
            }
        }
    )*};
}

on_every_provider! {
    tcp = "ofi://127.0.0.1:*?provider=tcp";
    rxm = "ofi://127.0.0.1:*?provider=tcp;ofi_rxm";
    net = "ofi://127.0.0.1:*?provider=net&endpoint=rdm";
    shm = "ofi://127.0.0.1:*?provider=shm";
    #[cfg(feature = "device")]
    verbs = &super::rdma_wildcard();
}

/// Why a dial comes to nothing, in the monitor's words.
fn why_not(url: &str) -> String {
    let context = fabriq::context().unwrap();
    let dealer = socket(&context, SocketType::Dealer);
    let hasty = |options: &mut fabriq::Options| {
        (options.linger, options.handshake_timeout) = (Some(Duration::ZERO), Duration::from_secs(3));
    };
    dealer.set_options(hasty).unwrap();
    let monitor = dealer.monitor().unwrap();
    dealer.connect(url).unwrap();
    let mut why = String::new();
    events_before(&monitor, |kind| {
        if let EventKind::ConnectFailed(error) = kind {
            why = error.to_string();
        }
        !why.is_empty()
    });
    why
}

#[test]
fn what_leads_nowhere_is_told_with_its_url_and_a_remedy() {
    let context = fabriq::context().unwrap();
    let tcp = socket(&context, SocketType::Router);
    let zmtp = tcp.bind("tcp://127.0.0.1:*").unwrap();
    let shm = socket(&context, SocketType::Router);
    let bound = shm.bind("ofi://127.0.0.1:*?provider=shm").unwrap();
    let port = |url: &str| url.rsplit_once(':').unwrap().1.split('?').next().unwrap().to_owned();
    for (url, says) in [
        ("ofi://no-such-host.invalid:5555".to_owned(), "no-such-host.invalid"),
        ("ofi://127.0.0.1:5555?provider=no-such-provider".to_owned(), "fabriq info"),
        ("ofi://127.0.0.1:5555?provider=tcp&domain=no-such-domain".to_owned(), "fi_info"),
        (format!("ofi://127.0.0.1:{}?provider=tcp", port(zmtp.as_str())), "same provider"),
        (format!("ofi://127.0.0.1:{}?provider=net", port(zmtp.as_str())), "same provider"),
        (format!("ofi://127.0.0.1:{}?provider=shm", port(zmtp.as_str())), "same provider"),
        (format!("ofi://127.0.0.1:{}?provider=net&endpoint=rdm", port(bound.as_str())), "provider=shm"),
        ("ofi://127.0.0.1:1?provider=shm".to_owned(), "start the peer"),
        ("ofi://127.0.0.1:1?provider=tcp".to_owned(), "start the peer"),
    ] {
        let why = why_not(&url);
        assert!(why.contains(says) && why.contains(&url), "{url}: {why}");
    }
}

/// A listener made by hand, by docs/spec/ofi-hello.md: agrees to whatever is asked, under such a name. Its port.
fn agrees(name: impl Fn(&[u8]) -> Vec<u8> + Send + 'static, witness: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut wire in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 12];
            wire.read_exact(&mut head).unwrap();
            let (private, provider) = (usize::from(head[6]), usize::from(head[7]));
            let len = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
            let (its_name, its_witness) = (len(8), len(10));
            let mut body = vec![0; provider + its_name + private + its_witness];
            wire.read_exact(&mut body).unwrap();
            let name = name(&body[provider..provider + its_name]);
            head[5] = 2;
            head[8..10].copy_from_slice(&(name.len() as u16).to_le_bytes());
            head[10..12].copy_from_slice(&(witness.len() as u16).to_le_bytes());
            let offer = &body[provider + its_name..][..private];
            wire.write_all(&[&head[..], &body[..provider], &name, offer, &witness].concat()).unwrap();
            open.push(wire);
        }
    });
    port
}

#[test]
fn an_endpoints_name_that_leads_nowhere_is_told() {
    // Port 1 in a sockaddr; a process that there is not.
    let nowhere = |name: &[u8]| [&name[..2], &[0, 1], &name[4..]].concat();
    for provider in ["net&endpoint=rdm", "tcp;ofi_rxm", "shm"] {
        let is_shm = provider == "shm";
        let name =
            move |name: &[u8]| if is_shm { b"fi_shm://999999999:0:0\0".to_vec() } else { nowhere(name) };
        let url = format!("ofi://127.0.0.1:{}?provider={provider}", agrees(name, Vec::new()));
        let why = why_not(&url);
        assert!(why.contains(&url), "{url}: {why}");
    }
}

/// The bytes are a process id of ours and a word that is not there; they must not even be looked for.
#[test]
fn a_witness_is_shared_memorys_and_malformed_elsewhere() {
    let witness = [&std::process::id().to_le_bytes()[..], &[1; 24]].concat();
    let same = |name: &[u8]| name.to_vec();
    let why = why_not(&format!("ofi://127.0.0.1:{}?provider=net&endpoint=rdm", agrees(same, witness)));
    assert!(why.contains("makes no sense"), "{why}");
}

#[test]
fn a_bound_endpoint_says_which_provider_it_has() {
    let context = fabriq::context().unwrap();
    let router = socket(&context, SocketType::Router);
    let bound = router.bind("ofi://127.0.0.1:*").unwrap();
    assert!(bound.as_str().contains("?provider="), "{bound}");
    let bound = router.bind("ofi://127.0.0.1:*?provider=net&endpoint=rdm").unwrap();
    assert!(bound.as_str().ends_with("?provider=net&endpoint=rdm"), "{bound}");
}
