//! Every limit of PGM by name: of the wire, of memory, of time. Holds numbers only, no code.

use std::time::Duration;

// The wire.

/// Numbers in an OPT_NAK_LIST, beside the one in the header (RFC 3208 section 9.3).
pub const NAK_LIST_MAX: usize = 62;

/// Option extensions of one packet (section 9), OPT_LENGTH not counted.
pub const OPTIONS_MAX: usize = 16;

/// Bytes of each packet that libzmq keeps free for an OPT_FRAGMENT, which it never sends. So it fills TSDUs of 1428 bytes
/// over UDP and of 1436 over IP where the MTU is 1500. Peers may have buffers of that size, so ours are no longer.
pub const FRAGMENT_ROOM: usize = 20;

// Memory.

/// Parts of one message. One with more is dropped and reported.
pub const MESSAGE_PARTS_MAX: usize = 1 << 16;

/// Bytes of a message's complete parts that wait for its last one. A message of one part has no limit but the maximum
/// size.
pub const MULTIPART_BYTES_MAX: u64 = 256 << 20;

/// Longest TSDU, in bytes: what a 16-bit length says, and a datagram holds.
pub const TSDU_LEN_MAX: usize = 65_000;

/// Longest packet that is not data, in bytes: a NAK list of 63 numbers with IPv6 addresses.
pub const CONTROL_LEN_MAX: usize = 16 + 4 + 2 * 20 + 4 + 4 + 4 * NAK_LIST_MAX;

/// Memory of one transmit window, in bytes, unless set.
pub const WINDOW_BYTES_MAX: usize = 64 << 20;

/// Packets of a transmit window at least. libzmq computes 80 from its default rate and recovery interval, which a burst
/// of short messages outruns.
pub const WINDOW_PACKETS_MIN: u32 = 4096;

/// Receivers whose requests are kept apart. Beyond it, those that wait for nothing are forgotten first.
pub const ASKERS_MAX: usize = 1024;

/// Requests of one receiver that may wait.
pub const ASKER_WAITING_MAX: usize = 8192;

/// Requests that a receiver may make at once, or a window's worth if that is more: all of it may be lost in an outage.
pub const ASKER_BURST_MIN: u64 = 1024;

/// Requests that a receiver earns with a hundred packets of data. At 50 % loss a hundred are needed.
pub const ASKER_PER_100_DATA: u64 = 200;

/// Requests that a receiver earns each second in any case.
pub const ASKER_PER_SECOND: u64 = 2000;

/// NAK packets that are taken of one receiver at once.
pub const ASKER_NAKS_BURST: u64 = 500;

/// NAK packets that a receiver earns with a hundred packets of data. They hold more than one number when much is lost.
pub const ASKER_NAKS_PER_100_DATA: u64 = 50;

/// NAK packets that a receiver earns each second in any case.
pub const ASKER_NAKS_PER_SECOND: u64 = 500;

// The source's times and rates.

/// How much a burst may be ahead of its rate.
pub const BURST_INTERVAL: Duration = Duration::from_millis(1);

/// Bytes of a burst at rates for which [`BURST_INTERVAL`] is less, but no more than a second's worth. Fits a receive
/// buffer of the default size.
pub const BURST_BYTES_MIN: u64 = 64 << 10;

/// From the last data to the first heartbeat. This is how long the loss of the last packet goes unnoticed (RFC 3208
/// section 5.1.5: IHB_MIN). libzmq: 100 ms.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(5);

/// The longest time between heartbeats (IHB_MAX).
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(30);

/// Between ambient SPMs while data flows. One of them is less than one packet's worth of data.
pub const AMBIENT_INTERVAL: Duration = Duration::from_secs(1);

/// For how long the NAK for a packet that was repaired counts as one that the repair has crossed: the round trip as the
/// source sees it, within these bounds.
pub const REPAIR_HOLD_MIN: Duration = Duration::from_micros(500);
/// See [`REPAIR_HOLD_MIN`].
pub const REPAIR_HOLD_MAX: Duration = Duration::from_millis(100);

/// How soon the same numbers are confirmed again (section 5.2 allows to delay identical NCFs).
pub const CONFIRM_AGAIN: Duration = Duration::from_millis(1);

/// NAK packets, of all receivers, that are answered each second in any case; more are a storm, and are ignored.
pub const CONFIRMATIONS_PER_SECOND: u64 = 10_000;

/// NAK packets that are answered beside for a hundred packets of data.
pub const CONFIRMATIONS_PER_100_DATA: u64 = 100;

/// NAK packets that are answered at once.
pub const CONFIRMATIONS_BURST: u64 = 2000;

/// For how long a source that is finishing must have heard no NAK: some retries of a receiver whose times have grown to
/// [`NAK_REPEAT_MAX`].
pub const FINISH_QUIET: Duration = Duration::from_secs(1);

