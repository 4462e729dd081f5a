//! What two ends say to each other before endpoints without connections can talk: bytes to meaning and back. Does no I/O.
//! docs/spec/ofi-hello.md has it in full.

use rdma_links::fabric::PrivateData;

use crate::device::Witness;
use crate::limits::{NAME_MAX, PROVIDER_MAX};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The dialler asks.
    Ask = 1,
    /// The listener agrees.
    Yes = 2,
    /// The listener does not.
    No = 3,
}

/// One hello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    /// The sender's provider. Both must have the same: no two speak the same language.
    pub(super) provider: String,
    /// The sender's endpoint, in the provider's terms; empty in a No.
    pub(super) name: Vec<u8>,
    /// Where peers are processes of one host: how to make sure of the sender's.
    pub(super) witness: Option<Witness>,
    /// The connection data of the packet protocol.
    pub(super) private: PrivateData,
}

/// Why bytes are no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// Somebody else's protocol, or a provider's own.
    NotOurs,
    /// A version of this one that is not known.
    Version(u8),
    /// A length or a kind that there is not.
    Field,
}

const MAGIC: [u8; 4] = *b"FBQO";
const VERSION: u8 = 1;
const HEAD: usize = 12;

/// The most bytes that a hello has.
pub(super) const HELLO_MAX: usize =
    HEAD + PROVIDER_MAX + NAME_MAX + rdma_links::PRIVATE_DATA_MAX + Witness::LEN;

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        let provider = &self.provider.as_bytes()[..self.provider.len().min(PROVIDER_MAX)];
        let name = &self.name[..self.name.len().min(NAME_MAX)];
        let witness = self.witness.map(|witness| witness.to_bytes());
        let witness = witness.as_ref().map_or(&[][..], |bytes| bytes);
        let mut bytes = Vec::with_capacity(HELLO_MAX);
        bytes.extend(MAGIC);
        bytes.extend([VERSION, self.kind as u8, self.private.len() as u8, provider.len() as u8]);
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend((witness.len() as u16).to_le_bytes());
        for part in [provider, name, &self.private, witness] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads the hello that `bytes` begin with, and says how long it is. `None`: more bytes are needed.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(Malformed::NotOurs);
        }
        if let Some(version) = bytes.get(4).filter(|version| **version != VERSION) {
            return Err(Malformed::Version(*version));
        }
        let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
        let kind = match head[5] {
            1 => Kind::Ask,
            2 => Kind::Yes,
            3 => Kind::No,
            _ => return Err(Malformed::Field),
        };
        let (private, provider) = (usize::from(head[6]), usize::from(head[7]));
        let name = usize::from(u16::from_le_bytes([head[8], head[9]]));
        let witness = usize::from(u16::from_le_bytes([head[10], head[11]]));
        if private > rdma_links::PRIVATE_DATA_MAX
            || provider > PROVIDER_MAX
            || name > NAME_MAX
            || ![0, Witness::LEN].contains(&witness)
        {
            return Err(Malformed::Field);
        }
        let len = HEAD + provider + name + private + witness;
        let Some(body) = bytes.get(HEAD..len) else { return Ok(None) };
        let (its_provider, rest) = body.split_at(provider);
        let (its_name, rest) = rest.split_at(name);
        let (its_private, its_witness) = rest.split_at(private);
        let its_provider = std::str::from_utf8(its_provider).map_err(|_| Malformed::Field)?;
        let hello = Self {
            kind,
            provider: its_provider.to_owned(),
            name: its_name.to_vec(),
            witness: Witness::from_bytes(its_witness),
            private: PrivateData::new(its_private),
        };
        Ok(Some((hello, len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            kind: Kind::Ask,
            provider: "tcp;ofi_rxm".to_owned(),
            name: b"fi_shm://1234:0:7".to_vec(),
            witness: Witness::from_bytes(&[7; Witness::LEN]),
            private: PrivateData::new(&[7; 56]),
        }
    }

    #[test]
    fn hellos_survive_and_every_cut_waits_for_more() {
        let bytes = hello().encode();
        assert_eq!(bytes.len(), 12 + 11 + 17 + 56 + Witness::LEN);
        assert_eq!(Hello::decode(&bytes), Ok(Some((hello(), bytes.len()))));
        for len in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..len]), Ok(None), "{len}");
        }
        let longer = [&bytes[..], b"more"].concat();
        assert_eq!(Hello::decode(&longer), Ok(Some((hello(), bytes.len()))), "what follows is not read");
        let no = Hello { kind: Kind::No, name: Vec::new(), witness: None, ..hello() };
        assert_eq!(Hello::decode(&no.encode()).unwrap().unwrap().0, no);
    }

    #[test]
    fn what_is_no_hello_is_told_at_its_first_wrong_byte() {
        assert_eq!(Hello::decode(&[0xFF]), Err(Malformed::NotOurs), "ZMTP");
        assert_eq!(Hello::decode(b"FBQ1"), Err(Malformed::NotOurs), "the packet protocol itself");
        assert_eq!(Hello::decode(b"FBQO\x02"), Err(Malformed::Version(2)));
        for (at, byte) in [(5, 0), (5, 4), (6, 57), (7, PROVIDER_MAX as u8 + 1), (9, 0xFF), (10, 1)] {
            let mut bytes = hello().encode();
            bytes[at] = byte;
            assert_eq!(Hello::decode(&bytes), Err(Malformed::Field), "{at}: {byte}");
        }
        let mut bytes = hello().encode();
        bytes[12] = 0xFF;
        assert_eq!(Hello::decode(&bytes), Err(Malformed::Field), "a provider's name is text");
    }
}
