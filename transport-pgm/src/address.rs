//! What stands behind `epgm://` and `pgm://`, in libzmq's forms: `interface;group:port` and its relatives. Splits and checks
//! the text; looks at no interface.
//!
//! ```text
//! eth0;239.192.1.1:5555                          an interface by name
//! 10.8.0.1;239.192.1.1:5555                      or by its address
//! ;239.192.1.1:5555      239.192.1.1:5555        the interface that the route to the group takes
//! eth0;239.192.1.1,239.192.1.2;239.192.1.3:5555  receives from the first two groups, sends to the third
//! eth0;[ff08::1]:5555    [fe80::1%eth0];ff02::1:5555    IPv6, with brackets or without
//! ```

use std::net::IpAddr;

use transport_core::{Endpoint, OpenError};

use crate::limits::GROUPS_MAX;

/// An address, split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) interface: Choice,
    /// Groups that are received, at least one.
    pub(crate) receive: Vec<IpAddr>,
    /// The group that is sent to.
    pub(crate) send: IpAddr,
    /// PGM's data-destination port, and over UDP also that of the datagrams.
    pub(crate) port: u16,
}

/// Which interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Where the route to the group leads.
    Route,
    /// By name.
    Name(String),
    /// By one of its addresses.
    Address(IpAddr),
}

const EXPECTED: &str = "write interface;group:port, for example epgm://eth0;239.192.1.1:5555, where the interface is a name \
                        or an address that `ip addr` lists, or nothing";

impl Address {
    /// Reads the address of an endpoint.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let bad = |expected: String| OpenError::BadAddress { endpoint: endpoint.clone(), expected };
        let (network, port) = endpoint.address().rsplit_once(':').ok_or_else(|| bad(EXPECTED.into()))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = Some(port).filter(|_| digits).and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            bad("the port behind the last colon must be a number of 1 to 65535; all of a group agree on it".into())
        })?;
        let mut fields = network.split(';');
        let (first, second, third) = (fields.next().unwrap_or(""), fields.next(), fields.next());
        if fields.next().is_some() {
            return Err(bad("more than two semicolons; ".to_owned() + EXPECTED));
        }
        let (interface, receive, send) = match second {
            Some(receive) => (first, receive, third),
            // A group alone. libzmq takes an interface alone here, and a group that it made up.
            None => ("", first, None),
        };
        let mut zone = None;
        let mut group = |text: &str| match Numeric::parse(text) {
            Some(Numeric { ip, zone: of }) if ip.is_multicast() => {
                if of.is_some() {
                    zone = of;
                }
                Ok(ip)
            }
            Some(_) => Err(bad(format!(
                "{text} is no multicast group; choose one of 239.192.0.0/14 (RFC 2365) or of ff08::/16"
            ))),
            None => Err(bad(format!("`{text}` is no IP address; {EXPECTED}"))),
        };
        let receive = receive.split(',').map(&mut group).collect::<Result<Vec<_>, _>>()?;
        let send = match third.filter(|_| send.is_some()) {
            Some(send) => group(send)?,
            None => receive[0],
        };
        if receive.len() > GROUPS_MAX {
            return Err(bad(format!("more than {GROUPS_MAX} groups; open several endpoints")));
        }
        let is_v4 = send.is_ipv4();
        if receive.iter().any(|group| group.is_ipv4() != is_v4) {
            return Err(bad("IPv4 and IPv6 groups in one address; open an endpoint for each".into()));
        }
        let interface = match (interface, zone) {
            ("", None) => Choice::Route,
            ("", Some(zone)) => Choice::Name(zone),
            (text, _) => match Numeric::parse(text) {
                Some(Numeric { ip, .. }) if ip.is_multicast() => {
                    return Err(bad(format!(
                        "{text} is a group and stands where an interface should; {EXPECTED}"
                    )));
                }
                // An address names an interface of either kind of network; a zone says which without a doubt.
                Some(Numeric { zone: Some(zone), .. }) => Choice::Name(zone),
                Some(Numeric { ip, .. }) if ip.is_unspecified() => Choice::Route,
                Some(Numeric { ip, .. }) => Choice::Address(ip),
                None if text == "*" => Choice::Route,
                None if is_name(text) => Choice::Name(text.to_owned()),
                None => return Err(bad(format!("`{text}` is no interface; {EXPECTED}"))),
            },
        };
        Ok(Self { interface, receive, send, port })
    }
}

