//! Why this host cannot run ofi://, said before anything is opened: one reason, and what to do about it; and the providers that
//! it can be run on. Changes nothing.

use std::fmt;

use crate::device::{At, Info, Kind, Query};
use crate::sys::{Library, Version};

/// What is missing. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// libfabric is not installed, or too old.
    NoLibrary(String),
    /// No provider offers what fabriq needs.
    NoProvider {
        /// libfabric's version.
        version: Version,
        /// What FI_PROVIDER says, where it is set: the user leaves providers out.
        filter: Option<String>,
    },
    /// Providers could not be asked.
    Other(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLibrary(why) => write!(f, "no libfabric: {why}"),
            Self::NoProvider { version, filter } => {
                write!(
                    f,
                    "libfabric {version} has no provider here for reliable, ordered messages (`fi_info -l` lists \
                     those that are installed; `sockets` is never used)"
                )?;
                match filter {
                    Some(filter) => write!(f, "; the environment has FI_PROVIDER={filter}, unset it"),
                    None => {
                        f.write_str("; install one, such as tcp, which is part of most libfabric packages")
                    }
                }
            }
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// A provider that can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Its name, as in `provider=` and `fi_info`.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The kinds of its endpoints.
    pub kinds: Vec<Kind>,
    /// Where: devices or interfaces, as the provider names them.
    pub domains: Vec<String>,
}

impl Provider {
    /// Its version as its authors write it: libfabric's own give their major and minor in one number, 117.10 for 1.17.1.
    pub fn version_text(&self) -> String {
        let (major, minor) = (self.version.0 >> 16, self.version.0 & 0xffff);
        match major {
            100.. => format!("{}.{}.{}", major / 100, major % 100, minor / 10),
            _ => self.version.to_string(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        write!(f, "{} {} ({})", self.name, self.version_text(), kinds.join(", "))?;
        // A provider of one domain calls it by its own name.
        let domains: Vec<_> =
            self.domains.iter().filter(|name| !self.name.split(';').any(|part| part == *name)).collect();
        for (at, domain) in domains.into_iter().enumerate() {
            write!(f, "{} {domain}", if at == 0 { " on" } else { "," })?;
        }
        Ok(())
    }
}

/// Why this host cannot run ofi://; `None` when it can. Asks all providers, which may open and close devices: milliseconds, and
/// the first time more.
pub fn why_unavailable() -> Option<Unavailable> {
    providers().err()
}

/// The providers that can be used here, in libfabric's order: what it thinks is best comes first. Never an empty list.
pub fn providers() -> Result<Vec<Provider>, Unavailable> {
    let library = Library::load().map_err(|error| Unavailable::NoLibrary(error.to_string()))?;
    let mut found: Vec<Provider> = Vec::new();
    for kind in [Kind::Connected, Kind::Unconnected] {
        let query = Query { kind, at: At::Anywhere, provider: None, domain: None };
        // Those that READ, and then those that do not.
        for ask in [Info::query, Info::query_sends] {
            let offers = ask(library, &query).map_err(|failure| Unavailable::Other(failure.to_string()))?;
            offers.iter().for_each(|offer| add(&mut found, kind, offer));
        }
    }
    if found.is_empty() {
        let filter = std::env::var("FI_PROVIDER").ok();
        return Err(Unavailable::NoProvider { version: library.version, filter });
    }
    Ok(found)
}

fn add(found: &mut Vec<Provider>, kind: Kind, offer: &Info) {
    let known = found.iter().position(|provider| provider.name == offer.provider());
    let at = known.unwrap_or_else(|| {
        found.push(Provider {
            name: offer.provider().to_owned(),
            version: offer.version(),
            kinds: Vec::new(),
            domains: Vec::new(),
        });
        found.len() - 1
    });
    let provider = &mut found[at];
    if !provider.kinds.contains(&kind) {
        provider.kinds.push(kind);
    }
    let domain = offer.domain();
    if !domain.is_empty() && !provider.domains.contains(&domain) {
        provider.domains.push(domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, version: Version, domains: &[&str]) -> Provider {
        Provider {
            name: name.to_owned(),
            version,
            kinds: vec![Kind::Connected, Kind::Unconnected],
            domains: domains.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_provider_is_told_with_its_version_kinds_and_devices() {
        let net = provider("net", Version::new(117, 0), &["net"]);
        assert_eq!(net.to_string(), "net 1.17.0 (MSG, RDM)");
        let tcp = provider("tcp;ofi_rxm", Version::new(201, 10), &["lo", "eth0"]);
        assert_eq!(tcp.to_string(), "tcp;ofi_rxm 2.1.1 (MSG, RDM) on lo, eth0");
        assert_eq!(provider("opx", Version::new(9, 3), &[]).version_text(), "9.3");
    }

    #[test]
    fn what_is_missing_is_told_with_a_remedy() {
        let version = Version::new(1, 17);
        let none = Unavailable::NoProvider { version, filter: None }.to_string();
        assert!(none.contains("libfabric 1.17") && none.contains("install one"), "{none}");
        let left_out = Unavailable::NoProvider { version, filter: Some("^tcp".to_owned()) }.to_string();
        assert!(left_out.contains("FI_PROVIDER=^tcp, unset it"), "{left_out}");
    }

    #[test]
    fn this_host_gets_a_reason_or_providers() {
        match providers() {
            Ok(providers) => {
                let names: Vec<_> = providers.iter().map(|it| &it.name[..]).collect();
                assert!(!names.is_empty() && !names.contains(&"sockets"), "{names:?}");
            }
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
}
