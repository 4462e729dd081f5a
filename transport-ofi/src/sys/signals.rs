//! The application's signal handlers, kept over a library's loading. Handles no signal.

use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

/// What libraries that print backtraces take: libinfinipath, which Debian's libfabric links, takes all of these as it is loaded,
/// and a program that it did not ask no longer ends by Ctrl-C as it means to.
const TAKEN: [libc::c_int; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

/// What the application does at each, as far as the system says.
pub(super) struct Handlers([Option<libc::sigaction>; TAKEN.len()]);

impl Handlers {
    pub(super) fn now() -> Self {
        Self(TAKEN.map(|signal| {
            let mut action = MaybeUninit::<libc::sigaction>::uninit();
            // SAFETY: a null action changes nothing, and `action` has room for what is there. Test:
            // `handlers_outlast_the_library`.
            let found = unsafe { libc::sigaction(signal, null(), action.as_mut_ptr()) } == 0;
            // SAFETY: the call has filled it in.
            found.then(|| unsafe { action.assume_init() })
        }))
    }

    /// Puts them back.
    pub(super) fn restore(&self) {
        for (signal, action) in TAKEN.iter().zip(&self.0) {
            if let Some(action) = action {
                // SAFETY: it was in place before. Test: as above.
                unsafe { libc::sigaction(*signal, action, null_mut()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_outlast_the_library() {
        extern "C" fn ours(_: libc::c_int) {}
        let handler = |signal: libc::c_int| {
            let mut action = MaybeUninit::<libc::sigaction>::zeroed();
            // SAFETY: it asks only.
            unsafe { libc::sigaction(signal, null(), action.as_mut_ptr()) };
            // SAFETY: zeros, or filled in.
            unsafe { action.assume_init() }.sa_sigaction
        };
        let ours = ours as extern "C" fn(libc::c_int) as usize;
        // SAFETY: a handler that does nothing.
        unsafe { libc::signal(libc::SIGTERM, ours) };
        let before = TAKEN.map(handler);
        super::super::Library::load().expect("libfabric is there; ci/install installs it");
        assert_eq!(TAKEN.map(handler), before);
        assert_eq!(handler(libc::SIGTERM), ours);
    }
}
