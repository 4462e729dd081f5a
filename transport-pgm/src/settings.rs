//! The options of `epgm://` and `pgm://` URLs: names, units, bounds, defaults. Applies nothing.

use std::time::Duration;

use transport_core::{Endpoint, OpenError};

use crate::limits::{
    EXPIRY_MAX_MS, HOPS_DEFAULT, RATE_DEFAULT_KBIT, RECOVERY_INTERVAL, SOURCE_EXPIRY, SOURCES_MAX,
    TPDU_DEFAULT, TPDU_MAX, TPDU_MIN, WAITING_PARTS,
};
use crate::receiver::ReceiverConfig;

/// What a URL may say behind its `?`. libzmq's names of the same things stand in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `rate_kbit`: data on the wire, headers included, in kbit/s; repairs may take as much again. 0 is no limit.
    /// (ZMQ_RATE, which is 100 unless set.)
    pub(crate) rate_kbit: u64,
    /// `recovery_ms`: for how long a packet can be repaired. (ZMQ_RECOVERY_IVL.)
    pub(crate) recovery: Duration,
    /// `hops`: networks that data crosses, 1 for none. (ZMQ_MULTICAST_HOPS.)
    pub(crate) hops: u8,
    /// `loopback`: whether subscribers on the publisher's host hear it: on or off.
    pub(crate) loopback: bool,
    /// `tos`: the type of service of what is sent, 0 to 255. (ZMQ_TOS. libzmq's PGM always says 0xb8.)
    pub(crate) tos: u8,
    /// `max_tpdu`: bytes of the longest packet, with its IP header; less where the interface carries less.
    /// (ZMQ_MULTICAST_MAXTPDU.)
    pub(crate) max_tpdu: u16,
    /// `send_buffer`, `receive_buffer`: the system's buffers, in bytes; they go before the socket's options. (ZMQ_SNDBUF, ZMQ_RCVBUF.)
    pub(crate) send_buffer: Option<u32>,
    pub(crate) receive_buffer: Option<u32>,
    /// `waiting_parts`: parts of one publisher that may wait here for a slow application, beyond its high-water mark.
    pub(crate) waiting_parts: usize,
    /// `sources`: publishers that are listened to at once.
    pub(crate) sources: usize,
    /// `expiry_ms`: silence after which a publisher is gone.
    pub(crate) expiry: Duration,
    /// `segmentation`: whether the network card cuts long runs into packets: on or off.
    pub(crate) segmentation: bool,
    /// `nak_backoff_min_ms`, `nak_backoff_max_ms`: bounds of the pause before a repair is asked for. `nak_wait_min_ms`,
    /// `nak_wait_max_ms`: of the wait for the answer and for the repair.
    pub(crate) naks: NakBounds,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_kbit: RATE_DEFAULT_KBIT,
            recovery: RECOVERY_INTERVAL,
            hops: HOPS_DEFAULT,
            loopback: true,
            tos: 0,
            max_tpdu: TPDU_DEFAULT,
            send_buffer: None,
            receive_buffer: None,
            waiting_parts: WAITING_PARTS,
            sources: SOURCES_MAX,
            expiry: SOURCE_EXPIRY,
            segmentation: true,
            naks: NakBounds::default(),
        }
    }
}

impl Settings {
    /// Reads the options of an endpoint. One that is unknown is an error: ignored, it would silently do nothing.
    pub(crate) fn parse(endpoint: &Endpoint) -> Result<Self, OpenError> {
        let mut settings = Self::default();
        for (name, value) in endpoint.options() {
            settings.set(name, value).map_err(|expected| OpenError::BadAddress {
                endpoint: endpoint.clone(),
                expected: format!("option {name}: {expected}"),
            })?;
        }
        Ok(settings)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "rate_kbit" => self.rate_kbit = number(value, 0, u64::MAX / 1000)?,
            "recovery_ms" => self.recovery = Duration::from_millis(number(value, 1, 3_600_000)?),
            "hops" => self.hops = number(value, 1, 255)? as u8,
            "loopback" => self.loopback = switch(value)?,
            "tos" => self.tos = number(value, 0, 255)? as u8,
            "max_tpdu" => self.max_tpdu = number(value, TPDU_MIN.into(), TPDU_MAX.into())? as u16,
            "send_buffer" => self.send_buffer = Some(number(value, 1, i32::MAX as u64)? as u32),
            "receive_buffer" => self.receive_buffer = Some(number(value, 1, i32::MAX as u64)? as u32),
            "waiting_parts" => self.waiting_parts = number(value, 1, u64::from(u32::MAX))? as usize,
            "sources" => self.sources = number(value, 1, 65_536)? as usize,
            "expiry_ms" => self.expiry = Duration::from_millis(number(value, 1, EXPIRY_MAX_MS)?),
            "segmentation" => self.segmentation = switch(value)?,
            "nak_backoff_min_ms" => self.naks.backoff_min = Some(nak_time(value)?),
            "nak_backoff_max_ms" => self.naks.backoff_max = Some(nak_time(value)?),
            "nak_wait_min_ms" => self.naks.wait_min = Some(nak_time(value)?),
            "nak_wait_max_ms" => self.naks.wait_max = Some(nak_time(value)?),
            _ => {
                return Err("there is no such option; there are rate_kbit, recovery_ms, hops, loopback, tos, max_tpdu, \
                            send_buffer, receive_buffer, waiting_parts, sources, expiry_ms, segmentation, nak_backoff_min_ms, \
                            nak_backoff_max_ms, nak_wait_min_ms and nak_wait_max_ms"
                    .into());
            }
        }
        Ok(())
    }

    /// Data in bytes per second; `None` for no limit.
    pub(crate) fn rate(&self) -> Option<u64> {
        (self.rate_kbit > 0).then(|| self.rate_kbit * 1000 / 8)
    }
}

