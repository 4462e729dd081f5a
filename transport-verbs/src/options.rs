//! The options of verbs:// URLs that no other scheme has; docs/verbs.md tells users of them. Reads text, and nothing else.

use rdma_links::fabric::Terms;
use rdma_links::{UrlOptions, option_number};

/// What a verbs:// URL says beside its address and the options of all links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerbsOptions {
    /// The device that the address must belong to.
    pub device: Option<String>,
    /// Type of service, which the connection manager turns into a service level or DSCP; `None` for the system's default.
    pub service_type: Option<u8>,
    /// Local acknowledgement timeout: 4.096 us times two to this power; `None` for the usual one.
    pub ack_timeout: Option<u8>,
}

impl VerbsOptions {
    /// The terms of a connection, with what the URL says of them.
    pub(crate) fn complete(&self, terms: &Terms) -> Terms {
        Terms { ack_timeout: terms.ack_timeout.or(self.ack_timeout), ..*terms }
    }
}

impl UrlOptions for VerbsOptions {
    const SCHEME: &'static str = "verbs";
    const ADDRESS: &'static str = "an address of an RDMA device's interface";
    const NAMES: &'static [&'static str] = &["device", "service_type", "ack_timeout"];

    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        match name {
            "device" if value.is_empty() => {
                return Some(Err(
                    "`device` takes a name that `ibv_devices` lists, for example device=mlx5_0",
                ));
            }
            "device" => self.device = Some(value.to_owned()),
            "service_type" => match option_number(value, 0, 255) {
                Some(number) => self.service_type = Some(number as u8),
                None => return Some(Err("`service_type` takes 0 to 255")),
            },
            "ack_timeout" => match option_number(value, 1, 31) {
                Some(number) => self.ack_timeout = Some(number as u8),
                None => return Some(Err("`ack_timeout` takes 1 to 31: 4.096 us times two to this power")),
            },
            _ => return None,
        }
        Some(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_options_and_says_what_they_take() {
        let mut options = VerbsOptions::default();
        for (name, value) in [("device", "rxe0"), ("service_type", "96"), ("ack_timeout", "14")] {
            assert_eq!(options.set(name, value), Some(Ok(())), "{name}");
        }
        let read =
            VerbsOptions { device: Some("rxe0".to_owned()), service_type: Some(96), ack_timeout: Some(14) };
        assert_eq!(options, read);
        for (name, value, says) in [
            ("device", "", "ibv_devices"),
            ("service_type", "256", "0 to 255"),
            ("ack_timeout", "0", "1 to 31"),
        ] {
            let said = options.set(name, value).unwrap().unwrap_err();
            assert!(said.contains(says), "{name}={value}: {said}");
        }
        assert_eq!(options.set("mtu", "4096"), None);
        assert_eq!(options, read, "what is refused changes nothing");
    }
}
