//! Every limit of the switch, by name. Holds numbers only, no code.

/// Largest frame: 64 KiB, as no link of a TAP device is wider.
pub(crate) const FRAME_MAX: usize = 64 << 10;

/// Frames taken from one device before the next one's turn.
pub(crate) const BATCH_FRAMES: usize = 64;

/// Frames on their way, all ports together; more are dropped and counted.
pub(crate) const IN_FLIGHT_MAX: usize = 1 << 17;

/// How long a frame may wait for a port's rate; what would wait longer is dropped and counted. The queue of a switch port.
pub(crate) const QUEUE_MAX: std::time::Duration = std::time::Duration::from_millis(50);

/// Stations whose ports are remembered; frames to others go to all ports.
pub(crate) const STATIONS_MAX: usize = 4096;

/// Seeds of ports are so far apart that no two runs' seeds below meet.
pub(crate) const PORTS_MAX: u64 = 1 << 16;
