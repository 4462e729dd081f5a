//! Where links over raw libfabric meet: `host:port?provider=tcp;ofi_rxm&endpoint=rdm`, as in fabriq's own URLs. Reads text, and
//! nothing else.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use transport_ofi::device::Kind;

/// Where two ends meet, over TCP, and the provider that they then use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The address at which they meet.
    pub meeting: SocketAddr,
    /// The provider's name.
    pub provider: String,
    /// The kind of endpoint; `None`: connected ones, where the provider has them.
    pub wants: Option<Kind>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?provider={}", self.meeting, self.provider)?;
        match self.wants {
            Some(kind) => write!(f, "&endpoint={}", kind.name().to_lowercase()),
            None => Ok(()),
        }
    }
}

/// What a place must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a place for raw libfabric is written 127.0.0.1:5555?provider=tcp, with &endpoint=msg or rdm behind it to choose the kind"
)]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (meeting, options) = text.split_once('?').ok_or(NoPlace)?;
        let meeting = meeting.parse().map_err(|_| NoPlace)?;
        let (mut provider, mut wants) = (None, None);
        for option in options.split('&') {
            match option.split_once('=').ok_or(NoPlace)? {
                ("provider", name) if !name.is_empty() => provider = Some(name.to_owned()),
                ("endpoint", "msg") => wants = Some(Kind::Connected),
                ("endpoint", "rdm") => wants = Some(Kind::Unconnected),
                _ => return Err(NoPlace),
            }
        }
        Ok(Self { meeting, provider: provider.ok_or(NoPlace)?, wants })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_as_text() {
        for text in [
            "127.0.0.1:0?provider=tcp;ofi_rxm",
            "[::1]:7?provider=net&endpoint=rdm",
            "10.0.0.1:1?provider=verbs&endpoint=msg",
        ] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "127.0.0.1:1",
            "127.0.0.1?provider=tcp",
            "127.0.0.1:1?provider=",
            "1.2.3.4:1?provider=a&endpoint=x",
        ] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}
