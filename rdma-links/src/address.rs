//! Addresses of links on RDMA fabrics: `host:port`, `source:port;host:port` to choose the device by one of its addresses, and
//! options. Splits and checks the text; resolves no names.

use std::fmt::Debug;

use hosts::{Host, Place};
use packet_protocol::limits::{PACKET_LEN_MAX, PACKET_LEN_MIN};
use transport_core::{Capabilities, Delivery, Endpoint, Flow, OpenError, SessionKind, Topology};

use crate::limits::{PACKET_LEN, RECEIVES, RECEIVES_MAX, RECEIVES_MIN, SENDS, SENDS_MAX, SENDS_MIN};

/// The scheme of a fabric's URLs, and the options that no other scheme has. The default is a URL without options.
pub trait UrlOptions: Debug + Clone + Default + Send + 'static {
    /// The scheme, without `://`.
    const SCHEME: &'static str;

    /// Whose addresses the URLs have, for messages: "an address of ...".
    const ADDRESS: &'static str;

    /// The names of the options that are the scheme's own, for messages.
    const NAMES: &'static [&'static str];

    /// Sets an option of the scheme's own. `None`: it has none of that name. An error says what would be right.
    fn set(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>>;
}

/// What an endpoint of such a scheme offers, if its address can be read.
pub fn capabilities<O: UrlOptions>(endpoint: &Endpoint) -> Result<Capabilities, OpenError> {
    Address::<O>::parse(endpoint)?;
    Ok(Capabilities {
        delivery: Delivery::Reliable,
        flow: Flow::Duplex,
        pushback: true,
        topology: Topology::Unicast,
        session: SessionKind::Zmtp,
    })
}

/// What stands behind `://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address<O> {
    pub(crate) source: Option<Place>,
    pub(crate) target: Place,
    pub(crate) options: Options<O>,
}

/// The options of a URL; docs/verbs.md and docs/ofi.md tell users of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options<O> {
    /// Bytes of a packet.
    pub(crate) packet_len: u32,
    /// Work requests of a send queue.
    pub(crate) sends: u32,
    /// Receive buffers of a link at most.
    pub(crate) receives: u32,
    /// Those of the scheme's own.
    pub(crate) own: O,
}

impl<O: Default> Default for Options<O> {
    fn default() -> Self {
        Self { packet_len: PACKET_LEN, sends: SENDS, receives: RECEIVES, own: O::default() }
    }
}

impl<O: UrlOptions> Address<O> {
    /// Reads the address of an endpoint, whichever way it will be used.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let either = || {
            let (scheme, address) = (O::SCHEME, O::ADDRESS);
            let why = format!(
                "write host:port, for example {scheme}://10.0.0.1:5555 with {address}; to bind, `*` stands for any interface or \
                 any port; to choose the device, {scheme}://source:port;host:port"
            );
            bad(endpoint, why)
        };
        let mut options = Options::default();
        for (name, value) in endpoint.options() {
            options.set(name, value).map_err(|expected| bad(endpoint, expected))?;
        }
        let (source, target) = match endpoint.address().split_once(';') {
            Some((source, target)) => (Some(Place::parse(source).ok_or_else(either)?), target),
            None => (None, endpoint.address()),
        };
        let target = Place::parse(target).ok_or_else(either)?;
        Ok(Self { source, target, options })
    }

    /// The place to bind.
    pub(crate) fn listen(self, endpoint: &Endpoint) -> Result<(Place, Options<O>), OpenError> {
        if self.source.is_none() {
            return Ok((self.target, self.options));
        }
        let scheme = O::SCHEME;
        let why = format!(
            "a bind takes one interface and port, for example {scheme}://*:5555 or {scheme}://10.0.0.1:*"
        );
        Err(bad(endpoint, why))
    }

    /// The place to dial, and from where.
    pub(crate) fn dial(self, endpoint: &Endpoint) -> Result<(Place, Option<Place>, Options<O>), OpenError> {
        if self.target.host == Host::Any || self.target.port == 0 {
            let scheme = O::SCHEME;
            let why = format!(
                "a connect needs a host and a port of 1 to 65535, for example {scheme}://10.0.0.1:5555"
            );
            return Err(bad(endpoint, why));
        }
        Ok((self.target, self.source, self.options))
    }
}

