//! `fabriq info`: what this build and this host support. Opens no socket.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::failure::Failure;
use crate::schemes::{self, Scheme};

/// Say which transports this build and this host support, and why one is unavailable
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  fabriq info --json | jq '.schemes[] | select(.available) | .scheme'")]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The host and the build, as `info` and `bench` report them.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    version: &'static str,
    /// `release` or `debug`.
    pub(crate) build: &'static str,
    zmtp: &'static str,
    kernel: String,
    architecture: &'static str,
    /// CPUs that this process may use.
    cpus: usize,
}

#[derive(Debug, Serialize)]
struct Info {
    #[serde(flatten)]
    host: Host,
    schemes: Vec<Scheme>,
}

impl Host {
    /// This one.
    pub(crate) fn new() -> Self {
        let name = rustix::system::uname();
        let kernel = format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            zmtp: "3.1",
            kernel,
            architecture: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let Self { version, build, kernel, architecture, cpus, .. } = self;
        format!("fabriq {version} ({build} build), {kernel} on {architecture}, {cpus} CPUs")
    }
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let info = Info { host: Host::new(), schemes: schemes::all(&fabriq::transports()) };
    let text = if args.json { to_json(&info)? } else { table(&info) };
    print(&text)
}

fn table(info: &Info) -> String {
    let mut text = format!("{}\nspeaks ZMTP {} and 3.0\n\n", info.host.line(), info.host.zmtp);
    for scheme in &info.schemes {
        let name = format!("{}://", scheme.scheme);
        let state = if scheme.available { "yes" } else { "no" };
        let why = scheme.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let _ = writeln!(text, "{name:<10} {state:<4} {}{why}", scheme.purpose);
    }
    text
}

/// Pretty JSON with a newline.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(value);
    json.map(|json| json + "\n").map_err(|error| Failure::Failed(format!("cannot write JSON: {error}")))
}

/// Prints on standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}
