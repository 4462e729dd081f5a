//! tcp:// addresses: `host:port`, and `source:port;host:port` to dial from a given place. Splits and checks the text;
//! resolves no names.

use hosts::{Host, Place};
use transport_core::{Endpoint, OpenError};

/// What stands behind `tcp://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) source: Option<Place>,
    pub(crate) target: Place,
}

const EITHER: &str = "write host:port, for example tcp://127.0.0.1:5555 or tcp://[::1]:5555; to bind, `*` stands for \
                      any interface or any port; to connect from a given address, tcp://source:port;host:port";
const TO_BIND: &str = "a bind takes one interface and port, for example tcp://*:5555 or tcp://127.0.0.1:*";
const TO_DIAL: &str = "a connect needs a host and a port of 1 to 65535, for example tcp://127.0.0.1:5555";

impl Address {
    /// Reads the address of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        Self::split(endpoint).ok_or_else(|| bad(endpoint, EITHER))
    }

    fn split(endpoint: &Endpoint) -> Option<Self> {
        // tcp has no options: one that is ignored would be a setting that silently does nothing.
        if endpoint.options().next().is_some() {
            return None;
        }
        let (source, target) = match endpoint.address().split_once(';') {
            Some((source, target)) => (Some(Place::parse(source)?), target),
            None => (None, endpoint.address()),
        };
        Some(Self { source, target: Place::parse(target)? })
    }

    /// The place to bind.
    pub(crate) fn listen(self, endpoint: &Endpoint) -> Result<Place, OpenError> {
        if self.source.is_some() { Err(bad(endpoint, TO_BIND)) } else { Ok(self.target) }
    }

    /// The place to dial, and from where.
    pub(crate) fn dial(self, endpoint: &Endpoint) -> Result<(Place, Option<Place>), OpenError> {
        if self.target.host == Host::Any || self.target.port == 0 {
            return Err(bad(endpoint, TO_DIAL));
        }
        Ok((self.target, self.source))
    }
}

fn bad(endpoint: &Endpoint, expected: &str) -> OpenError {
    OpenError::BadAddress { endpoint: endpoint.clone(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, OpenError> {
        Address::parse(&Endpoint::parse(url).unwrap())
    }

    #[test]
    fn reads_every_form() {
        let v4 = Host::Ip("127.0.0.1".parse().unwrap(), None);
        let v6 = |zone: Option<&str>| Host::Ip("fe80::1".parse().unwrap(), zone.map(str::to_owned));
        let name = Host::Name("some-host.example".to_owned());
        for (url, host, port) in [
            ("tcp://*:5", Host::Any, 5),
            ("tcp://*:*", Host::Any, 0),
            ("tcp://127.0.0.1:0", v4.clone(), 0),
            ("tcp://[fe80::1]:65535", v6(None), 65_535),
            ("tcp://[fe80::1%eth0]:1", v6(Some("eth0")), 1),
            ("tcp://fe80::1:1", v6(None), 1),
            ("tcp://some-host.example:7", name, 7),
        ] {
            let target = Place { host, port };
            assert_eq!(parse(url).unwrap(), Address { source: None, target }, "{url}");
        }
        let both = parse("tcp://127.0.0.1:0;127.0.0.1:9").unwrap();
        assert_eq!(both.source, Some(Place { host: v4.clone(), port: 0 }));
        assert_eq!(both.target, Place { host: v4, port: 9 });
    }

    #[test]
    fn refuses_what_is_no_address_and_says_what_would_be() {
        for url in [
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://127.0.0.1:65536",
            "tcp://127.0.0.1:+5",
            "tcp://127.0.0.1:5x",
            "tcp://:5",
            "tcp://[::1:5",
            "tcp://[::1]5",
            "tcp://[::1%]:5",
            "tcp://ho st:5",
            "tcp://-host:5",
            "tcp://;127.0.0.1:5",
            "tcp://a:1;b:1;c:1",
            "tcp://127.0.0.1:5?nodelay=0",
        ] {
            let said = parse(url).unwrap_err().to_string();
            assert!(said.contains("host:port"), "{url}: {said}");
        }
        let endpoint = |url| Endpoint::parse(url).unwrap();
        for url in ["tcp://*:5", "tcp://127.0.0.1:0", "tcp://host:*"] {
            assert!(parse(url).unwrap().dial(&endpoint(url)).is_err(), "{url}");
        }
        let url = "tcp://a:1;b:1";
        assert!(parse(url).unwrap().listen(&endpoint(url)).is_err());
    }
}
