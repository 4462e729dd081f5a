//! Which errno each error is, in one table, and libzmq's own error numbers. Decides nothing else.

use std::ffi::{c_char, c_int};

use fabriq::{Error, OpenError};

const HAUSNUMERO: i32 = 156_384_712;
pub(crate) const EFSM: i32 = HAUSNUMERO + 51;
pub(crate) const ENOCOMPATPROTO: i32 = HAUSNUMERO + 52;
pub(crate) const ETERM: i32 = HAUSNUMERO + 53;
pub(crate) const EMTHREAD: i32 = HAUSNUMERO + 54;

/// What an error that is not in the table becomes; the test below keeps that from happening.
const UNMAPPED: i32 = libc::EPROTO;

pub(crate) fn set(code: i32) {
    // SAFETY: the address of this thread's errno is valid for as long as the thread runs. Test: `sets_errno`.
    unsafe { *libc::__errno_location() = code }
}

/// The errno of a failed call.
pub(crate) fn of(error: &Error) -> i32 {
    match error {
        Error::Again => libc::EAGAIN,
        Error::Forked => libc::EINVAL,
        Error::Interrupted => libc::EINTR,
        Error::Invalid(_) => libc::EINVAL,
        Error::NoRoutingId | Error::NoGroup | Error::Parts(_) => libc::EINVAL,
        Error::NoSuchEndpoint(_) => libc::ENOENT,
        Error::NotSupported(..) => libc::ENOTSUP,
        Error::Open(error) => of_open(error),
        Error::OutOfTurn => EFSM,
        Error::System(_, code) => or(*code, libc::ENOMEM),
        Error::Terminated => ETERM,
        Error::Unroutable => libc::EHOSTUNREACH,
        _ => UNMAPPED,
    }
}

/// The errno of a bind or connect that failed.
pub(crate) fn of_open(error: &OpenError) -> i32 {
    match error {
        OpenError::AddressInUse(_) => libc::EADDRINUSE,
        OpenError::AddressNotAvailable(_) => libc::EADDRNOTAVAIL,
        OpenError::BadAddress { .. } => libc::EINVAL,
        OpenError::BadEndpoint(_) => libc::EINVAL,
        OpenError::Incompatible { .. } => ENOCOMPATPROTO,
        OpenError::System { errno, .. } => or(*errno, libc::EINVAL),
        OpenError::Unavailable { .. } | OpenError::UnknownScheme { .. } => libc::EPROTONOSUPPORT,
        OpenError::Unreachable { errno, .. } => or(*errno, libc::ECONNREFUSED),
        _ => UNMAPPED,
    }
}

fn or(code: i32, otherwise: i32) -> i32 {
    if code == 0 { otherwise } else { code }
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_errno() -> c_int {
    // SAFETY: as in `set`.
    unsafe { *libc::__errno_location() }
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_strerror(code: c_int) -> *const c_char {
    match code {
        EFSM => c"Operation cannot be accomplished in current state".as_ptr(),
        ENOCOMPATPROTO => c"The protocol is not compatible with the socket type".as_ptr(),
        ETERM => c"Context was terminated".as_ptr(),
        EMTHREAD => c"No thread available".as_ptr(),
        // SAFETY: strerror takes any number and gives a string that the caller must not free.
        _ => unsafe { libc::strerror(code) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fabriq::{Endpoint, EndpointError, SocketType};

    fn endpoint() -> Endpoint {
        Endpoint::parse("tcp://a:1").unwrap()
    }

    /// The variants of an enum in a source text.
    fn variants(source: &str, name: &str) -> Vec<String> {
        let body = source.split(&format!("pub enum {name} {{")).nth(1).unwrap().split("\n}").next().unwrap();
        let mut names: Vec<String> = body
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
            .map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect())
            .collect();
        names.sort();
        names
    }

    fn names(samples: &[impl std::fmt::Debug]) -> Vec<String> {
        let mut names: Vec<String> = samples
            .iter()
            .map(|sample| format!("{sample:?}").chars().take_while(char::is_ascii_alphanumeric).collect())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_error_has_an_errno() {
        let (why, errno) = (String::new(), 0);
        let opens = [
            OpenError::AddressInUse(endpoint()),
            OpenError::AddressNotAvailable(endpoint()),
            OpenError::BadAddress { endpoint: endpoint(), expected: String::new() },
            OpenError::BadEndpoint(EndpointError::TooLong(1)),
            OpenError::Incompatible { endpoint: endpoint(), why: why.clone() },
            OpenError::System { endpoint: endpoint(), why: why.clone(), errno },
            OpenError::Unavailable { scheme: "", why: why.clone(), errno },
            OpenError::UnknownScheme { endpoint: endpoint(), known: String::new() },
            OpenError::Unreachable { endpoint: endpoint(), why, errno },
        ];
        let errors = [
            Error::Again,
            Error::Forked,
            Error::Interrupted,
            Error::Invalid(""),
            Error::NoGroup,
            Error::NoRoutingId,
            Error::Parts(SocketType::Client),
            Error::NoSuchEndpoint("".into()),
            Error::NotSupported(SocketType::Pub, ""),
            Error::Open(Box::new(opens[0].clone())),
            Error::OutOfTurn,
            Error::System("", 0),
            Error::Terminated,
            Error::Unroutable,
        ];
        assert_eq!(names(&errors), variants(include_str!("../../messaging/src/error.rs"), "Error"));
        assert_eq!(names(&opens), variants(include_str!("../../transport-core/src/error.rs"), "OpenError"));
        assert!(errors.iter().all(|error| of(error) != UNMAPPED && of(error) != 0));
        assert!(opens.iter().all(|error| of_open(error) != UNMAPPED && of_open(error) != 0));
    }

    #[test]
    fn sets_errno() {
        set(ETERM);
        assert_eq!(zmq_errno(), 156_384_765);
        assert!(!zmq_strerror(ETERM).is_null() && !zmq_strerror(libc::EAGAIN).is_null());
    }
}
