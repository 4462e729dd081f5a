//! `fabriq info`: what this build and this host support. Opens no socket.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::{Deserialize, Serialize};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) version: String,
    /// `release` or `debug`.
    pub(crate) build: String,
    zmtp: String,
    /// Its name; empty where it is not known.
    #[serde(default)]
    pub(crate) name: String,
    kernel: String,
    pub(crate) architecture: String,
    /// The model's name, as /proc/cpuinfo has it; empty where it is not known.
    #[serde(default)]
    processor: String,
    /// CPUs that this process may use.
    pub(crate) cpus: usize,
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
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            zmtp: "3.1".to_owned(),
            name: name.nodename().to_string_lossy().into_owned(),
            kernel,
            architecture: std::env::consts::ARCH.to_owned(),
            processor: processor().unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Everything about it, by name.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let Self { version, build, zmtp, name, kernel, architecture, .. } = self;
        let facts = [
            ("fabriq", format!("{version} ({build} build), ZMTP {zmtp}")),
            ("host", name.clone()),
            ("system", format!("{kernel} on {architecture}")),
            ("processors", self.processor_line()),
        ];
        facts.into_iter().filter(|(_, fact)| !fact.is_empty()).collect()
    }

    /// How many processors, and which.
    pub(crate) fn processor_line(&self) -> String {
        format!("{} {} {}", self.cpus, self.architecture, self.processor).trim_end().to_owned()
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        let Self { version, build, kernel, architecture, cpus, .. } = self;
        format!("fabriq {version} ({build} build), {kernel} on {architecture}, {cpus} CPUs")
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
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
        for device in &scheme.devices {
            let _ = writeln!(text, "{:15} {device}", "");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scheme_can_run_on_stands_below_it() {
        let schemes = vec![Scheme {
            scheme: "ofi",
            available: true,
            why: None,
            purpose: "fabrics",
            devices: vec!["tcp 1.17.0 (MSG)".to_owned(), "shm 1.17.0 (RDM)".to_owned()],
        }];
        let text = table(&Info { host: Host::new(), schemes });
        let lines: Vec<_> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "ofi://     yes  fabrics",
                "                tcp 1.17.0 (MSG)",
                "                shm 1.17.0 (RDM)"
            ]
        );
    }
}
