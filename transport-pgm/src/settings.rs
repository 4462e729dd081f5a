//! The options of `epgm://` and `pgm://` URLs: names, units, bounds, defaults. Applies nothing.

use std::time::Duration;

use transport_core::{Endpoint, OpenError};

use crate::limits::{
    HOPS_DEFAULT, RATE_DEFAULT_KBIT, RECOVERY_INTERVAL, SOURCE_EXPIRY, SOURCES_MAX, TPDU_DEFAULT, TPDU_MAX,
    TPDU_MIN, WAITING_PARTS,
};

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
            "expiry_ms" => self.expiry = Duration::from_millis(number(value, 1, u64::MAX / 1_000_000)?),
            "segmentation" => self.segmentation = switch(value)?,
            _ => {
                return Err("there is no such option; there are rate_kbit, recovery_ms, hops, loopback, tos, max_tpdu, \
                            send_buffer, receive_buffer, waiting_parts, sources, expiry_ms and segmentation"
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
