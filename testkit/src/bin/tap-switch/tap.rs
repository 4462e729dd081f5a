//! A TAP device: an Ethernet interface whose other end is a file. It forwards nothing by itself.

use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::ioctl::{Opcode, Updater, ioctl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

const CLONE_DEVICE: &str = "/dev/net/tun";
const TUNSETIFF: Opcode = 0x4004_54ca; // linux/if_tun.h
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const NAME_BYTES: usize = 16;

/// struct ifreq of linux/if.h, with the member that TUNSETIFF uses.
#[repr(C)]
#[derive(Debug)]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: u16,
    _rest: [u8; 22],
}

#[derive(Debug)]
pub(crate) struct Tap {
    file: File,
}

impl Tap {
    /// Makes an interface. It goes when this does.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        let because = |error: io::Error| io::Error::new(error.kind(), format!("TAP device {name}: {error}"));
        if name.is_empty() || name.len() >= NAME_BYTES {
            let error = format!("a name of 1 to {} bytes is wanted", NAME_BYTES - 1);
            return Err(because(io::Error::new(io::ErrorKind::InvalidInput, error)));
        }
        let file = OpenOptions::new().read(true).write(true).open(CLONE_DEVICE).map_err(|error| {
            because(io::Error::new(error.kind(), format!("{CLONE_DEVICE}: {error}; modprobe tun makes it")))
        })?;
        let mut request =
            InterfaceRequest { name: [0; NAME_BYTES], flags: IFF_TAP | IFF_NO_PI, _rest: [0; 22] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF reads and writes a struct ifreq, and InterfaceRequest is as large and laid out as that. No
        // memory is kept.
        unsafe { ioctl(&file, Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request)) }.map_err(
            |errno| {
                let hint = if errno == Errno::PERM { "; that takes CAP_NET_ADMIN" } else { "" };
                because(io::Error::new(io::Error::from(errno).kind(), format!("TUNSETIFF: {errno}{hint}")))
            },
        )?;
        ioctl_fionbio(&file, true)?;
        Ok(Self { file })
    }

    /// The length of the next frame that the host has sent, if there is one.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        match read(&self.file, frame) {
            Ok(bytes) => Ok(Some(bytes)),
            // EBADFD is the kernel's word for an interface that was removed: nothing comes of it any more.
            Err(Errno::AGAIN | Errno::INTR | Errno::BADFD) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// False if the host does not take it: its interface is down, or its queue full.
    pub(crate) fn send(&self, frame: &[u8]) -> bool {
        write(&self.file, frame).is_ok()
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
