//! Finds and loads libfabric, once per process, and has it read its settings. Calls nothing else in it.

use std::ffi::OsStr;
use std::fmt;
use std::sync::OnceLock;

use super::Ofi;
use super::settings::Settings;
use super::signals::Handlers;

/// The name to load: the soname, so that no development package is needed.
const LIBRARY: &str = "libfabric.so.1";

/// A version of libfabric, or of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// The oldest libfabric that will do: what the bindings were made from.
pub const VERSION_MIN: Version = Version::new(1, 17);

/// The interface that is asked for, whatever the library's version: a newer library then does not touch what structs
/// have gained since.
pub const API_VERSION: Version = VERSION_MIN;

/// libfabric, with every function that fabriq calls.
pub struct Library {
    /// Its exported functions.
    pub ofi: Ofi,
    /// Its version.
    pub version: Version,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library({LIBRARY}, {})", self.version)
    }
}

/// Why the library is not there, or is not the one we need.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot load {library} ({why}); install libfabric {VERSION_MIN} or newer: `apt-get install libfabric1` on Debian and \
     Ubuntu, `dnf install libfabric` on Fedora and RHEL, or the cluster's module of that name (then LD_LIBRARY_PATH names \
     its directory)"
)]
pub struct LibraryError {
    /// The file that was looked for.
    pub library: String,
    /// The dynamic linker's own words, or the version that is too old.
    pub why: String,
}

impl LibraryError {
    fn new(library: &str, error: &libloading::Error) -> Self {
        // libloading's own text hides the linker's behind `source`.
        let why = match std::error::Error::source(error) {
            Some(source) => source.to_string(),
            None => error.to_string(),
        };
        Self { library: library.to_owned(), why }
    }
}

impl Library {
    /// Loads it, the first time it is called; what came of it holds for the life of the process. The library is never
    /// unloaded: its providers start threads and keep thread-local state. Thread-safe.
    pub fn load() -> Result<&'static Self, &'static LibraryError> {
        static LOADED: OnceLock<Result<Library, LibraryError>> = OnceLock::new();
        LOADED.get_or_init(|| Self::open(LIBRARY)).as_ref()
    }

    /// Loads it by the name given.
    fn open(name: &str) -> Result<Self, LibraryError> {
        let handlers = Handlers::now();
        // SAFETY: libfabric's constructors read the environment and set up static data; what those of the libraries it links do to
        // the application's signals is undone.
        let library = unsafe { libloading::Library::new(OsStr::new(name)) };
        handlers.restore();
        let library = library.map_err(|error| LibraryError::new(name, &error))?;
        // SAFETY: the symbols are looked up in libfabric, whose functions have the types that its headers give them. Of
        // those with several versions this finds the newest, whose structs begin with what the bindings know.
        let ofi = unsafe { Ofi::from_library(library) }.map_err(|error| LibraryError::new(name, &error))?;
        // SAFETY: the call takes nothing.
        let version = Version(unsafe { ofi.fi_version() });
        if version < VERSION_MIN {
            let why = format!("this is version {version}, which is too old");
            return Err(LibraryError { library: name.to_owned(), why });
        }
        // The environment is read with the first question, whatever it is and whatever comes of it.
        let settings = Settings::make();
        let mut offers = std::ptr::null_mut();
        // SAFETY: without hints it is asked for anything; the list that comes is nobody else's.
        unsafe {
            let (none, hints) = (std::ptr::null(), std::ptr::null());
            if ofi.fi_getinfo(API_VERSION.0, none, none, super::FI_PROV_ATTR_ONLY, hints, &mut offers) == 0 {
                ofi.fi_freeinfo(offers);
            }
        }
        drop(settings);
        Ok(Self { ofi, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_installed_is_named_with_its_package() {
        let error = Library::open("libfabric-of-nobody.so.1").unwrap_err().to_string();
        assert!(error.contains("cannot load libfabric-of-nobody.so.1"), "{error}");
        assert!(error.contains("cannot open shared object file"), "{error}");
        assert!(error.contains("apt-get install libfabric1"), "{error}");
    }

    #[test]
    fn a_library_without_our_functions_is_an_error_that_names_one() {
        // Any library that is there; it has none of these functions.
        let error = Library::open("libc.so.6").unwrap_err().to_string();
        assert!(error.contains("libc.so.6") && error.contains("undefined symbol: fi_"), "{error}");
    }

    #[test]
    fn versions_are_compared_as_libfabric_does() {
        assert!(Version::new(1, 9) < Version::new(1, 17) && Version::new(1, 17) < Version::new(2, 0));
        assert_eq!(Version::new(1, 17).to_string(), "1.17");
    }
}
