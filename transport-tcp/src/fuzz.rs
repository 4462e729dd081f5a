//! The pure machines under any bytes at all: properties for the fuzz targets and for the test that replays their corpus.
//! Not part of the interface; no product calls it.

use std::convert::Infallible;

use transport_core::limits::FRAME_MAX;
use transport_core::{
    Completion, DownReason, Endpoint, Frame, FramePool, Hello, LinkId, Part, Role, SlabKey, Violation,
};

use crate::address::Address;
use crate::greeting::{Greeting, Step};
use crate::incoming::{Buffers, Incoming, Stop};
use crate::ipc::Name;
use crate::limits::{COMMAND_MAX, QUEUE_BYTES_MAX};
use crate::outgoing::{Outgoing, SendBuffers};
use crate::zmtp::Framing;

/// A greeting comes to the same, and is answered by the same, however it is cut.
pub fn check_greeting(bytes: &[u8]) {
    let whole = meet(bytes, bytes.len());
    assert_eq!(meet(bytes, 1), whole);
    assert_eq!(meet(bytes, 7), whole);
}

/// What is said to a peer, and what it is taken for: hello, type, routing id, framing, and the greeting's length.
type Met = (Vec<u8>, Result<Option<(Hello, Option<(&'static str, Frame)>, Framing, usize)>, Violation>);

/// Of `bytes`, which arrive in pieces.
fn meet(bytes: &[u8], piece: usize) -> Met {
    let (mut greeting, signature) = Greeting::new(Hello::NULL, "ROUTER", "fuzz".into());
    let mut said = signature.to_vec();
    for end in (0..bytes.len()).step_by(piece.max(1)).skip(1).chain([bytes.len()]) {
        loop {
            match greeting.hear(&bytes[..end]) {
                Ok(Step::Wait) => break,
                Ok(Step::Say(more)) => said.extend(more),
                Ok(Step::Done(greeted)) => {
                    assert!(greeted.len <= end);
                    let identity =
                        greeted.identity.map(|identity| (identity.socket_type, identity.routing_id));
                    return (said, Ok(Some((greeted.hello, identity, greeted.framing, greeted.len))));
                }
                Err(violation) => return (said, Err(violation)),
            }
        }
    }
    (said, Ok(None))
}

/// Any text is an address or is not; what is one can be listened at or dialled, or says why not.
pub fn check_endpoint(bytes: &[u8]) {
    let Some(endpoint) = std::str::from_utf8(bytes).ok().and_then(|text| Endpoint::parse(text).ok()) else {
        return;
    };
    match Address::parse(&endpoint) {
        Ok(Address::Tcp(address)) => {
            let (listens, dials) = (address.clone().listen(&endpoint), address.clone().dial(&endpoint));
            assert_eq!(listens.is_ok(), address.source.is_none());
            assert!(dials.is_err() || address.target.port > 0);
        }
        Ok(Address::Ipc(name)) => {
            let dials = name.clone().locate(&endpoint, Role::Connect);
            assert_eq!(dials.is_ok(), name != Name::Any);
            assert_eq!(name.clone().locate(&endpoint, Role::Bind), Ok(name));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(
                ["host:port", "ipc://feed", "bytes long"].iter().any(|hint| said.contains(hint)),
                "{said}"
            );
        }
    }
}

/// A stream decodes to the same parts however it is cut, those parts encode to a stream that decodes to them again, and
/// nothing is held when it is over. The first byte says how many bytes of cuts follow.
pub fn check_framing(bytes: &[u8]) {
    let Some((&cuts, rest)) = bytes.split_first() else {
        return;
    };
    let (cuts, stream) = rest.split_at(usize::from(cuts).min(rest.len()));
    let (whole, end) = simple(stream);
    let (parts, broken) = decode(stream, cuts);
    assert_eq!(broken, end.map(DownReason::from));
    assert_same(&parts, &whole);
    let (again, broken) = decode(&encode(parts), cuts);
    assert_eq!(broken, None);
    assert_same(&again, &whole);
}

/// COMMAND, MORE and the body.
type Plain<'a> = (bool, bool, &'a [u8]);

fn assert_same(parts: &[Part], want: &[Plain<'_>]) {
    assert_eq!(parts.len(), want.len());
    for (part, (command, more, body)) in parts.iter().zip(want) {
        assert_eq!((part.flags.command(), part.flags.more(), &*part.body), (*command, *more, *body));
    }
}

/// What the machine must come to, said as simply as can be.
fn simple(mut bytes: &[u8]) -> (Vec<Plain<'_>>, Option<Violation>) {
    let mut parts = Vec::new();
    while let Some(&flags) = bytes.first() {
        if flags > 7 || flags & 5 == 5 {
            return (parts, Some(Violation::BadFrame));
        }
        let (len, body) = match bytes {
            [_, len, body @ ..] if flags & 2 == 0 => (u64::from(*len), body),
            [_, a, b, c, d, e, f, g, h, body @ ..] if flags & 2 != 0 => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), body)
            }
            _ => break,
        };
        if len > if flags & 4 != 0 { COMMAND_MAX } else { FRAME_MAX } {
            return (parts, Some(Violation::TooLarge));
        }
        let Some((body, rest)) = usize::try_from(len).ok().and_then(|len| body.split_at_checked(len)) else {
            break;
        };
        parts.push((flags & 4 != 0, flags & 1 != 0, body));
        bytes = rest;
    }
    (parts, None)
}

