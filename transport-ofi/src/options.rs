//! The options of ofi:// URLs that no other scheme has; docs/ofi.md tells users of them. Reads text, and nothing else.

use rdma_links::UrlOptions;

use crate::device::Kind;

/// What an ofi:// URL says beside its address and the options of all links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfiOptions {
    /// The provider, as `fi_info` lists it, such as `tcp;ofi_rxm`; `None` for the best there is.
    pub provider: Option<String>,
    /// The provider's domain, such as `mlx5_0`; `None` for any.
    pub domain: Option<String>,
    /// The kind of endpoint; `None` for connected ones, where the provider has them.
    pub endpoint: Option<Kind>,
}

impl UrlOptions for OfiOptions {
    const SCHEME: &'static str = "ofi";
    const ADDRESS: &'static str = "an address of this host's network, whatever fabric carries the messages";
    const NAMES: &'static [&'static str] = &["provider", "domain", "endpoint"];

    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        match (name, value) {
            ("provider", "") => {
                return Some(Err(
                    "`provider` takes a name that `fabriq info` lists, for example provider=tcp",
                ));
            }
            ("provider", "sockets") => {
                return Some(Err(
                    "the provider `sockets` is libfabric's example, a thousand times slower than the others; use provider=tcp",
                ));
            }
            ("provider", _) => self.provider = Some(value.to_owned()),
            ("domain", "") => {
                return Some(Err("`domain` takes a name that `fi_info` lists, for example domain=mlx5_0"));
            }
            ("domain", _) => self.domain = Some(value.to_owned()),
            ("endpoint", "msg") => self.endpoint = Some(Kind::Connected),
            ("endpoint", "rdm") => self.endpoint = Some(Kind::Unconnected),
            ("endpoint", _) => return Some(Err("`endpoint` takes msg or rdm")),
            _ => return None,
        }
        Some(Ok(()))
    }
}

impl OfiOptions {
    /// What a URL must say that leads to a listener of this provider's.
    pub(crate) fn query(&self, provider: &str) -> String {
        match self.endpoint {
            Some(Kind::Connected) => format!("provider={provider}&endpoint=msg"),
            Some(Kind::Unconnected) => format!("provider={provider}&endpoint=rdm"),
            None => format!("provider={provider}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_options_and_says_what_they_take() {
        let mut options = OfiOptions::default();
        for (name, value) in [("provider", "tcp;ofi_rxm"), ("domain", "lo"), ("endpoint", "rdm")] {
            assert_eq!(options.set(name, value), Some(Ok(())), "{name}");
        }
        let read = OfiOptions {
            provider: Some("tcp;ofi_rxm".to_owned()),
            domain: Some("lo".to_owned()),
            endpoint: Some(Kind::Unconnected),
        };
        assert_eq!(options, read);
        assert_eq!(options.query("net"), "provider=net&endpoint=rdm");
        for (name, value, says) in [
            ("provider", "", "fabriq info"),
            ("provider", "sockets", "provider=tcp"),
            ("domain", "", "fi_info"),
            ("endpoint", "dgram", "msg or rdm"),
        ] {
            let said = options.set(name, value).unwrap().unwrap_err();
            assert!(said.contains(says), "{name}={value}: {said}");
        }
        assert_eq!(options.set("service_type", "1"), None);
        assert_eq!(options, read, "what is refused changes nothing");
    }
}
