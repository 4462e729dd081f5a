//! What peers may do to a tcp link: raw sockets say right and wrong things byte by byte. What every transport promises
//! is in `conformance.rs`.

mod host;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use host::{Host, Random, greeting, loopback, open};
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use transport_core::{
    Armed, Close, Completion, Device, DownReason, Flags, Flow, Frame, Grant, Hello, Keepalive, LinkLimits,
    Open, OpenError, Part, Progress, Role, Tuning, Violation,
};

/// The revision of ZMTP between 1.0 and 2.0.
const NEVER_IN_USE: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\0";

/// The longest command that a link takes, in bytes.
const COMMAND_MAX: usize = 128 << 10;

/// A long frame's header.
fn long_header(kind: u8, len: usize) -> [u8; 9] {
    let mut header = [kind | 2; 9];
    header[1..].copy_from_slice(&(len as u64).to_be_bytes());
    header
}

/// A listener's driver with one raw peer that said hello and is up.
fn accepted() -> (Host, TcpStream, transport_core::LinkId) {
    let mut host = Host::new();
    let address = host.listen();
    let mut peer = TcpStream::connect(address).unwrap();
    // Or what it says waits for what it said before to be acknowledged.
    peer.set_nodelay(true).unwrap();
    peer.write_all(&greeting()).unwrap();
    let link = host.up();
    peer.read_exact(&mut [0; 64]).unwrap();
    (host, peer, link)
}

#[test]
fn a_greeting_may_come_in_two_pieces_split_anywhere() {
    let mut host = Host::new();
    let address = host.listen();
    for split in 1..64 {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&greeting()[..split]).unwrap();
        host.until("Accepted", |c| {
            matches!(c, Completion::Progress { progress: Progress::Accepted { .. }, .. })
        });
        // A piece of the listener's greeting for each of the peer's: it may be of an older version until it says more.
        host.idle();
        let said = match split {
            ..10 => 10,
            10 => 11,
            _ => 64,
        };
        let mut theirs = [0; 64];
        assert_eq!(peer.read(&mut theirs).unwrap(), said);
        assert_eq!(theirs[..said], greeting()[..said]);
        // The first frame may come with the end of the greeting.
        let mut rest = greeting()[split..].to_vec();
        rest.extend_from_slice(b"\0\x05hello");
        peer.write_all(&rest).unwrap();
        let link = host.up();
        host.driver.grant(link, Grant::Unlimited);
        assert_eq!(host.part(link).body, "hello");
        host.driver.close_link(link, Close::Abort);
        assert_eq!(host.down(link), DownReason::ClosedHere);
    }
}

#[test]
fn a_peer_that_is_none_costs_itself_its_connection_only() {
    let mut host = Host::new();
    let address = host.listen();
    for (bytes, want) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], DownReason::Violation(Violation::BadGreeting)),
        (b"\x01\x02", DownReason::Violation(Violation::BadGreeting)),
        (b"\xff\0\0\0\0\0\0\x02\x01\0", DownReason::Violation(Violation::BadGreeting)),
        (NEVER_IN_USE, DownReason::Violation(Violation::UnsupportedVersion)),
        (b"\xff\0\0", DownReason::ClosedByPeer),
        (b"", DownReason::ClosedByPeer),
    ] {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(bytes).unwrap();
        if want == DownReason::ClosedByPeer {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        let failed = host.until("HandshakeFailed", |c| {
            matches!(c, Completion::Progress { progress: Progress::HandshakeFailed { .. }, .. })
        });
        let Completion::Progress { progress: Progress::HandshakeFailed { peer: who, reason }, .. } = failed
        else {
            unreachable!()
        };
        assert_eq!(reason, want, "{}", bytes.escape_ascii());
        assert_eq!(who, peer.local_addr().unwrap().to_string());
    }
    let mut good = TcpStream::connect(address).unwrap();
    good.write_all(&greeting()).unwrap();
    host.up();
}