/// The longest time between SPMs with FIN.
pub const FIN_INTERVAL_MAX: Duration = Duration::from_millis(25);

/// SPMs with FIN that are sent in any case. They take 60 ms.
pub const FINS_MIN: u32 = 5;

/// After which a source has finished whoever still asks.
pub const FINISH_MAX: Duration = Duration::from_secs(60);

// Receivers.

/// Range of the back-off before a NAK while no round trip has been measured (RFC 3208: NAK_BO_IVL; libzmq: 50 ms).
/// Afterwards twice the mean round trip.
pub const BACKOFF_INITIAL: Duration = Duration::from_millis(2);
/// Its least: below it, neighbours would ask together.
pub const BACKOFF_MIN: Duration = Duration::from_millis(1);
/// Its most: libzmq's.
pub const BACKOFF_MAX: Duration = Duration::from_millis(50);

/// From a NAK to its repetition while no NCF comes and no round trip has been measured (NAK_RPT_IVL; libzmq: 200 ms).
pub const NAK_REPEAT_INITIAL: Duration = Duration::from_millis(10);
/// Its least: what a busy host may take to answer.
pub const NAK_REPEAT_MIN: Duration = Duration::from_millis(2);
/// Its most: libzmq's.
pub const NAK_REPEAT_MAX: Duration = Duration::from_millis(200);

/// From an NCF to the next NAK while no repair comes and none was measured (NAK_RDATA_IVL; libzmq: 200 ms).
pub const NAK_REPAIR_INITIAL: Duration = Duration::from_millis(10);
/// Its least.
pub const NAK_REPAIR_MIN: Duration = Duration::from_millis(2);
/// Its most: libzmq's.
pub const NAK_REPAIR_MAX: Duration = Duration::from_millis(200);

/// Retries for want of an NCF, and as many for want of the repair, after which a packet is lost (NAK_NCF_RETRIES,
/// NAK_DATA_RETRIES; libzmq: 50 each). Short timers need more of them for the same patience; at 50 % loss of everything
/// one in a hundred thousand packets needs 40.
pub const NAK_RETRIES: u8 = 200;

/// After which a missing packet is lost whatever its retries.
pub const RECOVERY_INTERVAL: Duration = Duration::from_secs(10);

/// How often NCFs and others' NAKs may make a receiver wait, or wait longer, before it asks by itself. Without a bound,
/// replayed ones would do so for ever.
pub const NAK_RESTARTS_MAX: u8 = 8;

/// Times that waiting doubles while nothing is heard. The rest is loss, for which waiting longer is no remedy.
pub const TIMER_DOUBLINGS_MIN: u32 = 3;

/// Timeouts more, after which a measured interval is forgotten and waiting doubles further: nobody is there, or the
/// interval has grown by more than that. When half of everything is lost, so many in a row are one in a hundred
/// thousand.
pub const TIMER_VAIN_MAX: u32 = 40;

/// Times that waiting doubles then, but not beyond its bound.
pub const TIMER_DOUBLINGS_MAX: u32 = 7;

/// NAKs whose confirmation is awaited in order to be measured.
pub const NAKS_MEASURED_MAX: usize = 32;

/// Answers to repeated questions, with none to a single one among them, after which a measured interval is forgotten.
pub const TIMER_AMBIGUOUS_MAX: u32 = 16;

/// Mean deviations that are waited beyond the mean.
pub const TIMER_SPREAD: u64 = 4;

/// Timers of packets that have come since, beyond twice the window, before they are swept out.
pub const TIMERS_SLACK: usize = 1024;

/// Packets of one source that may be waited for and wait: more than [`WINDOW_BYTES_MAX`] holds on the source's side. A
/// place takes some 70 bytes, the packets lie in [`WAITING_BYTES_MAX`].
pub const RECEIVE_WINDOW_PACKETS: u32 = 1 << 16;

/// Memory in which packets of all sources wait for missing ones, in bytes.
pub const WAITING_BYTES_MAX: usize = 128 << 20;

/// Range of the delay before an SPM is asked for (section 13.5: SPMR_BO_IVL; libzmq: 25 ms).
pub const SPMR_BACKOFF: Duration = Duration::from_millis(10);

/// From a request for an SPM to the next, at first; each next one comes after twice the time.
pub const SPMR_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// See [`SPMR_INTERVAL_MIN`].
pub const SPMR_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// Silence after which a source is gone (libzmq: 300 s).
pub const SOURCE_EXPIRY: Duration = Duration::from_secs(300);

/// Sources of one group.
pub const SOURCES_MAX: usize = 64;

/// Silence after which a source that never sent data makes room for another.
pub const SOURCE_PROBATION: Duration = Duration::from_secs(2);

