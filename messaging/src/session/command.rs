//! The grammar of commands: name and data (ZMTP 3.1 section "Formal Grammar"). Builds and reads them; gives them no
//! meaning.

use transport_core::{Frame, Part, Violation};

/// A command as it arrived, taken apart. Borrows the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// `READY`, `PING`, ...
    pub name: &'a [u8],
    /// What follows the name.
    pub data: &'a [u8],
}

impl<'a> Command<'a> {
    /// `command-body = command-name command-data`, with a name of 1 to 255 letters.
    pub fn read(body: &'a [u8]) -> Result<Self, Violation> {
        let (&len, rest) = body.split_first().ok_or(Violation::BadCommand)?;
        let (name, data) = rest.split_at_checked(usize::from(len)).ok_or(Violation::BadCommand)?;
        if name.is_empty() || !name.iter().all(u8::is_ascii_alphabetic) {
            return Err(Violation::BadCommand);
        }
        Ok(Self { name, data })
    }

    /// The body of the command `name` (at most 255 letters) with `data` in pieces.
    pub fn write(name: &str, data: &[&[u8]]) -> Frame {
        debug_assert!(!name.is_empty() && name.len() <= 255);
        let mut body =
            Vec::with_capacity(1 + name.len() + data.iter().map(|piece| piece.len()).sum::<usize>());
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        for piece in data {
            body.extend_from_slice(piece);
        }
        body.into()
    }
}

/// `error-reason = short-size 0*255VCHAR` (section "The NULL Security Mechanism"). The characters are for a log and
/// not checked; libzmq tolerates bytes behind the reason, and so do we.
pub(super) fn error_reason(data: &[u8]) -> Result<&[u8], Violation> {
    let (&len, rest) = data.split_first().ok_or(Violation::BadCommand)?;
    rest.get(..usize::from(len)).ok_or(Violation::BadCommand)
}

/// An ERROR command; a reason beyond 255 bytes is cut.
pub(super) fn error(reason: &str) -> Part {
    let reason = &reason.as_bytes()[..reason.len().min(255)];
    Part::command(Command::write("ERROR", &[&[reason.len() as u8], reason]))
}

/// What a part `[1 or 0, topic..]` says: whether to subscribe or to cancel, and the topic. It is ZMTP 3.0's message
/// form (RFC 23 section "The Publish-Subscribe Pattern") and the form in which pipes carry subscriptions.
pub(super) fn subscription(body: &[u8]) -> Option<(bool, &[u8])> {
    match body.split_first()? {
        (1, topic) => Some((true, topic)),
        (0, topic) => Some((false, topic)),
        _ => None,
    }
}