#[test]
fn dialling_what_is_no_peer_fails_and_says_why() {
    for (bytes, close, want) in [
        (&b"220 ftp\r\n"[..], false, "not a ZMTP peer"),
        (NEVER_IN_USE, false, "version"),
        (b"", true, "closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut host = Host::new();
        let open = host.driver.open(open(&loopback(&listener), Role::Connect)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(bytes).unwrap();
        if close {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        let Completion::Failed { open: of, error } =
            host.until("Failed", |c| matches!(c, Completion::Failed { .. }))
        else {
            unreachable!()
        };
        assert_eq!(of, open);
        assert!(
            matches!(error, OpenError::Unreachable { .. }) && error.to_string().contains(want),
            "{error}"
        );
    }
}

#[test]
fn silence_is_ended_by_the_handshake_timeout_on_both_sides() {
    let mut host = Host::new();
    let address = host.listen();
    let silent = TcpStream::connect(address).unwrap();
    host.until("Accepted", |c| matches!(c, Completion::Progress { progress: Progress::Accepted { .. }, .. }));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    host.driver.open(open(&loopback(&listener), Role::Connect)).unwrap();
    host.until("Connected", |c| {
        matches!(c, Completion::Progress { progress: Progress::Connected { .. }, .. })
    });
    host.idle();
    let deadline = host.driver.deadline().expect("a handshake is being waited for");
    assert!(deadline <= host.now + LinkLimits::default().handshake_timeout);
    host.now = deadline + Duration::from_secs(1);
    host.until("HandshakeFailed", |c| {
        let timed_out = |reason: &DownReason| *reason == DownReason::TimedOut;
        matches!(c, Completion::Progress { progress: Progress::HandshakeFailed { reason, .. }, .. } if timed_out(reason))
    });
    host.until("Failed", |c| {
        matches!(c, Completion::Failed { error: OpenError::Unreachable { why, .. }, .. } if why.contains("in time"))
    });
    assert_eq!(host.driver.deadline(), None);
    drop(silent);
}

#[test]
fn a_violation_ends_the_link_behind_what_was_right() {
    for (bytes, want) in [
        (&b"\x08\0"[..], Violation::BadFrame),
        (b"\x05\0", Violation::BadFrame),
        (b"\x02\xff\xff\xff\xff\xff\xff\xff\xff", Violation::TooLarge),
        (b"\x02\0\0\0\x20\0\0\0\0", Violation::TooLarge),
        (b"\x06\0\0\0\0\0\x01\0\0", Violation::TooLarge),
    ] {
        let mut host = Host::new();
        host.limits.part_max = Some(65_535);
        let address = host.listen();
        let mut peer = TcpStream::connect(address).unwrap();
        peer.write_all(&greeting()).unwrap();
        let link = host.up();
        peer.write_all(b"\0\x03one\x01\x03two").unwrap();
        peer.write_all(bytes).unwrap();
        host.driver.grant(link, Grant::Unlimited);
        assert_eq!(host.part(link).body, "one");
        assert!(host.part(link).flags.more());
        assert_eq!(host.down(link), DownReason::Violation(want), "{}", bytes.escape_ascii());
    }
}

/// A command's limit needs no other: a peer that has not even shaken hands cannot have a gigabyte kept for it.
#[test]
fn commands_have_a_limit_of_their_own() {
    let (mut host, mut peer, link) = accepted();
    peer.write_all(&long_header(4, COMMAND_MAX)).unwrap();
    peer.write_all(&vec![7; COMMAND_MAX]).unwrap();
    let longest = host.part(link);
    assert!(longest.flags.command());
    assert_eq!(longest.body, &vec![7; COMMAND_MAX][..]);
    // Not a byte of it is waited for.
    peer.write_all(&long_header(4, COMMAND_MAX + 1)).unwrap();
    assert_eq!(host.down(link), DownReason::Violation(Violation::TooLarge));

    let (mut host, mut peer, link) = accepted();
    host.driver.grant(link, Grant::Unlimited);
    peer.write_all(&long_header(0, COMMAND_MAX + 1)).unwrap();
    peer.write_all(&vec![7; COMMAND_MAX + 1]).unwrap();
    assert_eq!(host.part(link).body.len(), COMMAND_MAX + 1, "messages have no limit by themselves");
}

#[test]
fn what_came_before_the_end_is_delivered_when_there_is_grant() {
    let (mut host, mut peer, link) = accepted();
    for n in 0..100u8 {
        peer.write_all(&[0, 1, n]).unwrap();
    }
    drop(peer);
    host.idle();
    for n in 0..100u8 {
        host.driver.grant(link, Grant::Limited(1));
        assert_eq!(host.part(link).body, &[n]);
    }
    host.driver.grant(link, Grant::Limited(1));
    assert_eq!(host.down(link), DownReason::ClosedByPeer);
}

#[test]
fn a_peer_that_dies_inside_a_frame_did_not_end_in_good_order() {
    for bytes in [&b"\0"[..], b"\0\x05hell", b"\x02\0\0\0\0\0\x10\0\0half a megabyte less"] {
        let (mut host, mut peer, link) = accepted();
        host.driver.grant(link, Grant::Unlimited);
        peer.write_all(b"\0\x05whole").unwrap();
        peer.write_all(bytes).unwrap();
        drop(peer);
        assert_eq!(host.part(link).body, "whole");
        assert_eq!(host.down(link), DownReason::Broken(0));
    }
}

#[test]
fn commands_need_no_grant_until_a_part_is_in_front() {
    let (mut host, mut peer, link) = accepted();
    peer.write_all(b"\x04\x04PING\x04\x04PONG\0\x04data\x04\x04last").unwrap();
    assert_eq!(host.part(link).body, "PING");
    assert_eq!(host.part(link).body, "PONG");
    host.idle();
    host.driver.grant(link, Grant::Limited(1));
    assert_eq!(host.part(link).body, "data");
    assert!(host.part(link).flags.command());
}

#[test]
fn any_stream_of_parts_arrives_however_it_is_cut() {
    for seed in 1..6 {
        let mut random = Random(seed);
        let (mut host, mut peer, link) = accepted();
        let (mut stream, mut want) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            let len = match random.below(20) {
                0 => random.below(600_000),
                1..4 => random.below(20_000),
                4..10 => random.below(300),
                _ => random.below(80),
            };
            let kind = [0, 1, 4][random.below(3)];
            let len = if kind == 4 { len.min(COMMAND_MAX) } else { len };
            let body: Vec<u8> = (0..len).map(|at| (at as u64 ^ seed) as u8).collect();
            if len < 256 && random.below(10) > 0 {
                stream.extend_from_slice(&[kind, len as u8]);
            } else {
                stream.push(kind | 2);
                stream.extend_from_slice(&(len as u64).to_be_bytes());
            }
            stream.extend_from_slice(&body);
            want.push((kind, body));
        }
        let (mut sent, mut got, mut granted) = (0, 0, 0);
        while got < want.len() {
            let piece = if random.below(2) == 0 { random.below(100) } else { random.below(200_000) };
            let end = (sent + piece).min(stream.len());
            peer.set_nonblocking(true).unwrap();
            sent += peer.write(&stream[sent..end]).unwrap_or(0);
            if granted == 0 {
                granted = random.below(40) as u64;
                host.driver.grant(link, Grant::Limited(granted));
            }
            host.budget = 1 + random.below(50);
            for completion in host.poll() {
                let Completion::Received { link: of, part } = completion else { panic!("{completion:?}") };
                assert_eq!(of, link);
                let (kind, body) = &want[got];
                assert_eq!((part.flags.more(), part.flags.command()), (kind & 1 != 0, kind & 4 != 0));
                assert_eq!(part.body, &body[..], "part {got} of seed {seed}");
                granted -= u64::from(!part.flags.command());
                got += 1;
            }
        }
    }
}

/// Decodes frames as simply as can be.
fn frames(mut bytes: &[u8]) -> (Vec<(u8, Vec<u8>)>, usize) {
    let mut found = Vec::new();
    loop {
        let (len, header) = match bytes {
            [kind, len, ..] if kind & 2 == 0 => (usize::from(*len), 2),
            [_, a, b, c, d, e, f, g, h, ..] => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize, 9)
            }
            _ => return (found, bytes.len()),
        };
        let Some(body) = bytes.get(header..header + len) else {
            return (found, bytes.len());
        };
        found.push((bytes[0] & 5, body.to_vec()));
        bytes = &bytes[header + len..];
    }
}

