//! verbs:// addresses: `host:port`, `source:port;host:port` to choose the device by one of its addresses, and options.
//! Splits and checks the text; resolves no names.

use hosts::{Host, Place};
use packet_protocol::limits::{PACKET_LEN_MAX, PACKET_LEN_MIN};
use transport_core::{Endpoint, OpenError};

use crate::limits::{PACKET_LEN, RECEIVES, RECEIVES_MAX, RECEIVES_MIN, SENDS, SENDS_MAX, SENDS_MIN};

/// What stands behind `verbs://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) source: Option<Place>,
    pub(crate) target: Place,
    pub(crate) options: Options,
}

/// The options of a URL; docs/verbs.md tells users of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The device that the address must belong to.
    pub(crate) device: Option<String>,
    /// Type of service, which the fabric turns into a service level or DSCP.
    pub(crate) service_type: Option<u8>,
    /// Bytes of a packet.
    pub(crate) packet_len: u32,
    /// Work requests of a send queue.
    pub(crate) sends: u32,
    /// Receive buffers of a link at most.
    pub(crate) receives: u32,
    /// Local acknowledgement timeout: 4.096 us times two to this power.
    pub(crate) ack_timeout: Option<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: None,
            service_type: None,
            packet_len: PACKET_LEN,
            sends: SENDS,
            receives: RECEIVES,
            ack_timeout: None,
        }
    }
}

const EITHER: &str = "write host:port, for example verbs://10.0.0.1:5555 with an address of an RDMA device's interface; to \
                      bind, `*` stands for any interface or any port; to choose the device, verbs://source:port;host:port";
const TO_BIND: &str = "a bind takes one interface and port, for example verbs://*:5555 or verbs://10.0.0.1:*";
const TO_DIAL: &str = "a connect needs a host and a port of 1 to 65535, for example verbs://10.0.0.1:5555";

impl Address {
    /// Reads the address of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let mut options = Options::default();
        for (name, value) in endpoint.options() {
            options.set(name, value).map_err(|expected| bad(endpoint, expected))?;
        }
        let (source, target) = match endpoint.address().split_once(';') {
            Some((source, target)) => {
                (Some(Place::parse(source).ok_or_else(|| bad(endpoint, EITHER))?), target)
            }
            None => (None, endpoint.address()),
        };
        let target = Place::parse(target).ok_or_else(|| bad(endpoint, EITHER))?;
        Ok(Self { source, target, options })
    }

    /// The place to bind.
    pub(crate) fn listen(self, endpoint: &Endpoint) -> Result<(Place, Options), OpenError> {
        if self.source.is_some() { Err(bad(endpoint, TO_BIND)) } else { Ok((self.target, self.options)) }
    }

    /// The place to dial, and from where.
    pub(crate) fn dial(self, endpoint: &Endpoint) -> Result<(Place, Option<Place>, Options), OpenError> {
        if self.target.host == Host::Any || self.target.port == 0 {
            return Err(bad(endpoint, TO_DIAL));
        }
        Ok((self.target, self.source, self.options))
    }
}

impl Options {
    /// Sets one by its name. An error says what would be right.
    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        fn number(value: &str, least: u32, most: u32) -> Option<u32> {
            value.parse().ok().filter(|number| (least..=most).contains(number))
        }
        match name {
            "device" if !value.is_empty() => self.device = Some(value.to_owned()),
            "device" => {
                return Err("`device` takes a name that `ibv_devices` lists, for example device=mlx5_0");
            }
            "service_type" => {
                let value = number(value, 0, 255).ok_or("`service_type` takes 0 to 255")?;
                self.service_type = Some(value as u8);
            }
            "packet" => {
                let (least, most) = (PACKET_LEN_MIN as u32, PACKET_LEN_MAX as u32);
                self.packet_len = number(value, least, most)
                    .filter(|bytes| bytes.is_multiple_of(8))
                    .ok_or("`packet` takes 512 to 65536 bytes, a multiple of 8")?;
            }
            "sends" => {
                self.sends =
                    number(value, SENDS_MIN, SENDS_MAX).ok_or("`sends` takes 32 to 4096 work requests")?;
            }
            "receives" => {
                self.receives =
                    number(value, RECEIVES_MIN, RECEIVES_MAX).ok_or("`receives` takes 8 to 4096 buffers")?;
            }
            "ack_timeout" => {
                let value = number(value, 1, 31)
                    .ok_or("`ack_timeout` takes 1 to 31: 4.096 us times two to this power")?;
                self.ack_timeout = Some(value as u8);
            }
            _ => {
                return Err(
                    "the options of verbs:// are device, service_type, packet, sends, receives and ack_timeout, as in \
                            verbs://10.0.0.1:5555?receives=256",
                );
            }
        }
        Ok(())
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
    fn reads_addresses_and_options() {
        let address = parse(
            "verbs://10.0.0.1:5?device=rxe0&service_type=96&packet=4096&sends=64&receives=100&ack_timeout=14",
        )
        .unwrap();
        assert_eq!(address.target, Place::parse("10.0.0.1:5").unwrap());
        let options = Options {
            device: Some("rxe0".to_owned()),
            service_type: Some(96),
            packet_len: 4096,
            sends: 64,
            receives: 100,
            ack_timeout: Some(14),
        };
        assert_eq!(address.options, options);
        let from = parse("verbs://10.0.0.2:0;10.0.0.1:5").unwrap();
        assert_eq!(from.source, Place::parse("10.0.0.2:0"));
        assert_eq!(from.options, Options::default());
    }

    #[test]
    fn refuses_what_it_does_not_know_and_says_what_it_would_take() {
        for (url, says) in [
            ("verbs://10.0.0.1", "host:port"),
            ("verbs://a:1;b:2;c:3", "host:port"),
            ("verbs://a:1?device=", "ibv_devices"),
            ("verbs://a:1?service_type=256", "0 to 255"),
            ("verbs://a:1?packet=511", "512 to 65536"),
            ("verbs://a:1?packet=4097", "multiple of 8"),
            ("verbs://a:1?sends=31", "32 to 4096"),
            ("verbs://a:1?receives=x", "8 to 4096"),
            ("verbs://a:1?mtu=4096", "the options of verbs:// are"),
        ] {
            let said = parse(url).unwrap_err().to_string();
            assert!(said.contains(says) && said.contains(url), "{url}: {said}");
        }
        let endpoint = |url| Endpoint::parse(url).unwrap();
        for url in ["verbs://*:5", "verbs://10.0.0.1:0"] {
            assert!(parse(url).unwrap().dial(&endpoint(url)).is_err(), "{url}");
        }
        let url = "verbs://a:1;b:1";
        assert!(parse(url).unwrap().listen(&endpoint(url)).is_err());
    }
}
