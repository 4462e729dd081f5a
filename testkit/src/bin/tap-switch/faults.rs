//! What may happen to a frame that leaves by a port, and the seeded chance that decides it; and what of a frame may be
//! touched. It holds no frame and knows no time.

use fabriq_testkit::media::Chance;
use std::time::Duration;

/// What is asked for. The default is a perfect port.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Faults {
    /// Lost, in percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub(crate) loss: f64,
    /// Lost in bursts of so many frames on average (Gilbert's two states), and not each by itself.
    #[arg(long, value_name = "FRAMES")]
    pub(crate) burst: Option<f64>,
    /// Sent twice, in percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub(crate) duplicate: f64,
    /// One bit of the payload flipped, in percent. UDP's checksum is made to match, so that a program sees it.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub(crate) corrupt: f64,
    /// Held back for --hold-ms, so that those behind overtake it, in percent.
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT")]
    pub(crate) reorder: f64,
    /// How long --reorder holds a frame back.
    #[arg(long, default_value_t = 1.0, value_name = "MS")]
    pub(crate) hold_ms: f64,
    /// Delay of every frame.
    #[arg(long, default_value_t = 0.0, value_name = "MS")]
    pub(crate) delay_ms: f64,
    /// The delay is longer or shorter by up to so much; the order stays.
    #[arg(long, default_value_t = 0.0, value_name = "MS")]
    pub(crate) jitter_ms: f64,
    /// What a port carries, with a queue of 50 ms before it (no limit).
    #[arg(long, value_name = "MBIT/S")]
    pub(crate) rate_mbit: Option<f64>,
}

impl Faults {
    /// What cannot be, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (option, percent) in [
            ("--loss", self.loss),
            ("--duplicate", self.duplicate),
            ("--corrupt", self.corrupt),
            ("--reorder", self.reorder),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(format!("{option} {percent} is no percentage, 0 to 100"));
            }
        }
        for (option, ms) in
            [("--hold-ms", self.hold_ms), ("--delay-ms", self.delay_ms), ("--jitter-ms", self.jitter_ms)]
        {
            if !(0.0..=60_000.0).contains(&ms) {
                return Err(format!("{option} {ms} is not between 0 and a minute"));
            }
        }
        if self.jitter_ms > self.delay_ms {
            return Err(format!("--jitter-ms {} is more than --delay-ms {}", self.jitter_ms, self.delay_ms));
        }
        if let Some(rate) = self.rate_mbit.filter(|rate| !(0.001..=1e6).contains(rate)) {
            return Err(format!("--rate-mbit {rate} is not between 0.001 and 1000000"));
        }
        if let Some(burst) = self.burst {
            let share = self.loss / 100.0;
            let least = (share / (1.0 - share)).max(1.0);
            if !(least..=1e6).contains(&burst) {
                return Err(format!(
                    "--burst {burst}: with --loss {} bursts are {least:.2} or longer",
                    self.loss
                ));
            }
        }
        Ok(())
    }
}

/// What happens to one frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) lost: bool,
    pub(crate) duplicated: bool,
    /// Which bit of its payload flips; to be taken modulo their number.
    pub(crate) corrupted: Option<u64>,
    /// Held back for --hold-ms.
    pub(crate) reordered: bool,
}

