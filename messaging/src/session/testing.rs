//! A mechanism for tests: ciphers every part and waits for admission from outside, as CURVE under ZAP will. Not
//! secure, and not to be offered to users.
//!
//! ```text
//! both:  HELLO check             check = tag over nothing: do the keys agree?
//! both:  (waits for admission)
//! both:  READY sealed(metadata)
//! then:  "\x07MESSAGE" sealed(flags, body)      MORE and COMMAND stand outside as well
//! sealed = counter(8) ciphertext tag(8)         the counter only grows: nothing is lost, repeated or reordered
//! ```

use std::borrow::Cow;
use std::collections::VecDeque;

use transport_core::{Flags, Frame, MechanismName, Part, PeerInfo, Violation};

use super::command::Command;
use super::mechanism::{AdmissionRequest, Mechanism, MechanismFactory};

const MESSAGE: &[u8] = b"\x07MESSAGE";
const COUNTER: usize = 8;
const TAG: usize = 8;

/// The test mechanism. Both sides need the same key.
#[derive(Debug, Clone, Copy)]
pub struct Cipher {
    /// The shared key.
    pub key: u64,
    /// Whether peers need admission from outside. If not, the right key is enough.
    pub late: bool,
}

impl MechanismFactory for Cipher {
    fn name(&self) -> MechanismName {
        MechanismName::new("FABRIQ-TEST")
    }

    fn start(&self, metadata: Vec<u8>, _: &PeerInfo) -> Result<Box<dyn Mechanism>, Violation> {
        Ok(Box::new(CipherLink {
            cipher: *self,
            metadata,
            commands: VecDeque::from([Command::write("HELLO", &[&check(self.key)])]),
            stage: Stage::Greeting,
            peer_ready: false,
            sent: 0,
            received: 0,
        }))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No HELLO yet.
    Greeting,
    /// To be asked.
    Question,
    /// Asked.
    Waiting,
    Admitted,
}

#[derive(Debug)]
struct CipherLink {
    cipher: Cipher,
    metadata: Vec<u8>,
    commands: VecDeque<Frame>,
    stage: Stage,
    peer_ready: bool,
    sent: u64,
    received: u64,
}

impl CipherLink {
    /// Seals `head` and `body` behind `prefix`.
    fn seal(&mut self, prefix: &[u8], head: &[u8], body: &[u8]) -> Vec<u8> {
        self.sent += 1;
        let mut out = Vec::with_capacity(prefix.len() + COUNTER + head.len() + body.len() + TAG);
        out.extend_from_slice(prefix);
        out.extend_from_slice(&self.sent.to_be_bytes());
        let text = out.len();
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        let tag = tag(self.cipher.key, self.sent, &out[text..]);
        apply(self.cipher.key, self.sent, &mut out[text..]);
        out.extend_from_slice(&tag);
        out
    }

    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, Violation> {
        let (counter, rest) = sealed.split_first_chunk().ok_or(Violation::BadCommand)?;
        let (text, seal) = rest.split_last_chunk::<TAG>().ok_or(Violation::BadCommand)?;
        let counter = u64::from_be_bytes(*counter);
        let mut text = text.to_vec();
        apply(self.cipher.key, counter, &mut text);
        // TCP loses and reorders nothing, so anything but the next counter is a forgery or a bug of the engine's.
        if counter != self.received + 1 || *seal != tag(self.cipher.key, counter, &text) {
            return Err(Violation::BadCommand);
        }
        self.received = counter;
        Ok(text)
    }

    fn say_ready(&mut self) {
        let metadata = std::mem::take(&mut self.metadata);
        let sealed = self.seal(&[], &[], &metadata);
        self.commands.push_back(Command::write("READY", &[&sealed]));
        self.stage = Stage::Admitted;
    }
}

impl Mechanism for CipherLink {
    fn handle_command<'a>(&mut self, command: &Command<'a>) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        match (command.name, self.stage) {
            (b"HELLO", Stage::Greeting) => {
                if command.data != check(self.cipher.key) {
                    return Err(Violation::BadCommand);
                }
                if self.cipher.late {
                    self.stage = Stage::Question;
                } else {
                    self.say_ready();
                }
                Ok(None)
            }
            // May come while we wait: the peer has admitted us, and we have not admitted it.
            (b"READY", Stage::Question | Stage::Waiting | Stage::Admitted) if !self.peer_ready => {
                let metadata = self.open(command.data)?;
                self.peer_ready = true;
                Ok(Some(Cow::Owned(metadata)))
            }
            _ => Err(Violation::UnexpectedCommand),
        }
    }

    fn poll_command(&mut self) -> Option<Frame> {
        self.commands.pop_front()
    }

    fn poll_admission(&mut self) -> Option<AdmissionRequest> {
        if self.stage != Stage::Question {
            return None;
        }
        self.stage = Stage::Waiting;
        let credentials = vec![Frame::copy_from_slice(&self.cipher.key.to_be_bytes())];
        Some(AdmissionRequest { mechanism: self.cipher.name(), credentials })
    }

    fn admit(&mut self) -> Result<(), Violation> {
        if self.stage == Stage::Waiting {
            self.say_ready();
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        self.stage == Stage::Admitted && self.peer_ready
    }

    fn encode(&mut self, part: Part) -> Part {
        let inside = u8::from(part.flags.more()) | u8::from(part.flags.command()) << 1;
        let body = self.seal(MESSAGE, &[inside], &part.body);
        Part { body: body.into(), flags: part.flags }
    }

    fn decode(&mut self, part: Part) -> Result<Part, Violation> {
        let sealed = part.body.strip_prefix(MESSAGE).ok_or(Violation::UnexpectedCommand)?;
        let mut text = self.open(sealed)?;
        if text.is_empty() {
            return Err(Violation::BadCommand);
        }
        let flags = match text.remove(0) {
            0 => Flags::LAST,
            1 => Flags::MORE,
            2 => Flags::COMMAND,
            _ => return Err(Violation::BadFrame),
        };
        Ok(Part { body: text.into(), flags })
    }
}

/// One step of splitmix64.
fn mix(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// Adds the key stream of message `counter`; twice is nothing.
fn apply(key: u64, counter: u64, text: &mut [u8]) {
    let stream = mix(key ^ mix(counter));
    for (at, block) in text.chunks_mut(8).enumerate() {
        for (byte, key) in block.iter_mut().zip(mix(stream ^ at as u64).to_be_bytes()) {
            *byte ^= key;
        }
    }
}

/// What HELLO says of the key.
pub(super) fn check(key: u64) -> [u8; TAG] {
    tag(key, 0, &[])
}

fn tag(key: u64, counter: u64, text: &[u8]) -> [u8; TAG] {
    let start = mix(key ^ mix(!counter)) ^ text.len() as u64;
    let sum = text.chunks(8).fold(start, |sum, block| {
        let mut padded = [0; 8];
        padded[..block.len()].copy_from_slice(block);
        mix(sum ^ u64::from_be_bytes(padded))
    });
    sum.to_be_bytes()
}