/// What the system takes for an interface's name (dev_valid_name).
fn is_name(text: &str) -> bool {
    let odd = |byte: u8| byte == b'/' || byte == b':' || byte == b'%' || !byte.is_ascii_graphic();
    text.len() < 16 && !text.bytes().any(odd) && text != "." && text != ".."
}

struct Numeric {
    ip: IpAddr,
    zone: Option<String>,
}

impl Numeric {
    fn parse(text: &str) -> Option<Self> {
        let inner = match text.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None => text,
        };
        let (ip, zone) = match inner.split_once('%') {
            Some((ip, zone)) => (ip, Some(zone)),
            None => (inner, None),
        };
        let ip: IpAddr = ip.parse().ok()?;
        // Only IPv6 has zones and brackets.
        let plain = zone.is_none() && inner.len() == text.len();
        let zone_is_name = zone.is_none_or(|zone| !zone.is_empty() && is_name(zone));
        (zone_is_name && (ip.is_ipv6() || plain)).then(|| Self { ip, zone: zone.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Address, String> {
        let endpoint = Endpoint::parse(&format!("epgm://{address}")).expect("a URL");
        Address::parse(&endpoint).map_err(|error| error.to_string())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an IP address")
    }

    #[test]
    fn reads_every_form_that_libzmq_documents() {
        let name = |name: &str| Choice::Name(name.into());
        for (text, interface, receive, send) in [
            ("eth0;239.192.1.1:5555", name("eth0"), vec!["239.192.1.1"], "239.192.1.1"),
            (
                "10.8.0.1;239.192.1.1:5555",
                Choice::Address(ip("10.8.0.1")),
                vec!["239.192.1.1"],
                "239.192.1.1",
            ),
            (";239.192.1.1:5555", Choice::Route, vec!["239.192.1.1"], "239.192.1.1"),
            ("239.192.1.1:5555", Choice::Route, vec!["239.192.1.1"], "239.192.1.1"),
            ("*;239.192.1.1:5555", Choice::Route, vec!["239.192.1.1"], "239.192.1.1"),
            (
                "eth0;239.192.1.1,239.192.1.2;239.192.1.3:5555",
                name("eth0"),
                vec!["239.192.1.1", "239.192.1.2"],
                "239.192.1.3",
            ),
            (";239.192.1.1;239.192.1.3:5555", Choice::Route, vec!["239.192.1.1"], "239.192.1.3"),
            ("eth0;ff08::1:5555", name("eth0"), vec!["ff08::1"], "ff08::1"),
            ("eth0;[ff08::1]:5555", name("eth0"), vec!["ff08::1"], "ff08::1"),
            ("[fe80::1%br0];ff02::1:5555", name("br0"), vec!["ff02::1"], "ff02::1"),
            ("[fd08::1];[ff08::1]:5555", Choice::Address(ip("fd08::1")), vec!["ff08::1"], "ff08::1"),
            (";[ff02::5%eth1]:5555", name("eth1"), vec!["ff02::5"], "ff02::5"),
        ] {
            let receive = receive.into_iter().map(ip).collect();
            assert_eq!(parse(text), Ok(Address { interface, receive, send: ip(send), port: 5555 }), "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, want) in [
            ("eth0;10.0.0.1:5555", "no multicast group"),
            ("10.0.0.1:5555", "no multicast group"),
            ("eth0:5555", "no IP address"),
            ("eth0;:5555", "no IP address"),
            ("eth0;239.1.1.1", "write interface;group:port"),
            ("eth0;239.1.1.1:", "1 to 65535"),
            ("eth0;239.1.1.1:0", "1 to 65535"),
            ("eth0;239.1.1.1:65536", "1 to 65535"),
            ("eth0;239.1.1.1:+5", "1 to 65535"),
            ("eth0;239.1.1.1:*", "1 to 65535"),
            ("239.1.1.1;239.1.1.2:5", "stands where an interface should"),
            ("eth0;239.1.1.1;239.1.1.2;239.1.1.3:5", "more than two semicolons"),
            ("eth0;239.1.1.1,ff02::1:5", "an endpoint for each"),
            ("eth0/1;239.1.1.1:5", "no interface"),
            ("averyveryverylongname;239.1.1.1:5", "no interface"),
            ("eth0;[239.1.1.1]:5", "no IP address"),
            ("eth0;239.1.1.1%eth0:5", "no IP address"),
        ] {
            let said = parse(text).expect_err(text);
            assert!(said.contains(want) && said.contains(text), "{text}: {said}");
        }
        let many = vec!["239.1.1.1"; GROUPS_MAX + 1].join(",");
        assert!(parse(&format!(";{many}:5")).expect_err("too many").contains("open several"));
    }
}