fn sent_through(said: &[Completion]) -> Option<usize> {
    said.iter().rev().find_map(|completion| match completion {
        Completion::Sent { through, .. } => Some(*through as usize),
        _ => None,
    })
}

#[test]
fn every_message_is_sent_or_returned_or_cut_by_the_break() {
    for seed in 1..9 {
        let mut random = Random(seed);
        let (mut host, mut peer, link) = accepted();
        // Messages of up to four parts, small ones and some by reference, until the kernel takes no more.
        let mut posted = Vec::new();
        let (mut full, mut wire, mut through) = (0, Vec::new(), 0);
        while full < 20 {
            let parts = 1 + random.below(4);
            for at in 0..parts {
                let len = if random.below(4) == 0 { random.below(100_000) } else { random.below(500) };
                let mut body = vec![seed as u8; len.max(8)];
                body[..8].copy_from_slice(&(posted.len() as u64).to_be_bytes());
                let more = at + 1 < parts;
                let frame = Frame::from(body.clone());
                let part = if more { Part::more(frame) } else { Part::last(frame) };
                let mut refused = host.driver.post_send(link, part).err();
                while let Some(again) = refused.take() {
                    host.driver.flush();
                    through = sent_through(&host.poll()).unwrap_or(through);
                    if host.driver.room(link) == 0 {
                        // The kernel is full. The peer reads now and then, so that the end falls anywhere in a frame.
                        full += 1;
                        let mut scrap = vec![0; 1 + random.below(600_000)];
                        let n = peer.read(&mut scrap).unwrap();
                        wire.extend_from_slice(&scrap[..n]);
                    }
                    refused = host.driver.post_send(link, again.part).err();
                }
                posted.push((u8::from(more), body));
            }
        }
        // And to the end once more, so that something is left over.
        while host.driver.room(link) > 0 {
            let body = vec![7; 8 + random.below(50_000)];
            host.driver.post_send(link, Part::last(body.clone())).unwrap();
            posted.push((0, body));
            host.driver.flush();
            through = sent_through(&host.poll()).unwrap_or(through);
        }
        host.driver.close_link(link, Close::Abort);
        let mut back = Vec::new();
        host.until("Down", |c| match c {
            Completion::Returned { part, .. } => {
                back.push((u8::from(part.flags.more()), part.body.to_vec()));
                false
            }
            Completion::Sent { through: n, .. } => {
                through = *n as usize;
                false
            }
            c => matches!(c, Completion::Down { .. }),
        });
        // An abort with nothing unread is a FIN, so the peer gets all that the kernel took.
        peer.read_to_end(&mut wire).unwrap();
        let (seen, rest) = frames(&wire);
        assert_eq!(seen[..], posted[..seen.len()], "seed {seed}");
        assert_eq!(through, seen.len(), "seed {seed}");
        assert!(!back.is_empty(), "seed {seed}: nothing came back, so nothing was tested");
        // What came back is the end of what was posted, begins with a message, and is all but the message cut.
        let first = posted.len() - back.len();
        assert_eq!(back[..], posted[first..], "seed {seed}");
        assert_eq!(posted[first - 1].0, 0, "seed {seed}: a message was cut");
        let mut cut = seen.len() + usize::from(rest > 0);
        while cut > 0 && posted[cut - 1].0 == 1 {
            cut += 1;
        }
        assert_eq!(first, cut, "seed {seed}: rest {rest}");
    }
}