/// Bounds of the timers that adapt to the measured round trip; what is `None` is as in [`ReceiverConfig`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NakBounds {
    backoff_min: Option<Duration>,
    backoff_max: Option<Duration>,
    wait_min: Option<Duration>,
    wait_max: Option<Duration>,
}

impl NakBounds {
    /// Sets what is given. A maximum below a minimum counts as that minimum, and first guesses are within.
    pub(crate) fn apply(&self, config: &mut ReceiverConfig) {
        let set = |given: (Option<Duration>, Option<Duration>), bounds: [&mut Duration; 3]| {
            let [initial, min, max] = bounds;
            *min = given.0.unwrap_or(*min);
            *max = given.1.unwrap_or(*max).max(*min);
            *initial = (*initial).clamp(*min, *max);
        };
        let (backoff, wait) = ((self.backoff_min, self.backoff_max), (self.wait_min, self.wait_max));
        set(backoff, [&mut config.backoff_initial, &mut config.backoff_min, &mut config.backoff_max]);
        set(wait, [&mut config.repeat_initial, &mut config.repeat_min, &mut config.repeat_max]);
        set(wait, [&mut config.repair_initial, &mut config.repair_min, &mut config.repair_max]);
    }
}

fn nak_time(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(number(text, 1, 60_000)?))
}

fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = Some(text).filter(|_| digits).and_then(|text| text.parse().ok());
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("`{text}` is no number of {min} to {max}"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> Result<Settings, String> {
        let endpoint = Endpoint::parse(&format!("epgm://;239.1.1.1:5?{options}")).expect("a URL");
        Settings::parse(&endpoint).map_err(|error| error.to_string())
    }

    #[test]
    fn the_bounds_of_timers_can_be_set_and_hold() {
        let mut config = ReceiverConfig::default();
        parse("").unwrap().naks.apply(&mut config);
        assert_eq!(config, ReceiverConfig::default());
        let options = "nak_backoff_min_ms=7&nak_backoff_max_ms=9&nak_wait_min_ms=300&nak_wait_max_ms=200";
        parse(options).unwrap().naks.apply(&mut config);
        let ms = Duration::from_millis;
        assert_eq!((config.backoff_min, config.backoff_max), (ms(7), ms(9)));
        assert!((ms(7)..=ms(9)).contains(&config.backoff_initial));
        for bounds in [
            [config.repeat_min, config.repeat_initial, config.repeat_max],
            [config.repair_min, config.repair_initial, config.repair_max],
        ] {
            assert_eq!(bounds, [ms(300); 3]);
        }
        assert!(parse("nak_wait_min_ms=0").is_err() && parse("expiry_ms=18446744073709").is_err());
    }

    #[test]
    fn every_option_is_read() {
        assert_eq!(parse(""), Ok(Settings::default()));
        let all = "rate_kbit=40000&recovery_ms=500&hops=3&loopback=off&tos=184&max_tpdu=9000&send_buffer=1&\
                   receive_buffer=2&waiting_parts=7&sources=9&expiry_ms=1000&segmentation=off";
        let want = Settings {
            rate_kbit: 40_000,
            recovery: Duration::from_millis(500),
            hops: 3,
            loopback: false,
            tos: 184,
            max_tpdu: 9000,
            send_buffer: Some(1),
            receive_buffer: Some(2),
            waiting_parts: 7,
            sources: 9,
            expiry: Duration::from_secs(1),
            segmentation: false,
            naks: NakBounds::default(),
        };
        assert_eq!((want.rate(), parse("rate_kbit=0").map(|none| none.rate())), (Some(5_000_000), Ok(None)));
        assert_eq!(parse(all), Ok(want));
    }

    #[test]
    fn what_is_wrong_with_an_option_is_said() {
        for (options, want) in [
            ("speed=3", "option speed: there is no such option"),
            ("hops=0", "option hops: `0` is no number of 1 to 255"),
            ("hops=256", "no number of 1 to 255"),
            ("rate_kbit=-1", "no number"),
            ("rate_kbit=1e3", "no number"),
            ("rate_kbit", "no number"),
            ("loopback=maybe", "neither on nor off"),
            ("max_tpdu=10", "no number"),
        ] {
            let said = parse(options).expect_err(options);
            assert!(said.contains(want) && said.contains(options), "{options}: {said}");
        }
    }
}
