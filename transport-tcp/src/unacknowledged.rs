//! How much of a stream is still on its way: a system call that has no safe wrapper yet.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ` (tcp(7)), by the name that has its number for every architecture.
const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;

/// Bytes written that the peer's system has not acknowledged; the end of the stream counts as one. Of a Unix-domain socket,
/// what the peer has not read, with the system's bookkeeping.
pub(crate) fn unacknowledged(socket: impl AsFd) -> Result<usize, Errno> {
    // SAFETY: SIOCOUTQ stores one int where its argument points to, whatever kind of descriptor takes it, which is what
    // this getter has room for.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn counts_until_the_peer_s_system_has_everything() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut there, _) = listener.accept().unwrap();
        let reaches = |here: &TcpStream, bytes| {
            let start = Instant::now();
            while unacknowledged(here) != Ok(bytes) {
                assert!(start.elapsed() < Duration::from_secs(10), "{:?}", unacknowledged(here));
            }
        };
        reaches(&here, 0);
        here.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(n) = here.write(&[7; 100_000]) {
            sent += n;
        }
        // More than the peer's buffers take.
        assert!(unacknowledged(&here).unwrap() > 0);
        here.shutdown(Shutdown::Write).unwrap();
        let mut body = vec![0; sent];
        there.read_exact(&mut body).unwrap();
        reaches(&here, 0);
        assert!(unacknowledged(std::io::pipe().unwrap().0).is_err());
    }

    #[test]
    fn counts_until_the_peer_has_read_everything_from_a_unix_socket() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.write_all(&[7; 1000]).unwrap();
        here.shutdown(Shutdown::Write).unwrap();
        there.read_exact(&mut [0; 999]).unwrap();
        assert!(unacknowledged(&here).unwrap() > 0);
        there.read_exact(&mut [0]).unwrap();
        assert_eq!(unacknowledged(&here), Ok(0));
    }
}
