//! Every limit of the cluster benchmark, by name. Holds numbers only, no code.

use std::time::Duration;

/// How long all ranks may take to come, unless `--join` says otherwise: launchers start some of a thousand late.
pub(super) const JOIN: Duration = Duration::from_secs(60);

/// How long a rank or a message may be silent, unless `--timeout` says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How long each figure is measured, and warmed up at most, when nothing is said.
pub(super) const DURATION: Duration = Duration::from_millis(500);
pub(super) const WARMUP: Duration = Duration::from_millis(500);

/// How much longer than `--duration` a measurement goes on that has not reached its `--precision`.
pub(super) const STRETCH_MAX: u32 = 10;

/// Parts of a measurement, each with a figure of its own, and of a warm-up.
pub(super) const WINDOWS: u32 = 10;
pub(super) const WARM_WINDOWS: u32 = 20;

/// Of windows of what counts that are as long, the figures are told as they come: durations from ten times that. A message of each rank
/// then is nothing beside what is measured.
pub(super) const TOLD_WINDOW_MIN: Duration = Duration::from_secs(1);

/// A warm-up is over when so many windows in a row differ by no more than that share of the smallest.
pub(super) const STEADY_WINDOWS: usize = 4;
pub(super) const STEADY_SHARE: f64 = 0.05;

/// What may wait in all queues of a receiver, in bytes, and messages in each; `--hwm` takes their place. More than any wire
/// holds, and little enough for a slow one to carry in a second or two once a measurement is over.
pub(super) const QUEUED_BYTES: usize = 16 << 20;
pub(super) const QUEUED_MESSAGES: usize = 1000;
pub(super) const QUEUED_MESSAGES_MIN: usize = 4;

/// From so many connections of one thread on, each has buffers of the system's that are told how large they may be, of this at
/// least.
pub(super) const CROWD: usize = 16;
pub(super) const CROWD_BUFFER_BYTES: usize = 64 << 10;

/// Bytes received between two looks at the clock and the stage.
pub(super) const BYTES_PER_LOOK: usize = 16 << 10;
pub(super) const MESSAGES_PER_LOOK: usize = 64;

/// How long a thread that waits for messages goes without a look at the clock.
pub(super) const IDLE_LOOK: Duration = Duration::from_millis(50);

/// Messages under way in an open loop, each way of one socket: a REP drops replies beyond its high-water mark.
pub(super) const UNDER_WAY_MAX: usize = 1000;

/// How exactly a system call that sleeps can be expected to return; closer to the time, an open loop spins.
pub(super) const SLEEP_SLACK: Duration = Duration::from_micros(150);

/// Streams of a rank: `--threads` times `--links`. A sender's number in a message has so many bits for them.
pub(super) const STREAMS_MAX: usize = 1 << STREAM_BITS;
pub(super) const STREAM_BITS: u32 = 10;

/// Ranks: what is left of 32 bits.
pub(super) const RANKS_MAX: u32 = 1 << (32 - STREAM_BITS);

/// Processes of other runs that a report names.
pub(super) const STRANGERS_MAX: usize = 100;

/// Steps in a row that may fail with every rank alive, until a run is given up.
pub(super) const FAILED_STEPS_MAX: u32 = 20;

/// How often the end of a stream is said where a wire may lose it, and how far apart.
pub(super) const SAID: u32 = 8;
pub(super) const SAID_APART: Duration = Duration::from_millis(20);

/// Between two signs of life on a quiet coordination link, and how long one may be overdue.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
pub(super) const HEARTBEAT_OVERDUE: Duration = Duration::from_secs(10);

/// How long after one rank was ended by a signal the others may be by the same: launchers send one to all, not at once.
pub(super) const LEAVING_GRACE: Duration = Duration::from_secs(1);

/// How long the coordinator's last words may take to reach all ranks.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// How long a rank looks for its coordinator once it has lost it.
pub(super) const ORPHAN: Duration = Duration::from_secs(10);

/// A link is slow when it takes so much longer than the better links do, or moves so much less.
pub(super) const SLOW: f64 = 1.5;

/// A heat map has no more ranks a side; beyond, several share a cell, and the slowest of them is shown.
pub(super) const MAP_SIDE_MAX: usize = 64;

/// Measurements of one run: a report has each of them in memory, in a kilobyte or two at least.
pub(super) const ITEMS_MAX: u64 = 1_000_000;

/// Rows of a table on the page: flows, slow links, failures.
pub(super) const ROWS_MAX: usize = 200;

/// Flows of one measurement that a report keeps: the all-to-all of a thousand ranks has a million.
pub(super) const FLOWS_MAX: usize = 2000;

/// Flows of one rank whose latencies are told in full; of more, each in a dozen values. Flows of one measurement that keep their
/// distributions in a report.
pub(super) const FLOWS_WHOLE_MAX: usize = 32;

/// Ranks of one measurement whose usage a report keeps.
pub(super) const RANKS_WHOLE_MAX: usize = 128;

/// A measurement loses more than another when of all its messages so large a share more is lost. What is lost at random differs
/// by less.
pub(super) const LOSS_SHARE: f64 = 0.01;
