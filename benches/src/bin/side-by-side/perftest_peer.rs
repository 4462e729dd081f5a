//! perftest's tools (ib_send_lat, ib_send_bw, ib_read_bw) as a peer: the field's own raw figures beside ours. The end that
//! reports runs both processes; the other end does nothing. Their clock and their statistics are their own.

use crate::control::{Control, Report, Role, Task};
use crate::{Result, payload};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TRIPS: u32 = 1000;
const MESSAGES: u32 = 16384;
/// Bytes that a run of READs moves.
const READ: usize = 32 << 20;

/// Why the tools cannot be run here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    let found = Command::new("ib_send_lat").arg("--version").stdout(Stdio::null()).status();
    found.err().map(|error| format!("perftest: {error} (apt-get install perftest)"))
}

pub(crate) fn run<const EVENTS: bool>(task: &Task, control: &mut Control) -> Result<()> {
    let bound = task.url.strip_prefix("verbs://").ok_or("no verbs:// URL")?;
    let mut address: SocketAddr = bound.parse()?;
    let reports = match task.role {
        Role::Replier => false,
        Role::Requester => true,
        Role::Puller => true,
        _ => false,
    };
    if address.port() == 0 {
        // Free now, and nobody else is about to take it.
        address.set_port(TcpListener::bind((address.ip(), 0))?.local_addr()?.port());
        control.say("url", &format!("verbs://{address}"))?;
    }
    control.ready()?;
    let report = if reports { measure(task, address, EVENTS)? } else { Report::default() };
    control.conclude(&report)
}

fn measure(task: &Task, address: SocketAddr, events: bool) -> Result<Report> {
    let is_latency = task.role == Role::Requester;
    let large = payload::is_large(task.bytes);
    let (tool, count) = match (is_latency, large) {
        (true, _) => ("ib_send_lat", TRIPS),
        (false, false) => ("ib_send_bw", MESSAGES),
        (false, true) => ("ib_read_bw", (READ / task.bytes) as u32),
    };
    let command = |device: String| {
        let mut command = Command::new(tool);
        command.args([
            "-F",
            "-x",
            "1",
            "-d",
            &device,
            "-s",
            &task.bytes.to_string(),
            "-n",
            &count.to_string(),
        ]);
        command.args(["-p", &address.port().to_string()]);
        if !large {
            command.args(["-I", &task.bytes.to_string()]);
        }
        if events {
            command.arg("-e");
        }
        // SAFETY: prctl takes no pointer here and may be called between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        command
    };
    let server = command(device(address.ip())?).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut server = Ended(server);
    await_listener(address.port(), &mut server.0)?;
    let output =
        command(device(address.ip())?).arg(address.ip().to_string()).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let size = task.bytes.to_string();
    let row = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut row = row.rev();
    let row = row.find(|cells| cells.first() == Some(&size.as_str())).ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        format!("{tool}: no figures; {}", why.lines().next().unwrap_or("it says nothing"))
    })?;
    let cell = |at: usize| -> Result<f64> { Ok(row.get(at).ok_or("a column is missing")?.parse()?) };
    let count = u64::from(count);
    Ok(match is_latency {
        // It has half of the round trip: #bytes, #iterations, t_min, t_max, t_typical, t_avg, t_stdev, 99 %, ...
        true => Report { p50_us: 2.0 * cell(4)?, p99_us: 2.0 * cell(7)?, count, ..Report::default() },
        // #bytes, #iterations, BW peak, BW average (MiB/s), MsgRate (Mpps)
        false => Report {
            rate_per_s: cell(3)? * f64::from(1 << 20) / task.bytes as f64,
            count,
            ..Report::default()
        },
    })
}

/// Ends a process when it goes out of scope.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself already; then both calls fail, and that is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until somebody listens on a TCP port: over it perftest's two ends meet.
fn await_listener(port: u16, server: &mut Child) -> Result<()> {
    let listening = format!(":{port:04X} ");
    loop {
        let tables =
            ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        let mut lines = tables.iter().flat_map(|table| table.lines());
        if lines.any(|line| {
            let mut cells = line.split_whitespace().skip(1);
            cells.next().is_some_and(|local| local.ends_with(listening.trim_end()))
                && cells.nth(1) == Some("0A")
        }) {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            return Err(format!("perftest's server ended: {status}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The device that has an address.
fn device(address: IpAddr) -> Result<String> {
    for device in std::fs::read_dir("/sys/class/infiniband")?.flatten() {
        let Ok(gids) = std::fs::read_dir(device.path().join("ports/1/gids")) else { continue };
        for gid in gids.flatten() {
            let text = std::fs::read_to_string(gid.path()).unwrap_or_default();
            let gid = text.trim().parse::<Ipv6Addr>().ok().and_then(|gid| gid.to_ipv4_mapped());
            if gid.map(IpAddr::V4) == Some(address) {
                return Ok(device.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Err(format!("no RDMA device has the address {address}").into())
}
