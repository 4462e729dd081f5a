//! Two sessions talking to each other, and mechanisms that cipher and that wait for admission.

use super::*;

#[test]
fn every_pair_of_types_agrees_on_whether_to_talk() {
    let now = Instant::now();
    for (a_type, b_type) in SocketType::ALL.into_iter().flat_map(|a| SocketType::ALL.map(|b| (a, b))) {
        for (a_minor, b_minor) in [(1, 1), (1, 0), (0, 1), (0, 0)] {
            // Each is told the other's version.
            let mut a = start(SessionConfig { routing_id: "A".into(), ..config(a_type) }, b_minor, now);
            let mut b = start(config(b_type), a_minor, now);
            if !a_type.goes_with(b_type) {
                let from_a = a.poll_command().unwrap();
                assert_violation(b.handle_part(from_a, now), Violation::IncompatibleSocket);
                let error = b.poll_command().unwrap();
                assert_violation(a.handle_part(error, now), REFUSED);
                assert_eq!(a.refusal(), Some(&b"Invalid socket type"[..]));
                continue;
            }
            let (to_a, to_b) = converse(&mut a, &mut b, now);
            assert!(matches!((&to_a[..], &to_b[..]), ([Input::Ready], [Input::Ready])));
            assert_eq!(a.peer().unwrap().socket_type, b_type);
            assert_eq!(b.peer().unwrap().socket_type, a_type);
            let announces = matches!(a_type, SocketType::Req | SocketType::Dealer | SocketType::Router);
            assert_eq!(b.peer().unwrap().routing_id, if announces { "A" } else { "" });
            exchange(&mut a, &mut b, now);
            exchange(&mut b, &mut a, now);
        }
    }
}

/// What `from` sends comes out of `to` as it should.
fn exchange(from: &mut Session, to: &mut Session, now: Instant) {
    let to_publisher =
        matches!(to.config.socket_type, SocketType::Pub | SocketType::Xpub | SocketType::Radio);
    for (form, subscribe) in [(b"\x01topic", true), (b"\0topic", false)] {
        let part = from.encode(Part::command(form)).unwrap();
        if part.flags.command() || to_publisher {
            match to.handle_part(part, now).unwrap() {
                Input::Subscribe(topic) => assert!(to_publisher && subscribe && topic == "topic"),
                Input::Cancel(topic) => assert!(to_publisher && !subscribe && topic == "topic"),
                other => assert!(!to_publisher && matches!(other, Input::Nothing)),
            }
        }
    }
    for part in [Part::more("envelope"), Part::more(""), Part::last(vec![7; 1000])] {
        let (body, flags) = (part.body.clone(), part.flags);
        let wire = from.encode(part).unwrap();
        match to.handle_part(wire, now).unwrap() {
            Input::Deliver(part) => assert_eq!((part.body, part.flags), (body, flags)),
            other => assert!(to_publisher && matches!(other, Input::Nothing)),
        }
    }
}

const GRANTED: Admission = Admission::Granted { user_id: Vec::new(), metadata: Vec::new() };

#[test]
fn a_ciphering_mechanism_fits() {
    let t0 = Instant::now();
    let pairs = [(SocketType::Dealer, SocketType::Router), (SocketType::Sub, SocketType::Pub)];
    for (a_type, b_type) in pairs {
        let (mut a, mut b) = (ciphered(a_type, 1, false, t0), ciphered(b_type, 1, false, t0));
        converse(&mut a, &mut b, t0);
        assert_eq!(a.peer().unwrap().socket_type, b_type);
        assert!(!a.passes_data() && !b.passes_data());
        exchange(&mut a, &mut b, t0);
        exchange(&mut b, &mut a, t0);
        // Heartbeats go under cover, too, and keep both alive.
        for tick in 1..10 {
            let now = t0 + 100 * MS * tick;
            a.handle_timeout(now).unwrap();
            let ping = a.poll_command().unwrap();
            assert!(ping.flags.command() && ping.body.starts_with(b"\x07MESSAGE"));
            b.handle_part(ping, now).unwrap();
            converse(&mut a, &mut b, now + MS);
        }
        // GAP is the transport's word and survives.
        let mut part = b.encode(Part::last("after a gap")).unwrap();
        assert!(!part.body.windows(3).any(|window| window == b"gap"));
        part.flags = part.flags.with(Flags::GAP);
        if let Input::Deliver(part) = a.handle_part(part, t0).unwrap() {
            assert!(part.flags.gap() && part.body == "after a gap");
        }
        // A part that is lost, repeated or changed is noticed.
        let lost = a.encode(Part::last("one")).unwrap();
        let next = a.encode(Part::last("two")).unwrap();
        drop(lost);
        assert_violation(b.handle_part(next, t0), Violation::BadCommand);
    }
    let (mut a, mut b) = (ciphered(SocketType::Pair, 1, false, t0), ciphered(SocketType::Pair, 2, false, t0));
    assert_violation(b.handle_part(a.poll_command().unwrap(), t0), Violation::BadCommand);
}

