//! Who is at the other end of a Unix-domain socket: a system call that rustix answers with a process number that is never 0,
//! and it is 0 where the peer is in another process namespace.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// As the system knows the peer since it connected or began to listen (unix(7), `SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// 0 when it is in another process namespace.
    pub(crate) process: i32,
}

/// As libzmq writes a peer's address (`Peer-Address`) over ipc.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "localhost:{}:{}:{}", self.user, self.group, self.process)
    }
}

/// The peer's credentials.
pub(crate) fn credentials(socket: impl AsFd) -> Result<Credentials, Errno> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` has room for `len` bytes, and any bits are a ucred; the descriptor is open while it is borrowed.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    match status {
        0 => Ok(Credentials { user: found.uid, group: found.gid, process: found.pid }),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn names_the_process_at_the_other_end() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = credentials(&here).unwrap();
        assert_eq!(peer.process, i32::try_from(std::process::id()).unwrap());
        assert_eq!(peer.user, rustix::process::geteuid().as_raw());
        assert_eq!(
            peer.to_string(),
            format!("localhost:{}:{}:{}", peer.user, peer.group, std::process::id())
        );
        assert!(credentials(std::io::pipe().unwrap().0).is_err());
    }
}