#[test]
fn a_drain_reaches_a_slow_reader_and_a_deaf_one_runs_out_of_time() {
    let (mut host, mut peer, link) = accepted();
    let body = Frame::from(vec![3; 100_000]);
    let mut posted = 0;
    while host.driver.room(link) > 0 {
        host.driver.post_send(link, Part::last(body.clone())).unwrap();
        host.driver.flush();
        posted += 1;
    }
    host.driver.close_link(link, Close::Drain { until: None });
    assert_eq!(host.driver.room(link), 0);
    host.idle();
    let mut wire = vec![0; posted * (body.len() + 9)];
    peer.set_nonblocking(true).unwrap();
    let mut at = 0;
    while at < wire.len() {
        host.poll();
        at += peer.read(&mut wire[at..]).unwrap_or(0);
    }
    assert_eq!(frames(&wire).0.len(), posted);
    peer.write_all(b"\0\x01x").unwrap();
    host.idle();
    drop(peer);
    assert_eq!(host.down(link), DownReason::ClosedHere);

    let (mut host, peer, link) = accepted();
    while host.driver.room(link) > 0 {
        host.driver.post_send(link, Part::last(body.clone())).unwrap();
        host.driver.flush();
    }
    let until = host.now + Duration::from_secs(60);
    host.driver.close_link(link, Close::Drain { until: Some(until) });
    host.idle();
    assert_eq!(host.driver.deadline(), Some(until));
    host.now = until;
    assert_eq!(host.down(link), DownReason::TimedOut);
    drop(peer);
}

