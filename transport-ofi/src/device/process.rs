//! Another process's memory, copied by the kernel (process_vm_readv(2)): what READs over shared memory are made of. libfabric's own
//! are made of the same call, but under a lock in memory that both processes have; whoever is killed meanwhile leaves it locked.
//! Knows no endpoints.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Address, unguessable};

/// What one end of a link tells of itself, so that the other can make sure that it reads this process and no other, and while the
/// link stands: where in its memory there is which word, which nobody guesses.
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

    /// As it goes over a wire.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&self.pid.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.address.to_le_bytes());
        bytes[12..].copy_from_slice(&self.word);
        bytes
    }

    /// The opposite. `None` for another length, and for a word of zeros, which is one that is no more.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pid, rest) = bytes.split_first_chunk()?;
        let (address, word) = rest.split_first_chunk()?;
        let (pid, address) = (u32::from_le_bytes(*pid), u64::from_le_bytes(*address));
        let word: [u8; WORD] = word.try_into().ok()?;
        (word != [0; WORD]).then_some(Self { pid, address, word })
    }
}

/// The word of one end of a link, for as long as its peer may read. Dropped, it is no more: a copy that is made afterwards, by a
/// peer that was held up, is worth nothing to it, whatever its memory holds by then.
#[derive(Debug)]
pub struct Standing(Box<[AtomicU64; 2]>);

