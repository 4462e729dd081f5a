//! Another process's memory, copied by the kernel (process_vm_readv(2)): what READs over shared memory are made of. libfabric's own
//! are made of the same call, but under a lock in memory that both processes have; whoever is killed meanwhile leaves it locked.
//! Knows no endpoints.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

/// What a process tells of itself, so that another one can make sure that it reads this process and no other: where in its memory
/// there is which word, which nobody guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    pid: u32,
    address: u64,
    word: [u8; WORD],
}

const WORD: usize = 16;

impl Witness {
    /// Bytes of one.
    pub const LEN: usize = 4 + 8 + WORD;

    /// This process's.
    pub fn here() -> Self {
        static HERE: OnceLock<Box<[u8; WORD]>> = OnceLock::new();
        let word = HERE.get_or_init(|| {
            // Seeded by the system; what it makes of its seed and nothing else is as random as a hash can be.
            let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
            let mut word = [0; WORD];
            word[..WORD / 2].copy_from_slice(&half());
            word[WORD / 2..].copy_from_slice(&half());
            Box::new(word)
        });
        Self { pid: std::process::id(), address: word.as_ptr().addr() as u64, word: **word }
    }

    /// As it goes over a wire.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.address.to_le_bytes());
        bytes[12..].copy_from_slice(&self.word);
        bytes
    }

    /// The opposite. `None` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pid, rest) = bytes.split_first_chunk()?;
        let (address, word) = rest.split_first_chunk()?;
        let (pid, address) = (u32::from_le_bytes(*pid), u64::from_le_bytes(*address));
        Some(Self { pid, address, word: word.try_into().ok()? })
    }
}

/// A process whose memory this one may read: of the same user, as a rule (ptrace(2), "Ptrace access mode checking").
#[derive(Debug)]
pub struct Process(Witness);

impl Process {
    /// Tries it. An errno of process_vm_readv(2), or ESRCH if it is another process by now, or in another PID namespace.
    pub fn open(witness: Witness) -> Result<Self, i32> {
        let process = Self(witness);
        process.read(&mut [], 0).map(|()| process)
    }

    /// Copies what is at an address of the process's, all of it. Takes no lock that the process could know of. ESRCH if it is gone,
    /// or another one has its number: then what was copied is worth nothing. EFAULT if there is not so much memory there.
    pub fn read(&self, into: &mut [u8], from: u64) -> Result<(), i32> {
        let Ok(pid) = libc::pid_t::try_from(self.0.pid) else { return Err(libc::ESRCH) };
        let wanted = into.len() + WORD;
        let mut word = [0; WORD];
        let theirs = |address: u64, len| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(address as usize),
            iov_len: len,
        };
        let local = [
            libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() },
            libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: WORD },
        ];
        // The word in the same call, so that it is of the same process.
        let remote = [theirs(from, into.len()), theirs(self.0.address, WORD)];
        // SAFETY: the kernel writes to `into` and `word`, whose lengths it is given, and to nothing else; the other process's
        // addresses are its to check.
        let copied = unsafe { libc::process_vm_readv(pid, local.as_ptr(), 2, remote.as_ptr(), 2, 0) };
        match usize::try_from(copied) {
            Ok(copied) if copied == wanted && word == self.0.word => Ok(()),
            Ok(copied) if copied == wanted => Err(libc::ESRCH),
            Ok(_) => Err(libc::EFAULT),
            Err(_) => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_survives_the_wire() {
        let here = Witness::here();
        assert_eq!(Witness::from_bytes(&here.to_bytes()), Some(here));
        assert_eq!(Witness::here(), here);
        for len in (0..Witness::LEN).chain([Witness::LEN + 1]) {
            assert_eq!(Witness::from_bytes(&vec![0; len]), None, "{len}");
        }
    }

    #[test]
    fn memory_is_read_where_it_is_and_nowhere_else() {
        let process = Process::open(Witness::here()).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
        let mut copy = vec![0; bytes.len()];
        process.read(&mut copy, bytes.as_ptr().addr() as u64).unwrap();
        assert_eq!(copy, bytes);
        assert_eq!(process.read(&mut copy, 0), Err(libc::EFAULT));
        assert_eq!(process.read(&mut copy, u64::MAX - 10), Err(libc::EFAULT));
    }

    #[test]
    fn another_process_of_that_number_is_not_taken_for_the_one() {
        let here = Witness::here();
        let mut word = here.word;
        word[3] ^= 1;
        assert_eq!(Process::open(Witness { word, ..here }).unwrap_err(), libc::ESRCH);
        assert!(Process::open(Witness { pid: u32::MAX, ..here }).is_err());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(Process::open(Witness { pid, ..here }).unwrap_err(), libc::ESRCH);
    }
}