/// The chance of one port.
#[derive(Debug)]
pub(crate) struct Dice {
    chance: Chance,
    /// Of its own: every frame is delayed, so that this is drawn at other times than the rest.
    delays: Chance,
    in_burst: bool,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed), delays: Chance::new(!seed), in_burst: false }
    }

    /// Draws the same number of times for every frame, so that one option does not shift what another does.
    pub(crate) fn roll(&mut self, faults: &Faults) -> Fate {
        let lost = self.lose(faults);
        let duplicated = self.percent(faults.duplicate);
        let corrupted = self.percent(faults.corrupt);
        let bit = self.chance.word();
        let reordered = self.percent(faults.reorder);
        if lost {
            return Fate { lost, ..Fate::default() };
        }
        Fate { lost, duplicated, corrupted: corrupted.then_some(bit), reordered }
    }

    /// The delay of one frame, without what else holds it back.
    pub(crate) fn delay(&mut self, faults: &Faults) -> Duration {
        let swing = (fraction(&mut self.delays) * 2.0 - 1.0) * faults.jitter_ms;
        Duration::from_secs_f64((faults.delay_ms + swing).max(0.0) / 1e3)
    }

    fn lose(&mut self, faults: &Faults) -> bool {
        let share = faults.loss / 100.0;
        let Some(burst) = faults.burst else { return self.percent(faults.loss) };
        // Gilbert: everything is lost in one state and nothing in the other. A burst of mean length B ends with 1/B after
        // each frame; it begins so often that the share of lost frames comes out.
        let change = if self.in_burst { 1.0 - 1.0 / burst } else { share / (1.0 - share) / burst };
        let drawn = fraction(&mut self.chance);
        self.in_burst = share > 0.0 && (share >= 1.0 || drawn < change);
        self.in_burst
    }

    fn percent(&mut self, percent: f64) -> bool {
        fraction(&mut self.chance) * 100.0 < percent
    }
}

/// A number from 0 up to, but not, 1.
fn fraction(chance: &mut Chance) -> f64 {
    (chance.word() >> 11) as f64 / (1_u64 << 53) as f64
}

const ETHERNET_BYTES: usize = 14;
const UDP: u8 = 17;
const PGM: u8 = 113;

/// Where the payload of UDP or PGM is in a frame, and where UDP's checksum, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    payload: std::ops::Range<usize>,
    checksum: Option<usize>,
}

/// The layout of a frame that may be touched: one with UDP or PGM in it. A fragment has no payload to corrupt.
pub(crate) fn layout(frame: &[u8]) -> Option<Layout> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let (protocol, header, length, fragment) = match (frame[12], frame[13], packet.first()? >> 4) {
        (0x08, 0x00, 4) if packet.len() >= 20 => {
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
            (packet[9], usize::from(packet[0] & 15) * 4, length, fragment)
        }
        (0x86, 0xdd, 6) if packet.len() >= 40 => {
            let length = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            // Of a fragment the header that follows is another one, 44; what it carries stands in that.
            let fragment = packet[6] == 44;
            (if fragment { *packet.get(40)? } else { packet[6] }, 40, length, fragment)
        }
        _ => return None,
    };
    if protocol != UDP && protocol != PGM {
        return None;
    }
    let transport = ETHERNET_BYTES + header;
    let end = (ETHERNET_BYTES + length).min(frame.len());
    let start = if protocol == UDP { transport + 8 } else { transport };
    let payload = if fragment || start >= end { end..end } else { start..end };
    let checksum = (protocol == UDP && !payload.is_empty()).then_some(transport + 6);
    Some(Layout { payload, checksum })
}

/// Flips one bit of the payload, and has UDP's checksum (RFC 768) agree with it, as RFC 1624 computes it; false if there is
/// no payload.
pub(crate) fn corrupt(frame: &mut [u8], layout: &Layout, bit: u64) -> bool {
    let bits = layout.payload.len() as u64 * 8;
    if bits == 0 {
        return false;
    }
    let at = layout.payload.start + (bit % bits / 8) as usize;
    // Words of a datagram begin at even offsets from its start, and so at even ones from its payload's.
    let word = layout.payload.start + (at - layout.payload.start) / 2 * 2;
    let end = layout.payload.end;
    let read =
        |frame: &[u8]| u16::from_be_bytes([frame[word], if word + 1 < end { frame[word + 1] } else { 0 }]);
    let before = read(frame);
    frame[at] ^= 1 << (bit % 8);
    let after = read(frame);
    if let Some(checksum) = layout.checksum {
        let old = u16::from_be_bytes([frame[checksum], frame[checksum + 1]]);
        if old != 0 {
            let sum = u32::from(!old) + u32::from(!before) + u32::from(after);
            let folded = (sum & 0xffff) + (sum >> 16);
            let folded = ((folded & 0xffff) + (folded >> 16)) as u16;
            let new = if folded == 0xffff { 0xffff } else { !folded };
            frame[checksum..checksum + 2].copy_from_slice(&new.to_be_bytes());
        }
    }
    true
}

#[cfg(test)]
mod tests;