/// Sources that have ended and are remembered, so that stragglers do not bring them up again.
pub const MUTED_MAX: usize = 64;

/// Data packets in a row, far behind the window and one after the other, that show that the window is in the wrong
/// place.
pub const RESYNC_AFTER: u32 = 4;

/// Packets inside the window after which it is in the right place.
pub const RESYNC_TRIAL: u32 = 64;

/// SPMs in a row that are older than the last one, after which they are believed again.
pub const STALE_SPMS_MAX: u32 = 8;

// Messages on their way to the application.

/// Parts of one source that wait for the application. Beyond it, messages are dropped and reported.
pub const INBOX_PARTS_MAX: usize = 1 << 14;

/// Bytes of one source that wait for the application, from which messages are dropped and reported.
pub const INBOX_BYTES_MAX: usize = 64 << 20;

// The driver.

/// The port of the endpoints that programs try a transport out with.
pub const LOCAL_PORT: u16 = 7500;

/// Groups that one endpoint receives.
pub const GROUPS_MAX: usize = 16;

/// Data of one publisher unless set, in kbit/s: a tenth of a gigabit, so that neither the slowest receiver nor the network is
/// drowned by somebody who never heard of rates. libzmq's 100 kbit/s are its users' first complaint.
pub const RATE_DEFAULT_KBIT: u64 = 100_000;

/// Networks that data crosses, unless set: none.
pub const HOPS_DEFAULT: u8 = 1;

/// Bytes of the longest packet with its IP header, unless set: what an Ethernet carries.
pub const TPDU_DEFAULT: u16 = 1500;
/// The least that may be set: room for all headers and a NAK list.
pub const TPDU_MIN: u16 = 400;
/// The most: a datagram.
pub const TPDU_MAX: u16 = 65_000;

/// Parts that wait to be packed, of one link.
pub const OUTBOX_PARTS_MAX: usize = 1024;

/// Bytes that wait to be packed, of one link, from which it takes no more: what goes in one turn. What waits here has left
/// the reach of the high-water mark.
pub const OUTBOX_BYTES_MAX: usize = 1 << 20;

/// The length that parts are expected to have before any has come.
pub const OUTBOX_PART_EXPECTED: usize = 64 << 10;

/// Packets handed to the system at once.
pub const SEND_BATCH: usize = 88;

/// Batches of requests for repairs that a group sends before others have their turn.
pub const NAK_BATCHES: usize = 2;

/// Packets that one publisher sends before others have their turn.
pub const SEND_TURN: usize = 512;

/// Packets taken from one socket at once, more or less: before the next ones are taken, what came is handed on. A run that the
/// system has joined is taken whole.
pub const RECEIVE_CHUNK: usize = 64;

/// Packets taken from one socket before others have their turn.
pub const RECEIVE_TURN: usize = 512;

/// Datagrams taken from the system at once.
pub const RECEIVE_BATCH: usize = 32;

/// The system's receive buffer that is asked for, in bytes; it may grant less. What arrives while the process does not run waits
/// there: 8 MiB are 60 ms at a gigabit.
pub const RECEIVE_BUFFER: usize = 8 << 20;

/// The system's send buffer that is asked for, in bytes.
pub const SEND_BUFFER: usize = 2 << 20;

/// Segments of one run that the network card cuts into packets (UDP_MAX_SEGMENTS is 64 on older systems).
pub const SEGMENTS_MAX: usize = 44;

/// Bytes of such a run: what an IP packet may have, with room for its headers.
pub const SEGMENTED_LEN_MAX: usize = 65_000;

/// Between heartbeats of a publisher that has nothing to say: how long one who joins waits to know of it.
pub const HEARTBEAT_IDLE: Duration = Duration::from_secs(1);

/// Sockets that are heard of at once; the others are next.
pub const EVENTS_MAX: usize = 64;

/// Bytes of the longest packet that is handed on from source to source: control packets, and where they came from.
pub const UPSTREAM_LEN_MAX: usize = 16 + CONTROL_LEN_MAX;

/// Completions that wait to be said, for which there is memory from the start.
pub const NEWS_CAPACITY: usize = 64;

/// Between two reports of a link's counters to monitors.
pub const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Parts of one source that may wait for the application, unless set. As many as one turn may bring of the shortest that anybody
/// sends, and 60 ms of a gigabit in messages of 100 bytes.
pub const WAITING_PARTS: usize = 1 << 16;

/// Silence after which a source that has sent data makes room for a new one where there is none: twice the longest time between
/// two heartbeats of libzmq's (its SPMs are 30 s apart when idle).
pub(crate) const SOURCE_SILENCE: Duration = Duration::from_secs(60);

/// Longest `expiry_ms`: a year.
pub(crate) const EXPIRY_MAX_MS: u64 = 365 * 24 * 3600 * 1000;