impl Standing {
    /// A new word.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let half = || AtomicU64::new(unguessable().max(1));
        Self(Box::new([half(), half()]))
    }

    /// What the peer is to know.
    pub fn witness(&self) -> Witness {
        let mut word = [0; WORD];
        for (half, it) in word.chunks_exact_mut(WORD / 2).zip(self.0.iter()) {
            half.copy_from_slice(&it.load(Ordering::Relaxed).to_ne_bytes());
        }
        Witness { pid: std::process::id(), address: self.0.as_ptr().addr() as u64, word }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // Before whatever the caller does next to the memory that its peer could read.
        self.0.iter().for_each(|half| half.store(0, Ordering::SeqCst));
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

/// A process whose memory this one may read: of the same user, as a rule (ptrace(2), "Ptrace access mode checking").
///
/// Dropped after the process has died, it removes the file in `/dev/shm` that was told as its: libfabric leaves that, of 16 MiB, of
/// whoever is killed.
#[derive(Debug)]
pub struct Process {
    witness: Witness,
    remains: Option<PathBuf>,
}

impl Process {
    /// Tries it. An errno of process_vm_readv(2), or ESRCH if it is another process by now, or in another PID namespace.
    pub fn open(witness: Witness) -> Result<Self, i32> {
        let process = Self { witness, remains: None };
        process.read(&mut [], 0).map(|()| process)
    }

    /// The process has its endpoint's memory in a file of this name, which begins with its number (libfabric's `smr_name`): another
    /// one would not be its to tell.
    pub fn shares(&mut self, name: &Address) {
        let own = format!("{}:", self.witness.pid);
        let is_own = |path: &PathBuf| {
            path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(own.as_bytes()))
        };
        self.remains = name.shared_file().filter(is_own);
    }

    /// Copies what is at an address of the process's, all of it. Takes no lock that the process could know of. ESRCH if it is gone,
    /// or another one has its number: then what was copied is worth nothing. EFAULT if there is not so much memory there.
    pub fn read(&self, into: &mut [u8], from: u64) -> Result<(), i32> {
        let wanted = into.len() + WORD;
        let mut word = [0; WORD];
        match usize::try_from(self.copy(into, from, &mut word)?) {
            Ok(copied) if copied == wanted && word == self.witness.word => Ok(()),
            Ok(copied) if copied == wanted => Err(libc::ESRCH),
            _ => Err(libc::EFAULT),
        }
    }

    /// Both copies, whatever they are worth: how many bytes.
    fn copy(&self, into: &mut [u8], from: u64, word: &mut [u8; WORD]) -> Result<isize, i32> {
        let Ok(pid) = libc::pid_t::try_from(self.witness.pid) else { return Err(libc::ESRCH) };
        let theirs = |address: u64, len| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(address as usize),
            iov_len: len,
        };
        let local = [
            libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() },
            libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: WORD },
        ];
        // The word in the same call and behind the bytes, so that it is of the same process, and of a link that stood when they had
        // been copied.
        let remote = [theirs(from, into.len()), theirs(self.witness.address, WORD)];
        // SAFETY: the kernel writes to `into` and `word`, whose lengths it is given, and to nothing else; the other process's
        // addresses are its to check.
        let copied = unsafe { libc::process_vm_readv(pid, local.as_ptr(), 2, remote.as_ptr(), 2, 0) };
        match copied {
            0.. => Ok(copied),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(remains) = self.remains.take() else { return };
        // Its memory goes before its connections do, so whoever was heard to end is gone by now; and it was in our PID namespace.
        if self.copy(&mut [], 0, &mut [0; WORD]) == Err(libc::ESRCH) {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(remains);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_survives_the_wire() {
        let (standing, other) = (Standing::new(), Standing::new());
        let here = standing.witness();
        assert_eq!(Witness::from_bytes(&here.to_bytes()), Some(here));
        assert_eq!(standing.witness(), here);
        assert_ne!(other.witness().word, here.word);
        assert_eq!(Witness::from_bytes(&Witness { word: [0; WORD], ..here }.to_bytes()), None);
        for len in (0..Witness::LEN).chain([Witness::LEN + 1]) {
            assert_eq!(Witness::from_bytes(&vec![0; len]), None, "{len}");
        }
    }

    #[test]
    fn memory_is_read_where_it_is_and_nowhere_else() {
        let standing = Standing::new();
        let process = Process::open(standing.witness()).unwrap();
        let bytes: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
        let mut copy = vec![0; bytes.len()];
        process.read(&mut copy, bytes.as_ptr().addr() as u64).unwrap();
        assert_eq!(copy, bytes);
        assert_eq!(process.read(&mut copy, 0), Err(libc::EFAULT));
        assert_eq!(process.read(&mut copy, u64::MAX - 10), Err(libc::EFAULT));
    }

    #[test]
    fn what_is_copied_after_the_link_has_ended_is_worth_nothing() {
        let (standing, another) = (Standing::new(), Standing::new());
        let (process, other) = (standing.witness(), another.witness());
        let (process, other) = (Process::open(process).unwrap(), Process::open(other).unwrap());
        let (bytes, mut copy) = ([7_u8; 100], [0; 100]);
        let at = bytes.as_ptr().addr() as u64;
        drop(standing);
        assert!(process.read(&mut copy, at).is_err());
        assert_eq!(other.read(&mut copy, at), Ok(()), "the other link stands");
        assert_eq!(copy, bytes);
    }

    #[test]
    fn only_a_dead_process_own_file_is_removed() {
        let standing = Standing::new();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let dead = Witness { pid, ..standing.witness() };
        for (witness, name, is_removed) in [
            (dead, format!("{pid}:0:fabriq-test"), true),
            (dead, format!("another-{pid}:0:fabriq-test"), false),
            (standing.witness(), format!("{}:0:fabriq-test", std::process::id()), false),
        ] {
            let path = PathBuf::from("/dev/shm").join(&name);
            std::fs::write(&path, "").unwrap();
            let mut process = Process { witness, remains: None };
            process.shares(&Address::from_bytes(format!("fi_shm://{name}").as_bytes()).unwrap());
            drop(process);
            assert_eq!(!path.exists(), is_removed, "{name}");
            let _ = std::fs::remove_file(path);
        }
    }

    #[test]
    fn another_process_of_that_number_is_not_taken_for_the_one() {
        let standing = Standing::new();
        let here = standing.witness();
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