/// Moves the host's clock to its deadlines until the link is down, which it must be by its own will.
fn drained(host: &mut Host, link: transport_core::LinkId) {
    let began = Instant::now();
    loop {
        let mut down = None;
        for completion in host.poll() {
            if let Completion::Down { link: of, reason } = completion {
                down = Some((of, reason));
            }
        }
        if let Some(down) = down {
            assert_eq!(down, (link, DownReason::ClosedHere));
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the drain does not end: {:?}", host.driver);
        if host.driver.arm() == Armed::Ready {
            let deadline = host.driver.deadline().expect("something must end the drain");
            // The peer's system acknowledges by the real clock, and looks come no faster than that.
            host.wait(deadline.saturating_duration_since(host.now).as_millis() as i64);
            host.now = deadline;
        }
    }
}

/// A peer that is stopped, or never closes, holds nobody up that has said all; it can read all of it later.
#[test]
fn a_drain_waits_for_the_peer_s_system_and_not_for_the_peer() {
    for len in [0, 1, 50_000] {
        for until in [None, Some(Duration::from_secs(60))] {
            let (mut host, mut peer, link) = accepted();
            peer.write_all(b"\0\x05never").unwrap();
            let body = vec![7; len];
            host.driver.post_send(link, Part::last(body.clone())).unwrap();
            host.driver.flush();
            let until = until.map(|patience| host.now + patience);
            host.driver.close_link(link, Close::Drain { until });
            drained(&mut host, link);
            // No reset came behind the end, and none comes while the peer says nothing more.
            let mut wire = Vec::new();
            peer.read_to_end(&mut wire).unwrap();
            assert_eq!(frames(&wire), (vec![(0, body)], 0));
        }
    }
}

/// What the peer goes on saying is read and dropped, so that no reset destroys what it has not read yet.
#[test]
fn a_drain_goes_on_while_the_peer_talks() {
    let (mut host, mut peer, link) = accepted();
    host.driver.post_send(link, Part::last("parting")).unwrap();
    host.driver.flush();
    let until = host.now + Duration::from_secs(10);
    host.driver.close_link(link, Close::Drain { until: Some(until) });
    while host.now < until - Duration::from_secs(1) {
        peer.write_all(b"\0\x07chatter").unwrap();
        assert!(host.wait(20_000), "nothing arrives");
        host.idle();
        host.now = host.driver.deadline().expect("a look").min(until);
        for completion in host.poll() {
            assert!(
                !matches!(completion, Completion::Received { .. } | Completion::Down { .. }),
                "{completion:?}"
            );
        }
    }
    // Once it falls silent that is enough.
    drained(&mut host, link);
    let mut wire = Vec::new();
    peer.read_to_end(&mut wire).unwrap();
    assert_eq!(frames(&wire), (vec![(0, b"parting".to_vec())], 0));

    // To one that never does, time is up.
    let (mut host, mut peer, link) = accepted();
    let until = host.now + Duration::from_secs(1);
    host.driver.close_link(link, Close::Drain { until: Some(until) });
    loop {
        peer.write_all(b"\0\x07chatter").unwrap();
        assert!(host.wait(20_000), "nothing arrives");
        host.idle();
        host.now = host.driver.deadline().expect("a look");
        if host.now == until {
            break;
        }
    }
    assert_eq!(host.down(link), DownReason::TimedOut);
}

/// However long the peer reads nothing: as long as its system has not taken everything, the drain is not over.
#[test]
fn a_drain_is_not_over_before_all_is_acknowledged() {
    let (mut host, mut peer, link) = accepted();
    let body = Frame::from(vec![3; 100_000]);
    let mut posted = 0;
    // More than the peer's system takes without its process, less than what both take, so that nothing waits in the driver.
    while host.driver.room(link) > 0 && posted < 20 {
        host.driver.post_send(link, Part::last(body.clone())).unwrap();
        host.driver.flush();
        posted += 1;
    }
    host.driver.close_link(link, Close::Drain { until: None });
    for _ in 0..100 {
        for completion in host.poll() {
            assert!(!matches!(completion, Completion::Down { .. }), "{completion:?}");
        }
        host.now = host.driver.deadline().unwrap_or(host.now);
    }
    let mut wire = vec![0; posted * (body.len() + 9)];
    peer.read_exact(&mut wire).unwrap();
    assert_eq!(frames(&wire).0.len(), posted);
    drained(&mut host, link);
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "an end, and no reset");
}

