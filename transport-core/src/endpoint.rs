//! Endpoint URLs: `scheme://address?option=value&...`. Splits and checks them; resolves no names.

use std::fmt;

use crate::limits::ENDPOINT_MAX;

/// A parsed endpoint URL. Only the scheme and the options are understood here; each transport reads its own address.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    url: Box<str>,
    scheme_end: usize,
    address_end: usize,
}

/// Why a string is not an endpoint URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No `://` in the string.
    #[error("`{0}` is not an endpoint URL: write it as scheme://address, for example tcp://127.0.0.1:5555")]
    NoScheme(String),
    /// The scheme holds something else than lower-case letters, digits and `+`.
    #[error("`{0}` has a malformed scheme: use lower-case letters, as in tcp://host:port")]
    BadScheme(String),
    /// Nothing stands behind `://`.
    #[error("`{0}` has no address: write something behind `://`, for example inproc://name")]
    NoAddress(String),
    /// Longer than [`ENDPOINT_MAX`] bytes.
    #[error("endpoint URL of {0} bytes is longer than the limit of {ENDPOINT_MAX}")]
    TooLong(usize),
    /// A control character or a NUL.
    #[error("`{0}` holds a control character: remove it")]
    ControlCharacter(String),
}

impl Endpoint {
    /// Parses a URL. Costs one allocation; the address is not checked.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        if url.len() > ENDPOINT_MAX {
            return Err(EndpointError::TooLong(url.len()));
        }
        if url.chars().any(char::is_control) {
            return Err(EndpointError::ControlCharacter(url.escape_debug().to_string()));
        }
        let Some(scheme_end) = url.find("://") else {
            return Err(EndpointError::NoScheme(url.to_owned()));
        };
        let scheme = &url[..scheme_end];
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '+';
        if scheme.is_empty()
            || !scheme.starts_with(|c: char| c.is_ascii_lowercase())
            || !scheme.chars().all(letter)
        {
            return Err(EndpointError::BadScheme(url.to_owned()));
        }
        // inproc names are free text (libzmq compares them byte by byte), so a `?` in one is part of the name.
        let address_start = scheme_end + 3;
        let address_end = if scheme == "inproc" {
            url.len()
        } else {
            url[address_start..].find('?').map_or(url.len(), |at| address_start + at)
        };
        if address_end == address_start {
            return Err(EndpointError::NoAddress(url.to_owned()));
        }
        Ok(Self { url: url.into(), scheme_end, address_end })
    }

    /// The part before `://`.
    pub fn scheme(&self) -> &str {
        &self.url[..self.scheme_end]
    }

    /// The part between `://` and `?`.
    pub fn address(&self) -> &str {
        &self.url[self.scheme_end + 3..self.address_end]
    }

    /// The `name=value` pairs behind `?`, in order. A name without `=` has an empty value.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let query = self.url.get(self.address_end + 1..).unwrap_or("");
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The same scheme with another address and no options: how a driver reports the port it really bound.
    pub fn with_address(&self, address: &str) -> Self {
        let url = format!("{}://{address}", self.scheme());
        let address_end = url.len();
        Self { url: url.into(), scheme_end: self.scheme_end, address_end }
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(url: &str) -> Result<Self, EndpointError> {
        Self::parse(url)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_scheme_address_and_options() {
        let e = Endpoint::parse("verbs://10.0.0.1:5?gid=3&busy").unwrap();
        assert_eq!((e.scheme(), e.address()), ("verbs", "10.0.0.1:5"));
        assert_eq!(e.options().collect::<Vec<_>>(), [("gid", "3"), ("busy", "")]);
        assert_eq!(e.with_address("10.0.0.1:77").as_str(), "verbs://10.0.0.1:77");
        assert_eq!(Endpoint::parse("inproc://what?").unwrap().address(), "what?");
    }

    #[test]
    fn says_what_is_wrong() {
        for (url, want) in [
            ("127.0.0.1:5", "scheme://address"),
            ("", "scheme://address"),
            ("://x", "malformed scheme"),
            ("TCP://x", "malformed scheme"),
            ("tcp://", "no address"),
            ("tcp://?a=b", "no address"),
            ("tcp://a\0b", "control character"),
        ] {
            let said = Endpoint::parse(url).unwrap_err().to_string();
            assert!(said.contains(want), "{url:?}: {said}");
        }
        assert!(matches!(
            Endpoint::parse(&format!("tcp://{}", "a".repeat(2000))),
            Err(EndpointError::TooLong(2006))
        ));
    }
}
