//! What a process costs: its own CPU time and context switches, and another process's memory, CPU time and open
//! files as the kernel's /proc tells them; it knows nothing of peers.

use crate::Result;
use serde::{Deserialize, Serialize};
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// What this process has used since some moment.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) wall_us: f64,
    /// CPU time of all threads.
    pub(crate) cpu_us: f64,
    /// Context switches of all threads.
    pub(crate) switches: f64,
    /// Context switches of all threads but the one that asks.
    pub(crate) background_switches: f64,
}

impl Usage {
    pub(crate) fn now() -> Self {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` is a writable rusage, and all zeroes is a valid one should the call fail.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
        Self {
            wall_us: BEGAN.get_or_init(Instant::now).elapsed().as_secs_f64() * 1e6,
            cpu_us: us(usage.ru_utime) + us(usage.ru_stime),
            switches: (usage.ru_nvcsw + usage.ru_nivcsw) as f64,
            background_switches: background_switches(),
        }
    }

    pub(crate) fn since(self, start: Self) -> Self {
        Self {
            wall_us: self.wall_us - start.wall_us,
            cpu_us: self.cpu_us - start.cpu_us,
            switches: self.switches - start.switches,
            // A thread that has ended takes its count with it.
            background_switches: (self.background_switches - start.background_switches).max(0.0),
        }
    }

    pub(crate) fn background_per_ms(&self) -> f64 {
        self.background_switches / (self.wall_us / 1e3).max(1.0)
    }
}

fn background_switches() -> f64 {
    // SAFETY: no argument, cannot fail.
    let own = unsafe { libc::gettid() }.to_string();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let statuses = tasks
        .flatten()
        .filter(|task| task.file_name().to_str() != Some(&own))
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let switches = |status: &str| -> f64 {
        let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        counts.filter_map(|(_, count)| count.trim().parse::<f64>().ok()).sum()
    };
    statuses.map(|status| switches(&status)).sum()
}

/// The CPU time of all threads of `pid` in microseconds. schedstat counts nanoseconds; stat only ticks of 10 ms.
pub(crate) fn cpu_us(pid: u32) -> f64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        .sum::<f64>()
        / 1e3
}

/// The proportional set size of `pid` in KiB: its user memory, shared pages divided among those who share them.
pub(crate) fn pss_kib(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// As many open files as this process may have: 10,000 links need 10,000 descriptors at each end.
pub(crate) fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a readable and writable rlimit during both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// The end of the parent ends this process too, and so does a minute or two of hanging.
pub(crate) fn die_with_parent(limit_s: u32) {
    // SAFETY: neither call takes a pointer; SIGALRM's default action ends the process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(limit_s);
    }
}
