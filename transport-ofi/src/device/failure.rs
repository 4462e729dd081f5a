//! A call of libfabric's that failed: which, and why in the library's and the provider's own words. Plain values.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use crate::sys::{self, Library};

/// A call that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The call, by its manual page's name.
    pub call: &'static str,
    /// libfabric's errno (fi_errno(3)): the system's below 256, its own from there.
    pub errno: i32,
    /// What libfabric says of that errno.
    pub text: String,
    /// What the provider says, where it has more to say.
    pub provider: Option<String>,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

impl Failure {
    /// A call that returned `code`, a negative errno.
    #[cold]
    pub(crate) fn new(call: &'static str, code: impl Into<i64>) -> Self {
        let errno = i32::try_from(code.into().unsigned_abs()).unwrap_or(sys::FI_EOTHER as i32);
        Self { call, errno, text: describe(errno), provider: None, remedy: None }
    }

    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the provider's words, unless they say the same again.
    pub(crate) fn with_provider(mut self, words: Option<String>) -> Self {
        self.provider = words.filter(|words| !words.is_empty() && *words != self.text && words != "Success");
        self
    }

    /// The nearest errno of the system's, for who knows no other.
    pub const fn os_errno(&self) -> i32 {
        os_errno(self.errno)
    }
}

/// The nearest errno of the system's to one of libfabric's.
pub const fn os_errno(errno: i32) -> i32 {
    match errno as u32 {
        sys::FI_ETOOSMALL | sys::FI_ETRUNC => libc::EMSGSIZE,
        sys::FI_EOPBADSTATE => libc::ENOTCONN,
        sys::FI_EBADFLAGS => libc::EINVAL,
        sys::FI_ENOKEY => libc::EACCES,
        sys::FI_EOVERRUN | sys::FI_ENORX => libc::ENOBUFS,
        other if other < sys::FI_EOTHER => errno,
        _ => libc::EIO,
    }
}

/// libfabric's words for an errno.
fn describe(errno: i32) -> String {
    match Library::load() {
        // SAFETY: the call takes any number, and its answer is static text.
        Ok(library) => unsafe { text(library.ofi.fi_strerror(errno)) }.unwrap_or_default(),
        Err(_) => format!("errno {errno}"),
    }
}

/// A string of C's, if it is one.
///
/// # Safety
/// `start` is null, or ends with a zero and stays as it is for the length of the call.
pub(super) unsafe fn text(start: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!start.is_null()).then(|| unsafe { CStr::from_ptr(start) }.to_string_lossy().into_owned())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.text)?;
        if let Some(provider) = &self.provider {
            write!(f, " (the provider says: {provider})")?;
        }
        self.remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Failure {}

/// For calls that return a negative errno.
pub(super) fn check(call: &'static str, result: c_int) -> Result<(), Failure> {
    if result < 0 { Err(Failure::new(call, result)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_call_and_both_reasons() {
        let failure = Failure {
            call: "fi_connect",
            errno: libc::ECONNREFUSED,
            text: "Connection refused".to_owned(),
            provider: None,
            remedy: None,
        };
        let failure = failure.with_provider(Some("nobody home".to_owned())).with_remedy("knock");
        assert_eq!(
            failure.to_string(),
            "fi_connect: Connection refused (the provider says: nobody home); knock"
        );
        let silent = failure.clone().with_provider(Some("Connection refused".to_owned()));
        assert_eq!(silent.provider, None);
    }

    #[test]
    fn errnos_of_libfabrics_own_have_a_neighbour_in_the_system() {
        assert_eq!(os_errno(libc::ECONNREFUSED), libc::ECONNREFUSED);
        assert_eq!(os_errno(sys::FI_ETRUNC as i32), libc::EMSGSIZE);
        assert_eq!(os_errno(sys::FI_ECRC as i32), libc::EIO);
        assert_eq!(os_errno(100_000), libc::EIO);
    }
}
