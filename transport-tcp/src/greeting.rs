//! How two peers find out which version of ZMTP they share: what to say first, and what the other end said. No I/O, no frames
//! but the one in which peers of ZMTP 1.0 and 2.0 say their routing ids.
//!
//! ```text
//! ZMTP 3.x  signature 10 | version 2 | mechanism 20 | as-server 1 | filler 31                        RFC 23, RFC 37
//! ZMTP 2.0  signature 10 | revision 1 | socket type 1 | frame of the routing id                      RFC 15
//! ZMTP 1.0  frame of the routing id                                                                  RFC 13
//! ```
//!
//! Each end says a piece and hears one before it says the next, as libzmq does: to a peer of ZMTP 1.0 a signature is the header
//! of a routing id's frame, and anything more would be that frame's body.

use transport_core::limits::ROUTING_ID_MAX;
use transport_core::{Frame, Hello, Identity, MechanismName, Violation};

use crate::zmtp::Framing;

/// Bytes of the signature.
const SIGNATURE_LEN: usize = 10;

/// Bytes of the whole greeting of ZMTP 3.
pub(crate) const GREETING_LEN: usize = 64;

/// The socket types by their numbers in ZMTP 2.0 (RFC 15, section "Socket Types").
const TYPES: [&str; 11] =
    ["PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB"];

/// What a peer turned out to be.
#[derive(Debug, Clone)]
pub(crate) struct Greeted {
    pub(crate) hello: Hello,
    /// Of a peer that will say no READY.
    pub(crate) identity: Option<Identity>,
    pub(crate) framing: Framing,
    /// Bytes of what was heard that belong to the greeting.
    pub(crate) len: usize,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// More has to be heard.
    Wait,
    /// Say this, and ask again.
    Say(Vec<u8>),
    /// It is over. What is left to say was said.
    Done(Box<Greeted>),
}

/// How much was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Signature,
    Major,
    All,
}

/// The greeting of one connection.
#[derive(Debug)]
pub(crate) struct Greeting {
    hello: Hello,
    socket_type: &'static str,
    routing_id: Frame,
    said: Said,
}

impl Greeting {
    /// A greeting, and what is said at once.
    pub(crate) fn new(
        hello: Hello,
        socket_type: &'static str,
        routing_id: Frame,
    ) -> (Self, [u8; SIGNATURE_LEN]) {
        let mut signature = [0; SIGNATURE_LEN];
        signature[0] = 0xFF;
        // RFC 37 calls this padding; to ZMTP 1.0 it is the length of a frame, with the octet of its flags.
        signature[1..9].copy_from_slice(&(routing_id.len() as u64 + 1).to_be_bytes());
        signature[9] = 0x7F;
        (Self { hello, socket_type, routing_id, said: Said::Signature }, signature)
    }

    /// Takes what has arrived so far, from the first byte on.
    ///
    /// # Errors
    /// As soon as it can be no greeting, or none of a version that we speak.
    pub(crate) fn hear(&mut self, heard: &[u8]) -> Result<Step, Violation> {
        let Some(&first) = heard.first() else { return Ok(Step::Wait) };
        if first != 0xFF || heard.get(9).is_some_and(|flags| flags & 1 == 0) {
            return self.hear_1(heard);
        }
        let Some(&last) = heard.get(9) else { return Ok(Step::Wait) };
        if last != 0x7F {
            return Err(Violation::BadGreeting);
        }
        if self.said == Said::Signature {
            // RFC 37 section "Version Negotiation": a peer of ZMTP 2 comes by our major to its own.
            self.said = Said::Major;
            return Ok(Step::Say(vec![3]));
        }
        match heard.get(10) {
            None => Ok(Step::Wait),
            // Nothing in use ever spoke it.
            Some(0) => Err(Violation::UnsupportedVersion),
            Some(1 | 2) => self.hear_2(heard),
            Some(&major) => self.hear_3(major, heard),
        }
    }