#[test]
fn a_low_mark_hears_of_a_peer_that_does_not_read_soon() {
    const PART: usize = 64 << 10;
    // Whoever listens or dials: parts taken for a peer that reads nothing.
    let taken = |role: Role, send_hwm: u32| {
        let mut host = Host::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut request = match role {
            Role::Bind => open("tcp://127.0.0.1:*", role),
            Role::Connect => open(&loopback(&listener), role),
        };
        request.identity.send_hwm = send_hwm;
        host.driver.open(request).unwrap();
        let mut peer = if role == Role::Bind {
            match host.until("Bound", |c| matches!(c, Completion::Bound { .. })) {
                Completion::Bound { endpoint, .. } => TcpStream::connect(endpoint.address()).unwrap(),
                _ => unreachable!(),
            }
        } else {
            listener.accept().unwrap().0
        };
        peer.write_all(&greeting()).unwrap();
        let link = host.up();
        let mut taken = 0;
        loop {
            // One at a time, as a pipe with a mark of one message has them.
            host.idle();
            if host.driver.room(link) == 0 {
                return taken;
            }
            host.driver.post_send(link, Part::last(Frame::from(vec![0; PART]))).unwrap();
            host.driver.flush();
            taken += 1;
        }
    };
    for role in [Role::Bind, Role::Connect] {
        let (low, high, unlimited) = (taken(role, 1), taken(role, 1000), taken(role, 0));
        // The peer's system has room for some whatever we do.
        assert!(low * 4 < high && low * 4 < unlimited, "{low}, {high} and {unlimited} parts");
    }
}

#[test]
fn names_resolve_beside_the_driver() {
    let mut host = Host::new();
    host.driver.open(open("tcp://localhost:*", Role::Bind)).unwrap();
    let bound = host.until("Bound", |c| matches!(c, Completion::Bound { .. }));
    let Completion::Bound { endpoint, .. } = bound else { unreachable!() };
    let port = endpoint.address().rsplit_once(':').unwrap().1;
    assert_eq!(endpoint.address(), format!("127.0.0.1:{port}"));
    host.driver.open(open(&format!("tcp://localhost:{port}"), Role::Connect)).unwrap();
    host.up();
    host.up();
    // RFC 2606 keeps this name from ever existing.
    host.driver.open(open("tcp://nobody.invalid:5", Role::Connect)).unwrap();
    let failed = host.until("Failed", |c| matches!(c, Completion::Failed { .. }));
    assert!(format!("{failed:?}").contains("nobody.invalid"), "{failed:?}");
}

#[test]
fn a_connect_may_say_where_it_comes_from() {
    for source in ["127.0.0.2:0", "127.0.0.2:*", "*:*"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut host = Host::new();
        let url = format!("tcp://{source};{}", listener.local_addr().unwrap());
        host.driver.open(open(&url, Role::Connect)).unwrap();
        let (mut peer, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), if source.starts_with('*') { "127.0.0.1" } else { "127.0.0.2" });
        peer.write_all(&greeting()).unwrap();
        host.up();
    }
}

/// Whoever dials from the port that it dials meets itself when nobody listens there. By chance the system gives a dial that
/// port; here it is asked for.
#[test]
fn a_dial_that_meets_itself_is_refused_and_leaves_its_port_free() {
    for target in ["127.0.0.1", "0.0.0.0"] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut host = Host::new();
        let dial = open(&format!("tcp://127.0.0.1:{port};{target}:{port}"), Role::Connect);
        let dial = host.driver.open(dial).unwrap();
        let failed = host.until("Failed", |c| matches!(c, Completion::Failed { .. }));
        assert!(
            matches!(&failed, Completion::Failed { open, error: OpenError::Unreachable { why, .. } }
                if *open == dial && why.contains("refused")),
            "{failed:?}"
        );
        // As a listener that does not reuse addresses: nothing is left in TIME_WAIT.
        let plain = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        bind(&plain, &address).expect("the port is free again");
    }
}

