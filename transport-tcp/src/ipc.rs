//! ipc:// names and sockets: Unix-domain streams by a path, by a name in Linux's abstract namespace (unix(7)), or by a path
//! of our choice. The file at a path is the business of `socket_file`.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use transport_core::{Endpoint, OpenError, Role};

use crate::credentials::credentials;
use crate::limits::{IPC_BUFFER, IPC_NAME_MAX, UNSENT_LOW, WILDCARD_TRIES};
use crate::socket::{Connection, Refusal, Settings};
use crate::socket_file::{self, SocketFile};

/// What stands behind `ipc://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    /// A file's path; a relative one is looked up from the working directory of the moment.
    Path(String),
    /// A name that is no file, and is gone with its socket. Written with an `@` in front, as libzmq does.
    Abstract(String),
    /// `*`: a path in the directory for temporary files.
    Any,
}

const EITHER: &str = "write a path, for example ipc:///run/app/feed or ipc://feed, or a name in the abstract namespace, \
                      ipc://@feed; to bind, `*` stands for a path in the directory for temporary files; there are no \
                      options, so a path holds no `?`";
const TO_DIAL: &str = "a connect needs a path or a name, for example ipc:///run/app/feed; write a path that begins with \
                       a `*` as ipc://./*";

impl Name {
    /// Reads the name of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let text = endpoint.address();
        // A name is cut short at its first `?`, also where nothing stands behind that.
        if text.len() < endpoint.as_str().len() - "ipc://".len() || text == "@" || text.ends_with('/') {
            return Err(bad(endpoint, EITHER));
        }
        if text.len() > IPC_NAME_MAX {
            let why = format!(
                "its name is {} bytes long, and the system takes {IPC_NAME_MAX}; choose a shorter one, or a path \
                 relative to the working directory",
                text.len()
            );
            let errno = Errno::NAMETOOLONG.raw_os_error();
            return Err(OpenError::System { endpoint: endpoint.clone(), why, errno });
        }
        Ok(match text.strip_prefix('@') {
            Some(name) => Self::Abstract(name.to_owned()),
            None if text == "*" => Self::Any,
            None => Self::Path(text.to_owned()),
        })
    }

    /// The same, if it is of use for that.
    pub(crate) fn locate(self, endpoint: &Endpoint, role: Role) -> Result<Self, OpenError> {
        match (self, role) {
            (Self::Any, Role::Connect) => Err(bad(endpoint, TO_DIAL)),
            (name, _) => Ok(name),
        }
    }

    fn to_socket_address(&self) -> Result<SocketAddrUnix, Errno> {
        match self {
            Self::Path(path) => SocketAddrUnix::new(path.as_str()),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            Self::Any => Err(Errno::INVAL),
        }
    }
}

fn bad(endpoint: &Endpoint, expected: &str) -> OpenError {
    OpenError::BadAddress { endpoint: endpoint.clone(), expected: expected.to_owned() }
}

// ---- sockets ----

fn open() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// A listening socket, the file that stands for it, and the name it really has.
pub(crate) fn listen(
    name: &Name,
    settings: &Settings,
) -> Result<(OwnedFd, Option<SocketFile>, String), Refusal> {
    let fd = open()?;
    let (file, real) = match name {
        Name::Path(path) => {
            let address = name.to_socket_address()?;
            match net::bind(&fd, &address) {
                Err(Errno::ADDRINUSE) => {
                    socket_file::remove_stale(path, &address)?;
                    net::bind(&fd, &address)
                }
                bound => bound,
            }
            .map_err(bind_refusal)?;
            (SocketFile::at(path), path.clone())
        }
        Name::Abstract(text) => {
            net::bind(&fd, &name.to_socket_address()?)?;
            (None, format!("@{text}"))
        }
        Name::Any => bind_anywhere(&fd)?,
    };
    net::listen(&fd, settings.backlog())?;
    Ok((fd, file, real))
}

