//! What a security mechanism is to the session: commands in and out until both sides are content, then a coat for
//! every part. Knows no mechanism by name.

use std::borrow::Cow;
use std::fmt::Debug;

use transport_core::{Frame, MechanismName, Part, PeerInfo, Violation};

use super::command::Command;

/// A configured mechanism: what all sessions of a socket share, such as keys.
pub trait MechanismFactory: Debug + Send + Sync {
    /// The name for the greeting.
    fn name(&self) -> MechanismName;

    /// The as-server field of the greeting. `false` for mechanisms without roles.
    fn as_server(&self) -> bool {
        false
    }

    /// Begins the handshake of one link. `metadata` is what the peer shall learn of us, as it stands in READY; the
    /// mechanism says it when its own rules allow. Names were compared already; a mechanism with roles compares those
    /// ([`Violation::MechanismMismatch`]).
    fn start(&self, metadata: Vec<u8>, peer: &PeerInfo) -> Result<Box<dyn Mechanism>, Violation>;
}

/// The mechanism on one link. Does no I/O and reads no clock; randomness comes from its factory.
///
/// ERROR is not its business: the session sends it and takes it, the same way for every mechanism.
pub trait Mechanism: Debug + Send {
    /// A command of the peer, before [`Mechanism::ready`]. Returns the peer's metadata when this is the command that
    /// carries it. The session judges the metadata before it asks for any further command, so that a peer of the
    /// wrong type gets an ERROR and no READY.
    fn handle_command<'a>(&mut self, command: &Command<'a>) -> Result<Option<Cow<'a, [u8]>>, Violation>;

    /// The next command for the peer, in the clear as the handshake wants it.
    fn poll_command(&mut self) -> Option<Frame>;

    /// A question for the outside (ZAP, RFC 27), once. Until [`Mechanism::admit`] the mechanism must not become
    /// ready nor tell the peer that it is admitted.
    fn poll_admission(&mut self) -> Option<AdmissionRequest> {
        None
    }

    /// The answer was yes.
    fn admit(&mut self) -> Result<(), Violation> {
        Ok(())
    }

    /// Both sides are content. Commands may still wait to be sent, the peer's metadata has been returned.
    fn ready(&self) -> bool;

    /// Whether [`Mechanism::encode`] and [`Mechanism::decode`] change nothing, for the whole life of the link.
    fn passes_data(&self) -> bool {
        false
    }

    /// Puts the coat on a part, message or command, in the order in which they go to the wire. Keep MORE and COMMAND
    /// on the outside: the transport keeps messages together and lets commands pass by them.
    fn encode(&mut self, part: Part) -> Part;

    /// Takes the coat off. The flags inside count; those outside anyone can forge.
    fn decode(&mut self, part: Part) -> Result<Part, Violation>;
}

/// A question that only the application can answer: may this peer in?
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// Under which mechanism.
    pub mechanism: MechanismName,
    /// What the peer showed: nothing for NULL, name and password for PLAIN, the public key for CURVE.
    pub credentials: Vec<Frame>,
}

/// The answer.
#[derive(Debug, Clone)]
pub enum Admission {
    /// Let it in.
    Granted {
        /// Becomes the property `User-Id`, unless empty.
        user_id: Vec<u8>,
        /// More properties of the peer.
        metadata: Vec<(String, Vec<u8>)>,
    },
    /// Keep it out.
    Refused {
        /// The status code of RFC 27: 300 temporary (the peer is not told), 400 not authorised, 500 internal error.
        status: u16,
    },
}