    fn hear_3(&mut self, major: u8, heard: &[u8]) -> Result<Step, Violation> {
        if self.said == Said::Major {
            self.said = Said::All;
            let mut rest = vec![0; GREETING_LEN - SIGNATURE_LEN - 1];
            rest[0] = self.hello.minor;
            rest[1..21].copy_from_slice(&self.hello.mechanism.to_wire());
            rest[21] = u8::from(self.hello.as_server);
            return Ok(Step::Say(rest));
        }
        let Some(bytes) = heard.first_chunk::<GREETING_LEN>() else { return Ok(Step::Wait) };
        let mut mechanism = [0; 20];
        mechanism.copy_from_slice(&bytes[12..32]);
        // A peer of a later major speaks our version once it has seen our greeting.
        let minor = if major > 3 { 1 } else { bytes[11] };
        let mechanism = MechanismName::from_wire(mechanism);
        Ok(Step::Done(Box::new(Greeted {
            hello: Hello { minor, mechanism, as_server: bytes[32] & 1 != 0 },
            identity: None,
            framing: Framing::Zmtp3,
            len: GREETING_LEN,
        })))
    }

    fn hear_2(&mut self, heard: &[u8]) -> Result<Step, Violation> {
        if self.said == Said::Major {
            self.said = Said::All;
            let number = TYPES.iter().position(|name| *name == self.socket_type);
            // One that came later goes with none of them.
            let number = number.ok_or(Violation::IncompatibleSocket)?;
            let mut rest = vec![number as u8, 0, self.routing_id.len() as u8];
            rest.extend_from_slice(&self.routing_id);
            return Ok(Step::Say(rest));
        }
        let Some(&number) = heard.get(SIGNATURE_LEN + 1) else { return Ok(Step::Wait) };
        let socket_type = TYPES.get(usize::from(number)).ok_or(Violation::IncompatibleSocket)?;
        self.hear_routing_id(heard, SIGNATURE_LEN + 2, Framing::Zmtp2, socket_type)
    }

    fn hear_1(&mut self, heard: &[u8]) -> Result<Step, Violation> {
        // What is no peer of any version should be found out by its first bytes: a routing id is the last part of its
        // message, and its length is known.
        let flags = if heard[0] == 0xFF { heard.get(9) } else { heard.get(1) };
        if heard[0] == 0 || flags.is_some_and(|flags| *flags != 0) {
            return Err(Violation::BadGreeting);
        }
        if flags.is_none() {
            return Ok(Step::Wait);
        }
        if self.said == Said::Signature {
            // The signature was the header of this.
            self.said = Said::All;
            return Ok(Step::Say(self.routing_id.to_vec()));
        }
        // Its type it never says.
        self.hear_routing_id(heard, 0, Framing::Zmtp1, "")
    }