#[test]
fn admission_may_come_late() {
    let t0 = Instant::now();
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
    assert!(b.poll_admission().is_none());
    // A verdict that nobody asked for opens no door.
    assert!(matches!(b.admit(GRANTED, t0), Ok(Input::Nothing)));
    assert!(matches!(b.admit(Admission::Refused { status: 400 }, t0), Ok(Input::Nothing)));
    converse(&mut a, &mut b, t0);
    assert!(b.peer().is_none(), "the peer has said READY and is not in");
    let question = b.poll_admission().unwrap();
    assert_eq!(question.credentials, [Frame::from(&1u64.to_be_bytes())]);
    assert!(b.poll_admission().is_none());
    assert!(b.poll_command().is_none());
    assert!(b.encode(Part::last("early")).is_none());
    let metadata = vec![("Group".to_owned(), b"staff".to_vec())];
    let verdict = Admission::Granted { user_id: b"lucy".to_vec(), metadata };
    assert!(matches!(b.admit(verdict, t0 + MS), Ok(Input::Ready)));
    let names: Vec<_> = b.peer().unwrap().metadata.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, ["Peer-Address", "User-Id", "Group"]);
    converse(&mut a, &mut b, t0);
    exchange(&mut a, &mut b, t0);
    exchange(&mut b, &mut a, t0);

    // Both sides late.
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, true, t0), ciphered(SocketType::Rep, 1, true, t0));
    converse(&mut a, &mut b, t0);
    assert!(a.poll_admission().is_some() && b.poll_admission().is_some());
    assert!(matches!(a.admit(GRANTED, t0), Ok(Input::Nothing)));
    converse(&mut a, &mut b, t0);
    assert!(matches!(b.admit(GRANTED, t0), Ok(Input::Ready)));
    converse(&mut a, &mut b, t0);
    exchange(&mut a, &mut b, t0);

    // Never.
    let (mut a, mut b) = (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
    converse(&mut a, &mut b, t0);
    assert!(b.poll_admission().is_some());
    assert_eq!(b.handle_timeout(t0 + Duration::from_secs(30)), Err(DownReason::TimedOut));
}

/// Asks for admission and does not wait for the answer, and listens to anything.
#[derive(Debug)]
struct Careless {
    asked: bool,
    heard: bool,
}

impl MechanismFactory for Careless {
    fn name(&self) -> MechanismName {
        MechanismName::NULL
    }
    fn start(&self, _: Vec<u8>, _: &PeerInfo) -> Result<Box<dyn Mechanism>, Violation> {
        Ok(Box::new(Self { asked: false, heard: false }))
    }
}

impl Mechanism for Careless {
    fn handle_command<'a>(&mut self, command: &Command<'a>) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        self.heard |= command.name == b"READY";
        Ok(self.heard.then_some(Cow::Borrowed(command.data)))
    }
    fn poll_command(&mut self) -> Option<Frame> {
        None
    }
    fn poll_admission(&mut self) -> Option<AdmissionRequest> {
        let request = AdmissionRequest { mechanism: self.name(), credentials: Vec::new() };
        (!std::mem::replace(&mut self.asked, true)).then_some(request)
    }
    fn ready(&self) -> bool {
        self.heard
    }
    fn encode(&mut self, part: Part) -> Part {
        part
    }
    fn decode(&mut self, part: Part) -> Result<Part, Violation> {
        Ok(part)
    }
}

#[test]
fn a_careless_mechanism_lets_nobody_in_and_nobody_talk_for_ever() {
    let now = Instant::now();
    let mechanism = || Arc::new(Careless { asked: false, heard: false });
    let mut session = start(SessionConfig { mechanism: mechanism(), ..config(SocketType::Pair) }, 1, now);
    assert!(session.poll_admission().is_some());
    assert!(matches!(session.handle_part(ready_of(SocketType::Pair), now), Ok(Input::Nothing)));
    assert!(session.peer().is_none());
    assert!(matches!(session.admit(GRANTED, now), Ok(Input::Ready)));

    let mut session = start(SessionConfig { mechanism: mechanism(), ..config(SocketType::Pair) }, 1, now);
    for _ in 0..HANDSHAKE_COMMANDS_MAX {
        assert!(matches!(session.handle_part(command("HELLO", b""), now), Ok(Input::Nothing)));
    }
    assert_violation(session.handle_part(command("HELLO", b""), now), Violation::CommandFlood);
}

#[test]
fn the_refused_are_told_unless_it_is_for_now() {
    let t0 = Instant::now();
    for (status, told) in [(300, None), (400, Some(b"400")), (500, Some(b"500"))] {
        let (mut a, mut b) =
            (ciphered(SocketType::Req, 1, false, t0), ciphered(SocketType::Rep, 1, true, t0));
        converse(&mut a, &mut b, t0);
        assert!(b.poll_admission().is_some());
        assert_violation(b.admit(Admission::Refused { status }, t0), REFUSED);
        assert!(b.peer().is_none());
        let error = b.poll_command();
        assert_eq!(error.is_some(), told.is_some());
        if let Some(error) = error {
            assert_violation(a.handle_part(error, t0), REFUSED);
        }
        assert_eq!(a.refusal(), told.map(|told| &told[..]));
        assert_violation(b.admit(GRANTED, t0), REFUSED);
    }
}
