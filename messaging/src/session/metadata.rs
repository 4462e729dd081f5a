//! The properties that peers tell each other in READY (ZMTP 3.1 section "Connection Metadata"): the dictionary on the
//! wire. Does not judge whether the peer is welcome.

use transport_core::limits::ROUTING_ID_MAX;
use transport_core::{Frame, Violation};

use super::limits::PROPERTIES_MAX;
use crate::socket_type::SocketType;

const SOCKET_TYPE: &str = "Socket-Type";
const IDENTITY: &str = "Identity";

/// A peer's properties.
#[derive(Debug, Default)]
pub(super) struct Properties<'a> {
    /// As announced, perhaps a type that we do not know; `None` when nothing was.
    pub(super) socket_type: Option<&'a [u8]>,
    /// Empty when none was announced.
    pub(super) routing_id: Frame,
    /// All others, in order, with names as the peer spelt them.
    pub(super) others: Vec<(String, Vec<u8>)>,
}

/// Our own properties. Identity goes with the types that announce one, even when it is empty, as libzmq does.
pub(super) fn write(socket_type: SocketType, routing_id: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + routing_id.len());
    property(&mut out, SOCKET_TYPE, socket_type.name().as_bytes());
    if matches!(socket_type, SocketType::Req | SocketType::Dealer | SocketType::Router) {
        property(&mut out, IDENTITY, routing_id);
    }
    out
}

/// `property = name value`: a size octet and the name, four octets of size and the value.
pub(super) fn property(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads `metadata = *property`. Names come in any case; one that says who the peer is may come once only.
pub(super) fn read(mut rest: &[u8]) -> Result<Properties<'_>, Violation> {
    let mut properties = Properties::default();
    let mut identified = false;
    for _ in 0..=PROPERTIES_MAX {
        let Some((&name_len, tail)) = rest.split_first() else {
            return Ok(properties);
        };
        let (name, tail) = tail.split_at_checked(usize::from(name_len)).ok_or(Violation::BadCommand)?;
        // The grammar allows less; whatever prints can do no harm in a log.
        if name.is_empty() || !name.iter().all(|c| matches!(c, b' '..=b'~')) {
            return Err(Violation::BadCommand);
        }
        let (value_len, tail) = tail.split_first_chunk().ok_or(Violation::BadCommand)?;
        let value_len = u32::from_be_bytes(*value_len) as usize;
        // Also enforces the maximum of 2^31 - 1: no command is that long.
        let (value, tail) = tail.split_at_checked(value_len).ok_or(Violation::BadCommand)?;
        rest = tail;
        if name.eq_ignore_ascii_case(SOCKET_TYPE.as_bytes()) {
            if properties.socket_type.replace(value).is_some() {
                return Err(Violation::BadCommand);
            }
        } else if name.eq_ignore_ascii_case(IDENTITY.as_bytes()) {
            // Section "The Identity Property": at most 255 octets; a zero in front is for ids that an implementation
            // makes up, so a peer that sends one wants to pass for another.
            if identified || value.len() > ROUTING_ID_MAX || value.first() == Some(&0) {
                return Err(Violation::BadCommand);
            }
            identified = true;
            properties.routing_id = value.into();
        } else {
            let name = String::from_utf8_lossy(name).into_owned();
            properties.others.push((name, value.to_vec()));
        }
    }
    Err(Violation::BadCommand)
}
