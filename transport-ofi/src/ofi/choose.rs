//! Which provider a URL gets: the one it names, or the best that this host has for its address. Opens nothing.

use std::net::{SocketAddr, UdpSocket};

use rdma_links::fabric::Failure;

use super::failure;
use crate::device::{At, Info, Kind, Query};
use crate::options::OfiOptions;
use crate::sys::Library;

/// Providers of hardware that only they can drive, and whose addresses are none of IP's: where one of them has a device, it is
/// the best there is. The first one wins. (psm3 is not among them: it offers itself on any Ethernet.)
const NATIVE: [&str; 3] = ["cxi", "opx", "efa"];

/// What this host has, asked once.
#[derive(Debug)]
pub(super) struct Chooser {
    library: &'static Library,
    native: Option<Option<&'static str>>,
}

impl Chooser {
    pub(super) const fn new(library: &'static Library) -> Self {
        Self { library, native: None }
    }

    /// The offer for listening at an address.
    pub(super) fn for_listening(&mut self, at: SocketAddr, options: &OfiOptions) -> Result<Info, Failure> {
        let chosen = self.choose(At::Local(at), options, Some(at));
        // Some providers try the port as they are asked, and have no offer for one that is taken (verbs).
        let of_any_port = SocketAddr::new(at.ip(), 0);
        if chosen.is_err() && at.port() != 0 && self.choose(At::Local(of_any_port), options, Some(at)).is_ok()
        {
            let errno = if is_forbidden(at) { libc::EACCES } else { libc::EADDRINUSE };
            return Err(Failure::new("fi_getinfo", errno));
        }
        chosen
    }

    /// The offer for going to an address.
    pub(super) fn for_dialling(
        &mut self,
        to: SocketAddr,
        from: Option<SocketAddr>,
        options: &OfiOptions,
    ) -> Result<Info, Failure> {
        let local = from.or_else(|| local_address_towards(to));
        self.choose(At::Remote { to, from }, options, local)
    }

    /// The offer for an endpoint without connections, of a known provider, that peers reach at a local address.
    pub(super) fn for_answering(
        &self,
        provider: &str,
        local: Option<SocketAddr>,
        options: &OfiOptions,
    ) -> Result<Info, Failure> {
        let offers = self.unconnected(Some(provider), options, local)?;
        offers.into_iter().next().ok_or_else(|| none(Some(provider), options.domain.as_deref()))
    }

    fn choose(&mut self, at: At, options: &OfiOptions, local: Option<SocketAddr>) -> Result<Info, Failure> {
        let named = options.provider.as_deref();
        let kinds: &[Kind] = match &options.endpoint {
            Some(kind) => std::slice::from_ref(kind),
            None => &[Kind::Connected, Kind::Unconnected],
        };
        // The native one may not have the domain, or the kind of endpoint, that the URL names.
        let native = if named.is_none() { self.native() } else { None };
        for provider in native.map(Some).into_iter().chain([named]) {
            for kind in kinds {
                let offers = match kind {
                    Kind::Connected => self.query(*kind, at, provider, options)?,
                    Kind::Unconnected => self.unconnected(provider, options, local)?,
                };
                if let Some(offer) = offers.into_iter().next() {
                    return Ok(offer);
                }
            }
        }
        Err(none(named, options.domain.as_deref()))
    }

    fn unconnected(
        &self,
        provider: Option<&str>,
        options: &OfiOptions,
        local: Option<SocketAddr>,
    ) -> Result<Vec<Info>, Failure> {
        let mut offers = self.query(Kind::Unconnected, At::Anywhere, provider, options)?;
        // A provider over IP has a name that its peers can reach only when it is given the address. To others, a host's address
        // means nothing, or something else.
        let over_ip = |offer: &Info| offer.local_address().is_some_and(|it| it.to_socket_address().is_some());
        if let Some(local) = local.filter(|local| !local.ip().is_unspecified())
            && offers.first().is_some_and(over_ip)
        {
            let at = At::Local(SocketAddr::new(local.ip().to_canonical(), 0));
            offers = self.query(Kind::Unconnected, at, provider, options)?;
        }
        Ok(offers)
    }

    fn query(
        &self,
        kind: Kind,
        at: At,
        provider: Option<&str>,
        options: &OfiOptions,
    ) -> Result<Vec<Info>, Failure> {
        let query = Query { kind, at, provider, domain: options.domain.as_deref() };
        let mut offers = Info::query(self.library, &query).map_err(failure)?;
        // Asked for `tcp`, libfabric also offers what is layered upon it; and some providers offer whatever domain they have.
        offers.retain(|offer| {
            provider.is_none_or(|provider| offer.provider() == provider)
                && query.domain.is_none_or(|domain| offer.domain() == domain)
        });
        Ok(offers)
    }

    fn native(&mut self) -> Option<&'static str> {
        if let Some(native) = self.native {
            return native;
        }
        let has = |provider: &&str| {
            let any = OfiOptions::default();
            let offers = self.query(Kind::Unconnected, At::Anywhere, Some(provider), &any);
            offers.is_ok_and(|offers| !offers.is_empty())
        };
        let native = NATIVE.into_iter().find(has);
        self.native = Some(native);
        native
    }
}

/// Whether this user may not have the port (ip_unprivileged_port_start in ip(7)). The kernel asks the same of RDMA's ports as of
/// UDP's, which nobody notices when it is tried.
fn is_forbidden(at: SocketAddr) -> bool {
    UdpSocket::bind(at).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

fn none(provider: Option<&str>, domain: Option<&str>) -> Failure {
    let (words, remedy) = match (provider, domain) {
        (_, Some(domain)) => (
            format!("no provider that may be used offers the domain `{domain}` for the address on this host"),
            "`fi_info` lists the domains of each provider of this host".to_owned(),
        ),
        (Some(provider), None) => (
            format!("the provider `{provider}` offers nothing for the address on this host"),
            "`fabriq info` lists the providers of this host".to_owned(),
        ),
        (None, None) => (
            "no provider of libfabric's offers anything for the address on this host".to_owned(),
            "use an address that `ip addr` lists, or one that this host has a route to".to_owned(),
        ),
    };
    Failure { words: Some(words), remedy: Some(remedy), ..Failure::new("fi_getinfo", libc::ENODEV) }
}

/// The address of ours that packets to a peer come from. Sends nothing.
fn local_address_towards(to: SocketAddr) -> Option<SocketAddr> {
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok()
}
