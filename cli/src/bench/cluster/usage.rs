//! What this process takes: processor time, context switches, memory, copies. Reads /proc, a clock and a context's counter, changes
//! nothing.

use std::time::Instant;

use fabriq::Context;
use rustix::time::{ClockId, clock_gettime};

use super::protocol::Usage;

/// At one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    at: Instant,
    cpu_seconds: f64,
    voluntary: u64,
    involuntary: u64,
    copied_bytes: u64,
}

impl Sample {
    /// The copies are the context's.
    pub(super) fn now(context: &Context) -> Self {
        // First: it may wait for whoever has the engine, and the rest is of one moment.
        let copied_bytes = context.copied_bytes();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let (mut voluntary, mut involuntary) = (0, 0);
        // The process's own file counts its first thread alone.
        for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            voluntary += field(&status, "voluntary_ctxt_switches:");
            involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
        let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        Self { at: Instant::now(), cpu_seconds, voluntary, involuntary, copied_bytes }
    }

    /// From this moment to a later one, and the memory as it is now.
    pub(super) fn until(&self, later: &Self) -> Usage {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Usage {
            seconds: (later.at - self.at).as_secs_f64(),
            cpu_seconds: later.cpu_seconds - self.cpu_seconds,
            // Threads that have ended took theirs with them.
            voluntary_switches: later.voluntary.saturating_sub(self.voluntary),
            involuntary_switches: later.involuntary.saturating_sub(self.involuntary),
            resident_bytes: field(&status, "VmRSS:") << 10,
            pinned_bytes: field(&status, "VmPin:") << 10,
            copied_bytes: later.copied_bytes.saturating_sub(self.copied_bytes),
        }
    }
}

/// The number behind a name at the beginning of a line.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_and_memory() {
        let context = fabriq::context().unwrap();
        let before = Sample::now(&context);
        let mut sum = 0u64;
        while Sample::now(&context).cpu_seconds - before.cpu_seconds < 0.01 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = before.until(&Sample::now(&context));
        assert_eq!(usage.copied_bytes, 0, "nothing was carried");
        assert!(
            usage.cpu_seconds >= 0.01 && usage.seconds > 0.0 && usage.resident_bytes > 1 << 20,
            "{usage:?}"
        );
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmRSS:\t   12 kB\nnonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t5\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 5);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), 7);
        assert_eq!((field(status, "VmRSS:"), field(status, "VmPin:")), (12, 0));
    }
}
