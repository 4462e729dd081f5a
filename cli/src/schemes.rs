//! Which URL schemes there are, in this build and beyond it, and why one cannot be used. Opens nothing.

use std::sync::Arc;

use fabriq::Transport;
use serde::Serialize;

/// The schemes that fabriq knows or will know, with what each is for.
const KNOWN: [(&str, &str); 7] = [
    ("inproc", "between threads of one process"),
    ("ipc", "between processes of one host"),
    ("tcp", "between hosts, and to every other ZeroMQ peer"),
    ("verbs", "RDMA: InfiniBand, RoCE, iWARP"),
    ("ofi", "libfabric: EFA, Omni-Path, Slingshot and others"),
    ("pgm", "reliable multicast over raw IP"),
    ("epgm", "reliable multicast over UDP"),
];

/// One scheme.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scheme {
    /// Without `://`.
    pub(crate) scheme: &'static str,
    /// Whether this build and this host can use it.
    pub(crate) available: bool,
    /// Why not.
    pub(crate) why: Option<String>,
    /// What for.
    pub(crate) purpose: &'static str,
    /// What it can run on here, best first: devices, or providers. Empty where there is nothing to choose from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) devices: Vec<String>,
}

/// Whether fabriq knows a scheme, in this build or another.
pub(crate) fn is_known(scheme: &str) -> bool {
    KNOWN.iter().any(|known| known.0 == scheme)
}

/// The names of all that fabriq knows.
pub(crate) fn names() -> Vec<&'static str> {
    KNOWN.iter().map(|known| known.0).collect()
}

/// Why this build or this host cannot use a scheme, if it cannot. Asks that transport alone: libraries of others are not loaded.
pub(crate) fn unavailable(scheme: &str) -> Option<String> {
    match fabriq::transports().iter().find(|transport| transport.schemes().contains(&scheme)) {
        Some(transport) => transport.unavailable(),
        None => Some("not in this build".to_owned()),
    }
}

/// All schemes of `transports`, and those that this build lacks.
pub(crate) fn all(transports: &[Arc<dyn Transport>]) -> Vec<Scheme> {
    let purpose = |scheme| KNOWN.iter().find(|known| known.0 == scheme).map_or("", |known| known.1);
    let mut schemes = Vec::new();
    for transport in transports {
        let why = transport.unavailable();
        let devices = if why.is_none() { transport.devices() } else { Vec::new() };
        for &scheme in transport.schemes() {
            schemes.push(Scheme {
                scheme,
                available: why.is_none(),
                why: why.clone(),
                purpose: purpose(scheme),
                devices: devices.clone(),
            });
        }
    }
    for (scheme, purpose) in KNOWN {
        if !schemes.iter().any(|known| known.scheme == scheme) {
            let why = Some("not in this build".to_owned());
            schemes.push(Scheme { scheme, available: false, why, purpose, devices: Vec::new() });
        }
    }
    schemes.sort_by_key(|scheme| KNOWN.iter().position(|known| known.0 == scheme.scheme));
    schemes
}
