//! The file that stands for a listening Unix-domain socket: whether one that is there may go, and how ours goes. Makes no
//! sockets that carry anything.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::socket::Refusal;

/// Which file it is, whatever it is called. Holds as long as the file cannot go: the number of one that has gone is given
/// to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// The file of a listener of ours. Removed when dropped, unless another has taken its place: somebody may have removed it
/// and bound the path anew. Must be dropped before the socket is closed, which keeps the file's [`Identity`] from being
/// given away.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute, since the working directory may change.
    path: PathBuf,
    identity: Identity,
    process: u32,
}

impl SocketFile {
    /// The file at `path`, which was bound just now. `None`: it is gone already.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
        let identity = Identity::of(&fs::symlink_metadata(&path).ok()?);
        Some(Self { path, identity, process: std::process::id() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A forked child has a copy of this, and its parent still listens.
        let ours = || fs::symlink_metadata(&self.path).is_ok_and(|file| Identity::of(&file) == self.identity);
        if self.process == std::process::id() && ours() {
            // Where that fails, the next to bind the path finds a file without a listener.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file at a path that cannot be bound, if nobody has it open any more: a listener that was killed leaves
/// its file. Whatever else is there stays.
pub(crate) fn remove_stale(path: &str, address: &SocketAddrUnix) -> Result<(), Refusal> {
    let path = Path::new(path);
    let Ok(file) = fs::symlink_metadata(path) else {
        // Gone meanwhile.
        return Ok(());
    };
    if !file.file_type().is_socket() {
        let why = "what is there is no socket, and stays; remove it, or choose another path";
        return Err(Refusal::Said(Errno::ADDRINUSE, why.to_owned()));
    }
    if is_bound(address)? {
        return Err(Errno::ADDRINUSE.into());
    }
    // Two who start at once may both come here: whoever comes second finds another file by now, but for a moment that no
    // system call closes.
    if fs::symlink_metadata(path).is_ok_and(|now| Identity::of(&now) == Identity::of(&file)) {
        fs::remove_file(path).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::ACCESS);
            let why = format!(
                "a socket file that nobody listens at is in the way and cannot be removed: {errno}; remove it, or \
                 choose another path"
            );
            Refusal::Said(errno, why)
        })?;
    }
    Ok(())
}

/// Whether some process has a socket bound at an address where there is a socket file. A datagram socket cannot be connected
/// with a stream socket, and the system says so only when there is one: so nobody is disturbed by the question, and one
/// that is bound but does not listen yet is found as well.
fn is_bound(address: &SocketAddrUnix) -> Result<bool, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    // Without permission to write to the file, nothing is known: then it stays.
    Ok(!matches!(net::connect(&fd, address), Err(Errno::CONNREFUSED | Errno::NOENT)))
}