/// Decodes a stream that arrives in pieces of the given lengths, the rest at once; grants and budgets come as small.
pub(crate) fn decode(stream: &[u8], cuts: &[u8]) -> (Vec<Part>, Option<DownReason>) {
    let pool = FramePool::new(8 << 20);
    let mut buffers = Buffers::new(pool.clone());
    let mut incoming = Incoming::new(None);
    let link = LinkId::from(SlabKey::from_u64(1 << 32));
    let (mut out, mut stream, mut pieces) = (Vec::new(), stream, cuts.iter());
    let broken = loop {
        let small = pieces.as_slice().first().copied().unwrap_or(u8::MAX);
        match incoming.deliver(&mut buffers, link, out.len() + 1 + usize::from(small), &mut out) {
            Ok(Stop::Hungry) if stream.is_empty() => break None,
            Ok(Stop::Hungry) => {}
            Ok(Stop::Budget) => continue,
            Ok(Stop::Paused) => {
                incoming.settle(&mut buffers);
                incoming.set_grant(1 + u64::from(small));
                continue;
            }
            Err(reason) => break Some(reason),
        }
        if small % 2 == 0 {
            incoming.settle(&mut buffers);
        }
        let piece = pieces.next().map_or(usize::MAX, |&piece| usize::from(piece).max(1));
        let read = incoming.read_with(&mut buffers, |slices| {
            let mut taken = 0;
            for slice in slices {
                let n = slice.len().min(stream.len()).min(piece - taken);
                slice[..n].copy_from_slice(&stream[..n]);
                stream = &stream[n..];
                taken += n;
            }
            Ok::<_, Infallible>(taken)
        });
        let Ok(_) = read;
    };
    incoming.abandon(&mut buffers);
    let parts = out.into_iter().filter_map(|completion| match completion {
        Completion::Received { part, .. } => Some(part),
        _ => None,
    });
    let parts: Vec<_> = parts.collect();
    let held = parts.iter().filter(|part| part.body.len() > transport_core::INLINE_MAX).count();
    assert!(pool.usage().lent_slots <= held, "a slot was lost");
    (parts, broken)
}

fn encode(parts: Vec<Part>) -> Vec<u8> {
    let (mut outgoing, mut buffers, mut wire) =
        (Outgoing::new(QUEUE_BYTES_MAX), SendBuffers::default(), Vec::new());
    for part in parts {
        outgoing.push(&mut buffers, part);
        let mut slices = [std::io::IoSlice::new(&[]); crate::limits::GATHER_MAX];
        let n = outgoing.gather(&mut slices);
        let before = wire.len();
        slices[..n].iter().for_each(|slice| wire.extend_from_slice(slice));
        let taken = wire.len() - before;
        outgoing.advance(&mut buffers, taken);
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(target: &str, check: impl Fn(&[u8])) {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
        let mut replayed = 0;
        for entry in std::fs::read_dir(format!("{corpus}{target}")).expect("the corpus is checked in") {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0);
    }

    #[test]
    fn the_corpus_holds() {
        replay("greeting", check_greeting);
        replay("framing", check_framing);
        replay("endpoint", check_endpoint);
    }

    #[test]
    fn random_streams_hold() {
        let mut random = 0x9E37_79B9_7F4A_7C15u64;
        let mut below = |end: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 16) % end
        };
        for _ in 0..2000 {
            let mut bytes = vec![below(12) as u8];
            for _ in 0..bytes[0] {
                bytes.push(below(256) as u8);
            }
            for _ in 0..below(12) {
                let len = [below(4), below(100), below(400), below(12_000)][below(4) as usize];
                let kind = [0, 1, 4][below(3) as usize];
                if len < 256 {
                    bytes.extend_from_slice(&[kind, len as u8]);
                } else {
                    bytes.push(kind | 2);
                    bytes.extend_from_slice(&len.to_be_bytes());
                }
                bytes.extend((0..len).map(|at| at as u8));
            }
            if below(10) == 0 {
                bytes.extend((0..below(12)).map(|_| below(256) as u8).collect::<Vec<_>>());
            }
            check_framing(&bytes);
        }
    }

    #[test]
    fn every_cut_of_a_stream_holds() {
        let mut stream = Vec::new();
        for (kind, len) in [(0u8, 0usize), (1, 1), (4, 70), (0, 71), (1, 255)] {
            stream.extend_from_slice(&[kind, len as u8]);
            stream.extend(std::iter::repeat_n(kind, len));
        }
        stream.push(2);
        stream.extend_from_slice(&300u64.to_be_bytes());
        stream.extend([5; 300]);
        for first in 1..=255u8 {
            for second in [1, 2, 9, 255] {
                let mut bytes = vec![2, first, second];
                bytes.extend_from_slice(&stream);
                check_framing(&bytes);
            }
        }
    }
}