/// Binds a path that nobody else has. Whoever may read it may not connect for that: as with any path, connecting needs
/// permission to write to the socket file, and the process's umask says who has it.
fn bind_anywhere(fd: &OwnedFd) -> Result<(Option<SocketFile>, String), Refusal> {
    let directory = std::env::temp_dir();
    let mut last = Errno::ADDRINUSE;
    for _ in 0..WILDCARD_TRIES {
        // Keys that differ by process and by call; a clash is found by the bind.
        let path = directory.join(format!("fabriq-{:016x}", RandomState::new().build_hasher().finish()));
        let path = path.to_str().ok_or(Errno::ILSEQ)?;
        let bound = SocketAddrUnix::new(path).and_then(|address| net::bind(fd, &address));
        match bound {
            Ok(()) => return Ok((SocketFile::at(path), path.to_owned())),
            Err(Errno::ADDRINUSE) => {}
            Err(error) => {
                last = error;
                break;
            }
        }
    }
    let where_to = "bind a path of your own, or name a directory for temporary files in TMPDIR";
    Err(Refusal::Said(last, format!("no socket can be bound in {}: {last}; {where_to}", directory.display())))
}

fn bind_refusal(error: Errno) -> Refusal {
    let remedy = match error {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            "bind in a directory that this process may write to, or a name in the abstract namespace, ipc://@name"
        }
        Errno::NOENT | Errno::NOTDIR => {
            "make the directory first; a relative path is looked up from the working directory"
        }
        _ => return error.into(),
    };
    Refusal::Said(error, format!("{error}; {remedy}"))
}

/// The name of a socket, if it is one of this kind and has one.
pub(crate) fn bound_to(fd: impl AsFd) -> Option<String> {
    let address = SocketAddrUnix::try_from(net::getsockname(fd).ok()?).ok()?;
    match (address.path_bytes(), address.abstract_name()) {
        (Some(path), _) => str::from_utf8(path).ok().map(str::to_owned),
        (None, Some(name)) => str::from_utf8(name).ok().map(|name| format!("@{name}")),
        (None, None) => None,
    }
}

/// Dials. The system knows at once: a peer has a connection when it stands in the listener's backlog.
pub(crate) fn dial(name: &Name, settings: &Settings) -> Result<Connection, Refusal> {
    let fd = open()?;
    set_buffers(&fd, settings)?;
    net::connect(&fd, &name.to_socket_address()?).map_err(dial_refusal)?;
    Ok(connection(fd)?)
}

fn dial_refusal(error: Errno) -> Refusal {
    let remedy = match error {
        Errno::CONNREFUSED => "nobody listens there; start the peer",
        Errno::NOENT => {
            "start the peer, or check the path; a relative one is looked up from the working directory"
        }
        Errno::ACCESS | Errno::PERM => {
            "to connect needs permission to write to the socket file and to search the directories above it"
        }
        Errno::AGAIN => "the listener's backlog is full; it should accept sooner, or have a longer backlog",
        Errno::PROTOTYPE => "another kind of socket is bound there; check the path",
        _ => return error.into(),
    };
    Refusal::Said(error, format!("{error}; {remedy}"))
}

/// The next connection.
pub(crate) fn accept(listener: impl AsFd, settings: &Settings) -> Result<Connection, Errno> {
    let fd = net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // Not inherited from the listener, other than over tcp.
    set_buffers(&fd, settings)?;
    connection(fd)
}

/// What is written counts as the sender's until the peer has read it, so there is one buffer and it is the sender's
/// (unix(7), `SO_SNDBUF`).
fn set_buffers(fd: &OwnedFd, settings: &Settings) -> Result<(), Errno> {
    let usual = if settings.low_mark { UNSENT_LOW } else { IPC_BUFFER };
    let bytes = settings.tuning.send_buffer.unwrap_or(usual);
    sockopt::set_socket_send_buffer_size(fd, bytes as usize)
}

/// A socket that is connected.
pub(crate) fn connection(fd: OwnedFd) -> Result<Connection, Errno> {
    let peer = credentials(&fd)?.to_string();
    Ok(Connection { fd, peer, must_be_quiet: false })
}
