//! What libfabric is to read in the environment as it starts, unless the user has set it. Loads nothing.

/// libfabric keeps registrations of memory for the next who wants the same, and to hear of memory that goes, its monitor
/// `memhooks` writes jumps over the C library's munmap and others as the first such cache opens, while threads may be in them: those
/// then run into half an address (1.17, the provider verbs). fabriq registers whole arenas and has no use for the cache, which
/// would also keep memory readable for peers after its registration is given up.
const MONITOR: (&str, &str) = ("FI_MR_CACHE_MONITOR", "disabled");

/// What was set. Dropped, it is no more: programs that this one starts are to have their own.
#[derive(Debug)]
pub(super) struct Settings(Option<&'static str>);

impl Settings {
    pub(super) fn make() -> Self {
        let (name, value) = MONITOR;
        if std::env::var_os(name).is_some() {
            return Self(None);
        }
        // SAFETY: other threads that read the environment by Rust's library wait meanwhile. Those that read it by the C library's
        // getenv(3) may do so beside: the variable is added once in a process, and what they find is old or new. That leaves a
        // program that has set variables by setenv(3) before, with glibc before 2.41, which then moves its list: a thread in getenv
        // at this very moment may look at the old one. Without this, threads in munmap crash where a provider opens its cache.
        unsafe { std::env::set_var(name, value) };
        Self(Some(name))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if let Some(name) = self.0 {
            // SAFETY: as above.
            unsafe { std::env::remove_var(name) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_as_before_once_the_library_has_read_it() {
        super::super::Library::load().expect("libfabric is there; ci/install installs it");
        assert_eq!(std::env::var_os(MONITOR.0), None);
    }
}