impl<O: UrlOptions> Options<O> {
    /// Sets one by its name. An error says what would be right.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = |least, most| option_number(value, least, most);
        match name {
            "packet" => {
                let (least, most) = (PACKET_LEN_MIN as u32, PACKET_LEN_MAX as u32);
                self.packet_len = number(least, most)
                    .filter(|bytes| bytes.is_multiple_of(8))
                    .ok_or("`packet` takes 512 to 65536 bytes, a multiple of 8")?;
            }
            "sends" => {
                self.sends = number(SENDS_MIN, SENDS_MAX).ok_or("`sends` takes 32 to 4096 work requests")?;
            }
            "receives" => {
                self.receives =
                    number(RECEIVES_MIN, RECEIVES_MAX).ok_or("`receives` takes 8 to 4096 buffers")?;
            }
            _ => match self.own.set(name, value) {
                Some(set) => set?,
                None => {
                    let (scheme, own) = (O::SCHEME, O::NAMES.join(", "));
                    return Err(format!(
                        "the options of {scheme}:// are {own}, packet, sends and receives, as in \
                         {scheme}://10.0.0.1:5555?receives=256"
                    ));
                }
            },
        }
        Ok(())
    }
}

/// The number that an option's value is, if it is one from `least` to `most`.
pub fn option_number(value: &str, least: u32, most: u32) -> Option<u32> {
    value.parse().ok().filter(|number| (least..=most).contains(number))
}

fn bad(endpoint: &Endpoint, expected: impl Into<String>) -> OpenError {
    OpenError::BadAddress { endpoint: endpoint.clone(), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedOptions;

    fn parse(url: &str) -> Result<Address<SimulatedOptions>, OpenError> {
        Address::parse(&Endpoint::parse(url).unwrap())
    }

    #[test]
    fn reads_addresses_and_options() {
        let address = parse("simulated://10.0.0.1:5?packet=4096&sends=64&receives=100&device=x").unwrap();
        assert_eq!(address.target, Place::parse("10.0.0.1:5").unwrap());
        let own = SimulatedOptions { device: Some("x".to_owned()) };
        assert_eq!(address.options, Options { packet_len: 4096, sends: 64, receives: 100, own });
        let from = parse("simulated://10.0.0.2:0;10.0.0.1:5").unwrap();
        assert_eq!(from.source, Place::parse("10.0.0.2:0"));
        assert_eq!(from.options, Options::default());
    }

    #[test]
    fn refuses_what_it_does_not_know_and_says_what_it_would_take() {
        for (url, says) in [
            ("simulated://10.0.0.1", "host:port"),
            ("simulated://a:1;b:2;c:3", "simulated://source:port;host:port"),
            ("simulated://a:1?packet=511", "512 to 65536"),
            ("simulated://a:1?packet=4097", "multiple of 8"),
            ("simulated://a:1?sends=31", "32 to 4096"),
            ("simulated://a:1?receives=x", "8 to 4096"),
            ("simulated://a:1?device=", "the name of a device"),
            (
                "simulated://a:1?mtu=4096",
                "the options of simulated:// are device, packet, sends and receives",
            ),
        ] {
            let said = parse(url).unwrap_err().to_string();
            assert!(said.contains(says) && said.contains(url), "{url}: {said}");
        }
        let endpoint = |url| Endpoint::parse(url).unwrap();
        for url in ["simulated://*:5", "simulated://10.0.0.1:0"] {
            assert!(parse(url).unwrap().dial(&endpoint(url)).is_err(), "{url}");
        }
        let url = "simulated://a:1;b:1";
        assert!(parse(url).unwrap().listen(&endpoint(url)).is_err());
    }
}
