//! Traffic of a session that is ready: subscriptions, commands without effect, payload.

use super::*;

#[test]
fn a_publisher_takes_both_forms_from_both_versions() {
    let now = Instant::now();
    for minor in [0, 1, 9] {
        let mut session = established(config(SocketType::Pub), SocketType::Sub, minor, now);
        let mut hear = |part| session.handle_part(part, now).unwrap();
        assert!(matches!(hear(command("SUBSCRIBE", b"A")), Input::Subscribe(topic) if topic == "A"));
        assert!(matches!(hear(command("CANCEL", b"")), Input::Cancel(topic) if topic.is_empty()));
        assert!(matches!(hear(Part::last(b"\x01A")), Input::Subscribe(topic) if topic == "A"));
        assert!(matches!(hear(Part::last(b"\0A")), Input::Cancel(topic) if topic == "A"));
        // Anything else is dropped, and the parts of a message are no subscriptions.
        for part in [Part::last(b""), Part::last(b"\x02"), Part::more(b"\x01A"), Part::last(b"\x01B")] {
            assert!(matches!(hear(part), Input::Nothing));
        }
        assert!(matches!(hear(Part::last(b"\x01C")), Input::Subscribe(_)));
    }
    let mut xpub = established(config(SocketType::Xpub), SocketType::Xsub, 1, now);
    assert!(matches!(xpub.handle_part(Part::last("hello"), now), Ok(Input::Deliver(_))));
    assert!(matches!(xpub.handle_part(Part::last(b"\x01A"), now), Ok(Input::Subscribe(_))));
}

#[test]
fn topics_are_bounded() {
    let now = Instant::now();
    let mut form = vec![1; TOPIC_MAX + 1];
    for publisher in [SocketType::Pub, SocketType::Xpub] {
        let mut session = established(config(publisher), SocketType::Sub, 1, now);
        assert!(matches!(session.handle_part(Part::last(form.clone()), now), Ok(Input::Subscribe(_))));
        assert!(matches!(
            session.handle_part(command("SUBSCRIBE", &form[1..]), now),
            Ok(Input::Subscribe(_))
        ));
        assert_violation(session.handle_part(command("CANCEL", &form), now), Violation::TooLarge);
    }
    form.push(1);
    let mut session = established(config(SocketType::Pub), SocketType::Sub, 0, now);
    assert_violation(session.handle_part(Part::last(form), now), Violation::TooLarge);
}

#[test]
fn what_has_no_effect_is_ignored_up_to_a_rate() {
    let t0 = Instant::now();
    for part in
        [command("NEWS", b"?"), command("SUBSCRIBE", b"A"), command("JOIN", b"A"), command("PONG", b"")]
    {
        let mut session = established(config(SocketType::Pull), SocketType::Push, 1, t0);
        for second in 0..3 {
            for _ in 0..IGNORED_MAX {
                let input = session.handle_part(part.clone(), t0 + IGNORED_WINDOW * second).unwrap();
                assert!(matches!(input, Input::Nothing));
            }
        }
        let outcome = session.handle_part(part, t0 + IGNORED_WINDOW * 2 + 999 * MS);
        assert_violation(outcome, Violation::CommandFlood);
    }
    let mut session = established(config(SocketType::Pull), SocketType::Push, 1, t0);
    let part = Part { flags: Flags::COMMAND.with(Flags::MORE), ..command("NEWS", b"") };
    assert_violation(session.handle_part(part, t0), Violation::BadFrame);
}

#[test]
fn data_passes_without_a_copy() {
    let now = Instant::now();
    let mut session = established(config(SocketType::Dealer), SocketType::Dealer, 1, now);
    let body = Frame::from(vec![1; 1000]);
    let address = body.as_ptr();
    let sent = session.encode(Part::more(body)).unwrap();
    let Ok(Input::Deliver(part)) = session.handle_part(sent, now) else { panic!("not delivered") };
    assert_eq!((part.body.as_ptr(), part.flags), (address, Flags::MORE));
}

/// RFC 48: groups have commands of their own, in ZMTP 3.0 as well, and subscriptions mean nothing to a RADIO.
#[test]
fn groups_are_joined_and_left_by_command() {
    let now = Instant::now();
    for minor in [0, 1] {
        let mut dish = start(config(SocketType::Dish), minor, now);
        let mut radio = start(config(SocketType::Radio), minor, now);
        converse(&mut dish, &mut radio, now);
        for (told, wire) in [(b"\x01news", &b"\x04JOINnews"[..]), (b"\0news", b"\x05LEAVEnews")] {
            let part = dish.encode(Part::command(told)).unwrap();
            assert!(part.flags.command() && part.body == *wire);
            match radio.handle_part(part, now).unwrap() {
                Input::Subscribe(group) => assert!(told[0] == 1 && group == "news"),
                Input::Cancel(group) => assert!(told[0] == 0 && group == "news"),
                other => panic!("{other:?}"),
            }
        }
        for stray in [Part::command(b"\x09SUBSCRIBEnews"), Part::last(b"\x01news"), Part::last("data")] {
            assert!(matches!(radio.handle_part(stray, now), Ok(Input::Nothing)));
        }
    }
}