#[test]
fn a_bind_reports_the_address_it_has() {
    let mut host = Host::new();
    for (url, want) in [
        ("tcp://*:*", "tcp://0.0.0.0:"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:"),
        ("tcp://[::1]:*", "tcp://[::1]:"),
        ("tcp://[::]:*", "tcp://[::]:"),
    ] {
        if url.contains("::") && TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        host.driver.open(open(url, Role::Bind)).unwrap();
        let bound = host.until("Bound", |c| matches!(c, Completion::Bound { .. }));
        let Completion::Bound { endpoint, .. } = bound else { unreachable!() };
        let port = endpoint.as_str().strip_prefix(want).expect("the address bound");
        assert_ne!(port.parse::<u16>().unwrap(), 0);
        let taken = host.driver.open(open(endpoint.as_str(), Role::Bind)).unwrap();
        let failed = host.until("Failed", |c| matches!(c, Completion::Failed { .. }));
        assert!(
            matches!(failed, Completion::Failed { open, error: OpenError::AddressInUse(_) } if open == taken),
            "{failed:?}"
        );
    }
    // TEST-NET-1 (RFC 5737) is on no host.
    host.driver.open(open("tcp://192.0.2.1:5", Role::Bind)).unwrap();
    host.until("Failed", |c| {
        matches!(c, Completion::Failed { error: OpenError::AddressNotAvailable(_), .. })
    });
}

#[test]
fn flags_and_hello_cross_two_drivers() {
    let (mut a, mut b) = (Host::new(), Host::new());
    let address = a.listen();
    let mut request = open(&format!("tcp://{address}"), Role::Connect);
    request.hello =
        Hello { minor: 0, mechanism: transport_core::MechanismName::new("PLAIN"), as_server: true };
    b.driver.open(request.clone()).unwrap();
    let up = a.until_with(&mut b, "Up", |c| matches!(c, Completion::Up { .. }));
    let Completion::Up { link: at_a, peer, .. } = up else { unreachable!() };
    assert_eq!(peer.hello, request.hello);
    let at_b = b.up();
    a.driver.grant(at_a, Grant::Unlimited);
    for flags in [Flags::MORE, Flags::COMMAND, Flags::LAST, Flags::LAST.with(Flags::GAP)] {
        b.driver.post_send(at_b, Part { body: "x".into(), flags }).unwrap();
    }
    b.driver.flush();
    let got: Vec<_> = (0..4).map(|_| a.part(at_a).flags).collect();
    assert_eq!(got, [Flags::MORE, Flags::COMMAND, Flags::LAST, Flags::LAST]);
}

/// RFC 13 and RFC 15: both directions, at lengths around every limit of a header, however the peer's bytes are cut.
#[test]
fn peers_of_older_versions_exchange_parts() {
    for (version, hello) in [(1, &b"\x05\0peer"[..]), (2, b"\xFF\0\0\0\0\0\0\0\x05\x7F\x01\x05\0\x04peer")] {
        let encode = |more: bool, body: &[u8]| {
            let (flags, counted) = (u8::from(more), body.len() + if version == 1 { 1 } else { 0 });
            let is_long = counted > if version == 1 { 254 } else { 255 };
            let length = (counted as u64).to_be_bytes();
            let header = match (version, is_long) {
                (1, false) => vec![counted as u8, flags],
                (1, true) => [&[0xFF][..], &length, &[flags]].concat(),
                (_, false) => vec![flags, counted as u8],
                (_, true) => [&[flags | 2][..], &length].concat(),
            };
            [header, body.to_vec()].concat()
        };
        for piece in [1, 7, 1000, usize::MAX] {
            let mut host = Host::new();
            let address = host.listen();
            let mut peer = TcpStream::connect(address).unwrap();
            peer.set_nodelay(true).unwrap();
            peer.write_all(hello).unwrap();
            let Completion::Up { link, peer: who, .. } =
                host.until("Up", |c| matches!(c, Completion::Up { .. }))
            else {
                unreachable!()
            };
            let identity = who.identity.expect("no READY will say who it is");
            let socket_type = if version == 1 { "" } else { "DEALER" };
            assert_eq!((identity.socket_type, &identity.routing_id[..]), (socket_type, &b"peer"[..]));
            let said = if version == 1 { 10 } else { 14 };
            peer.read_exact(&mut vec![0; said]).unwrap();
            host.driver.grant(link, Grant::Unlimited);
            for len in [0, 1, 30, 253, 254, 255, 256, 20_000, 70_000] {
                for more in [true, false] {
                    let body: Vec<u8> = (0..len).map(|at| at as u8).collect();
                    let bytes = encode(more, &body);
                    // Small pieces of small parts, or this takes long.
                    for bytes in bytes.chunks(piece.max(bytes.len() / 300)) {
                        peer.write_all(bytes).unwrap();
                        host.go_on();
                    }
                    let part = host.part(link);
                    assert!(part.body == body[..] && part.flags.more() == more, "{version} {len} {piece}");
                    let flags = if more { Flags::MORE } else { Flags::LAST };
                    host.driver.post_send(link, Part { body: body.into(), flags }).unwrap();
                    host.driver.flush();
                    let mut heard = vec![0; bytes.len()];
                    peer.read_exact(&mut heard).unwrap();
                    assert!(heard == bytes, "{version} {len}");
                }
            }
            drop(peer);
            host.down(link);
        }
    }
}

/// Binds and dials with `tuning`, and gives the descriptors of both ends.
fn tuned(url: &str, tuning: Tuning) -> Result<(Host, [i32; 2]), OpenError> {
    let mut host = Host::new();
    let bound = host.driver.open(Open { tuning, ..open(url, Role::Bind) })?;
    let said = host.until("Bound or Failed", |c| {
        matches!(c, Completion::Bound { open: of, .. } | Completion::Failed { open: of, .. } if *of == bound)
    });
    let endpoint = match said {
        Completion::Bound { endpoint, .. } => endpoint,
        Completion::Failed { error, .. } => return Err(error),
        _ => unreachable!(),
    };
    host.driver.open(Open { tuning, ..open(endpoint.as_str(), Role::Connect) })?;
    let mut fd = || match host.until("Up", |c| matches!(c, Completion::Up { .. })) {
        Completion::Up { peer, .. } => peer.fd,
        _ => unreachable!(),
    };
    let fds = [fd(), fd()];
    Ok((host, fds))
}

#[test]
fn tuning_reaches_both_ends_of_a_connection() {
    let keepalive = Keepalive { idle: Some(Duration::from_secs(77)), interval: None, count: Some(3) };
    let tuning = Tuning {
        keepalive: Some(keepalive),
        type_of_service: 0x28,
        device: Some(Device::new("lo").unwrap()),
        ..Tuning::default()
    };
    let (_host, fds) = tuned("tcp://127.0.0.1:*", tuning).unwrap();
    for fd in fds {
        // SAFETY: the driver keeps both connections open until the host is dropped, at the end.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        assert!(sockopt::socket_keepalive(fd).unwrap());
        assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(77));
        assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 3);
        assert_eq!(sockopt::ip_tos(fd).unwrap(), 0x28);
    }
    let device = Device::new("nosuch0");
    let error = tuned("tcp://127.0.0.1:*", Tuning { device, ..Tuning::default() }).map(drop).unwrap_err();
    assert!(error.to_string().contains("ip link"), "{error}");
    for name in ["", "a/b", "a name", "sixteen_bytes_on"] {
        assert!(Device::new(name).is_none(), "{name}");
    }
}

