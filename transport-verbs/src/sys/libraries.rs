//! Finds and loads libibverbs and librdmacm, once per process. Calls nothing in them.

use std::ffi::OsStr;
use std::fmt;
use std::sync::OnceLock;

use super::{Cm, Verbs, ibv_fork_status};

/// The names to load: the sonames, so that no development package is needed.
const VERBS_LIBRARY: &str = "libibverbs.so.1";
const CM_LIBRARY: &str = "librdmacm.so.1";

/// Both libraries, with every function that fabriq calls.
pub struct Libraries {
    /// libibverbs.
    pub verbs: Verbs,
    /// librdmacm.
    pub cm: Cm,
    /// `ibv_is_fork_initialized`, since rdma-core 35.
    pub is_fork_initialized: Option<unsafe extern "C" fn() -> ibv_fork_status>,
}

impl fmt::Debug for Libraries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Libraries({VERBS_LIBRARY}, {CM_LIBRARY})")
    }
}

/// Why a library is not there, or is not the one we need.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot load {library} ({why}); install rdma-core 28 or newer: `apt-get install {debian} ibverbs-providers` on \
     Debian and Ubuntu, `dnf install {fedora}` on Fedora and RHEL"
)]
pub struct LibraryError {
    /// The file that was looked for.
    pub library: String,
    /// The dynamic linker's own words.
    pub why: String,
    debian: &'static str,
    fedora: &'static str,
}

impl LibraryError {
    fn new(library: &str, error: &libloading::Error) -> Self {
        let (debian, fedora) = if library.contains("rdmacm") {
            ("librdmacm1", "librdmacm")
        } else {
            ("libibverbs1", "libibverbs")
        };
        // libloading's own text hides the linker's behind `source`.
        let why = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        Self { library: library.to_owned(), why, debian, fedora }
    }
}

impl Libraries {
    /// Loads both, the first time it is called; what came of it holds for the life of the process. The libraries are
    /// never unloaded: their providers start threads and keep thread-local state. Thread-safe.
    pub fn load() -> Result<&'static Self, &'static LibraryError> {
        static LIBRARIES: OnceLock<Result<Libraries, LibraryError>> = OnceLock::new();
        LIBRARIES.get_or_init(|| Self::open(VERBS_LIBRARY, CM_LIBRARY)).as_ref()
    }

    /// Loads both by the names given.
    fn open(verbs_name: &str, cm_name: &str) -> Result<Self, LibraryError> {
        let verbs = open_library(verbs_name)?;
        // SAFETY: the symbol, where it exists, is the function of that name in verbs.h, which takes nothing and returns
        // an enum. The library stays loaded as long as the pointer does: both end up in the same `Libraries`.
        let is_fork_initialized = unsafe {
            verbs
                .get::<unsafe extern "C" fn() -> ibv_fork_status>(b"ibv_is_fork_initialized\0")
                .map(|it| *it)
                .ok()
        };
        // SAFETY: the symbols are looked up in libibverbs, whose functions have the types that its header gives them.
        let verbs =
            unsafe { Verbs::from_library(verbs) }.map_err(|error| LibraryError::new(verbs_name, &error))?;
        let cm = open_library(cm_name)?;
        // SAFETY: as above, for librdmacm.
        let cm = unsafe { Cm::from_library(cm) }.map_err(|error| LibraryError::new(cm_name, &error))?;
        Ok(Self { verbs, cm, is_fork_initialized })
    }
}

fn open_library(name: &str) -> Result<libloading::Library, LibraryError> {
    // SAFETY: the constructors of rdma-core's libraries read the environment and set up static data, nothing more.
    unsafe { libloading::Library::new(OsStr::new(name)) }.map_err(|error| LibraryError::new(name, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_installed_is_named_with_its_package() {
        let error = Libraries::open("libibverbs-of-nobody.so.1", CM_LIBRARY).unwrap_err().to_string();
        assert!(error.contains("cannot load libibverbs-of-nobody.so.1"), "{error}");
        assert!(error.contains("cannot open shared object file"), "{error}");
        assert!(error.contains("apt-get install libibverbs1 "), "{error}");
    }

    #[test]
    fn a_library_without_our_functions_is_an_error_that_names_one() {
        // Any library that is there; it has none of these functions.
        let error = Libraries::open("libc.so.6", CM_LIBRARY).unwrap_err().to_string();
        assert!(error.contains("libc.so.6") && error.contains("undefined symbol: ibv_"), "{error}");
    }
}