    /// The frame behind the first `at` bytes is the peer's routing id.
    fn hear_routing_id(
        &self,
        heard: &[u8],
        at: usize,
        framing: Framing,
        socket_type: &'static str,
    ) -> Result<Step, Violation> {
        let header =
            framing.parse(&heard[at..], ROUTING_ID_MAX as u64).map_err(|_| Violation::BadGreeting)?;
        let Some(header) = header else { return Ok(Step::Wait) };
        let Some(id) = heard[at + header.len..].get(..header.body) else { return Ok(Step::Wait) };
        if header.flags.more() {
            return Err(Violation::BadGreeting);
        }
        let identity =
            Identity { socket_type, routing_id: Frame::copy_from_slice(id), ..Identity::default() };
        Ok(Step::Done(Box::new(Greeted {
            hello: Hello { minor: 0, ..Hello::NULL },
            identity: Some(identity),
            framing,
            len: at + header.len + header.body,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVE: Hello = Hello { minor: 1, mechanism: MechanismName::new("CURVE"), as_server: true };

    /// What a greeting says to a peer of which `bytes` arrive in pieces of `piece`, and what it takes the peer for.
    fn meet(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Option<Greeted>), Violation> {
        let (mut greeting, signature) = Greeting::new(CURVE, "DEALER", "me".into());
        let mut said = signature.to_vec();
        for end in (0..bytes.len()).step_by(piece).skip(1).chain([bytes.len()]) {
            loop {
                match greeting.hear(&bytes[..end])? {
                    Step::Wait => break,
                    Step::Say(more) => said.extend(more),
                    Step::Done(greeted) => return Ok((said, Some(*greeted))),
                }
            }
        }
        Ok((said, None))
    }

    fn three(minor: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, minor];
        bytes.extend_from_slice(b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.resize(GREETING_LEN, 0);
        bytes
    }

    #[test]
    fn peers_of_zmtp_3_are_met_at_every_split() {
        for piece in 1..=GREETING_LEN + 1 {
            for minor in [0, 1] {
                let mut bytes = three(minor);
                bytes.push(4);
                let (said, greeted) = meet(&bytes, piece).unwrap();
                let greeted = greeted.unwrap();
                assert_eq!(greeted.hello, Hello { minor, ..Hello::NULL });
                assert!(greeted.identity.is_none());
                assert_eq!((greeted.framing, greeted.len), (Framing::Zmtp3, GREETING_LEN));
                let mut whole = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 3, 0x7F, 3, 1];
                whole.extend_from_slice(b"CURVE\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01");
                whole.resize(GREETING_LEN, 0);
                assert_eq!(said, whole);
            }
        }
        let mut later = three(7);
        later[10] = 4;
        assert_eq!(meet(&later, 64).unwrap().1.unwrap().hello.minor, 1, "it comes down to us");
    }

    /// As libzmq 3.2's DEALER with the routing id "peer" says it.
    #[test]
    fn peers_of_zmtp_2_are_met_at_every_split() {
        let bytes = b"\xFF\0\0\0\0\0\0\0\x05\x7F\x01\x06\0\x04peer\0\x01x";
        for piece in 1..=bytes.len() {
            let (said, greeted) = meet(bytes, piece).unwrap();
            let greeted = greeted.unwrap();
            let identity = greeted.identity.unwrap();
            assert_eq!((identity.socket_type, &identity.routing_id[..]), ("ROUTER", &b"peer"[..]));
            assert_eq!((greeted.framing, greeted.len), (Framing::Zmtp2, bytes.len() - 3));
            assert_eq!(said, b"\xFF\0\0\0\0\0\0\0\x03\x7F\x03\x05\0\x02me");
        }
    }

    /// As libzmq 2.2 says it: nothing but the frame of the routing id.
    #[test]
    fn peers_of_zmtp_1_are_met_at_every_split() {
        for (bytes, id) in [(&b"\x01\0\x02\0x"[..], ""), (b"\x05\0peer\x02\0x", "peer")] {
            for piece in 1..=bytes.len() {
                let (said, greeted) = meet(bytes, piece).unwrap();
                let greeted = greeted.unwrap();
                let identity = greeted.identity.unwrap();
                assert_eq!((identity.socket_type, &identity.routing_id[..]), ("", id.as_bytes()));
                assert_eq!((greeted.framing, greeted.len), (Framing::Zmtp1, bytes.len() - 3));
                assert_eq!(said, b"\xFF\0\0\0\0\0\0\0\x03\x7Fme", "one frame of two bytes");
            }
        }
        let long = [&[0xFF, 0, 0, 0, 0, 0, 0, 1, 0, 0][..], &[b'i'; 255]].concat();
        let greeted = meet(&long, 3).unwrap().1.unwrap();
        assert_eq!((greeted.identity.unwrap().routing_id.len(), greeted.len), (255, 265));
    }

    #[test]
    fn what_is_no_greeting_is_refused_as_early_as_possible() {
        for (bytes, violation) in [
            (&b"GE"[..], Violation::BadGreeting),
            (b"\0", Violation::BadGreeting),
            (b"\x05\x01", Violation::BadGreeting),
            (b"\xFF\0\0\0\0\0\0\0\x01\x7D", Violation::BadGreeting),
            (b"\xFF\0\0\0\0\0\0\x01\x01\0", Violation::BadGreeting),
            (b"\xFF\0\0\0\0\0\0\0\x01\x7F\0", Violation::UnsupportedVersion),
            (b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01\x0B", Violation::IncompatibleSocket),
            (b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01\x05\x01\0", Violation::BadGreeting),
        ] {
            assert_eq!(meet(bytes, 1).map(|met| met.0).unwrap_err(), violation, "{bytes:?}");
            assert!(meet(&bytes[..bytes.len() - 1], 1).unwrap().1.is_none(), "no sooner: {bytes:?}");
        }
        // A type that came after ZMTP 2.0 has no number there.
        let (mut greeting, _) = Greeting::new(Hello::NULL, "CLIENT", Frame::EMPTY);
        let two = b"\xFF\0\0\0\0\0\0\0\x01\x7F\x01\x05";
        assert!(matches!(greeting.hear(two), Ok(Step::Say(_))));
        assert_eq!(greeting.hear(two).map(drop).unwrap_err(), Violation::IncompatibleSocket);
    }
}