#[test]
fn a_listener_may_name_its_interface() {
    let mut host = Host::new();
    let (_, endpoint) = host.bind("tcp://lo:*");
    assert!(endpoint.address().starts_with("127.0.0.1:"), "{endpoint}");
    // So may whoever dials, of itself.
    let url = format!("tcp://lo:*;{}", endpoint.address());
    host.driver.open(open(&url, Role::Connect)).unwrap();
    host.up();
    host.up();
}

/// A link without frames is up at once. Until somebody has heard so it goes with its open, in silence.
#[test]
fn closing_a_listener_takes_back_streams_that_nobody_has_heard_of() {
    let mut host = Host::new();
    let bound =
        host.driver.open(Open { flow: Flow::Stream, ..open("tcp://127.0.0.1:*", Role::Bind) }).unwrap();
    let Completion::Bound { endpoint, .. } = host.until("Bound", |c| matches!(c, Completion::Bound { .. }))
    else {
        unreachable!()
    };
    let mut peer = TcpStream::connect(endpoint.address()).unwrap();
    // So that the first word of it is all that a poll says.
    host.budget = 1;
    host.until("Accepted", |c| matches!(c, Completion::Progress { progress: Progress::Accepted { .. }, .. }));
    host.driver.close_open(bound);
    host.budget = 100;
    host.idle();
    let said = host.poll();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "its connection is closed");
}
