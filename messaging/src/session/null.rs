//! The NULL mechanism (ZMTP 3.1 section "The NULL Security Mechanism"): each side says READY, nothing is checked,
//! nothing is changed. Does not read metadata, the session does.

use std::borrow::Cow;

use transport_core::{Frame, MechanismName, Part, PeerInfo, Violation};

use super::command::Command;
use super::mechanism::{Mechanism, MechanismFactory};

/// No security.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null;

impl MechanismFactory for Null {
    fn name(&self) -> MechanismName {
        MechanismName::NULL
    }

    fn start(&self, metadata: Vec<u8>, _: &PeerInfo) -> Result<Box<dyn Mechanism>, Violation> {
        // At once and on both sides, as libzmq does: the RFC's server waits for the client's READY first, which would
        // cost a round trip and tell a client nothing that it could use.
        Ok(Box::new(NullLink { ready: Some(Command::write("READY", &[&metadata])), heard: false }))
    }
}

#[derive(Debug)]
struct NullLink {
    /// Our READY until it is sent.
    ready: Option<Frame>,
    heard: bool,
}

impl Mechanism for NullLink {
    fn handle_command<'a>(&mut self, command: &Command<'a>) -> Result<Option<Cow<'a, [u8]>>, Violation> {
        if self.heard || command.name != b"READY" {
            return Err(Violation::UnexpectedCommand);
        }
        self.heard = true;
        Ok(Some(Cow::Borrowed(command.data)))
    }

    fn poll_command(&mut self) -> Option<Frame> {
        self.ready.take()
    }

    fn ready(&self) -> bool {
        self.heard
    }

    fn passes_data(&self) -> bool {
        true
    }

    fn encode(&mut self, part: Part) -> Part {
        part
    }

    fn decode(&mut self, part: Part) -> Result<Part, Violation> {
        Ok(part)
    }
}
