//! Sizes, durations and rates as people write them. Parses and prints; measures nothing.

use std::time::Duration;

/// Splits `10.5KiB` into the number and the unit, both trimmed.
fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number =
        text[..end].parse().map_err(|_| "begin with a number, as in 64, 1KiB, 500ms or 10k".to_owned())?;
    Ok((number, text[end..].trim()))
}

/// Bytes: `64`, `64B`, `1K` or `1KiB` (1024), `1kB` or `1KB` (1000), and so on to `G`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text)?;
    let factor: f64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kib" => 1024.0,
        "m" | "mib" => 1048576.0,
        "g" | "gib" => 1073741824.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        _ => return Err("write bytes, as in 64, 1KiB, 64K or 1MiB".to_owned()),
    };
    let bytes = number * factor;
    if bytes.fract() == 0.0 && bytes < 1e15 {
        Ok(bytes as usize)
    } else {
        Err("that is no whole number of bytes".to_owned())
    }
}

/// A length of time: `500ms`, `2s`, `100us`, `1m`; a plain number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "ns" => number / 1e9,
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err("write a time, as in 500ms, 2s or 1m; a plain number is seconds".to_owned()),
    };
    // A year is longer than anybody waits, and far from what the clock can add.
    if seconds <= 3.2e7 { Ok(Duration::from_secs_f64(seconds)) } else { Err("more than a year".to_owned()) }
}

/// Any length of time but none.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("takes more than no time".to_owned()),
        span => Ok(span),
    }
}

/// Messages per second: `10000`, `10k`, `1.5M`.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let (number, unit) = split(text)?;
    let rate = match unit {
        "" | "/s" => number,
        "k" | "K" => number * 1e3,
        "m" | "M" => number * 1e6,
        _ => return Err("write messages per second, as in 10000, 10k or 1M".to_owned()),
    };
    if (1.0..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate is 1 to 1G messages per second".to_owned())
    }
}

/// `64 B`, `1 KiB`: whole numbers in the largest unit that divides.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        b if b >= 1 << 30 && b % (1 << 30) == 0 => format!("{} GiB", b >> 30),
        b if b >= 1 << 20 && b % (1 << 20) == 0 => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b % (1 << 10) == 0 => format!("{} KiB", b >> 10),
        b => format!("{b} B"),
    }
}

/// Any number of bytes in the largest unit that leaves three digits: `980 B`, `12.3 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    for larger in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{} {unit}", three_digits(value)),
    }
}

/// `0.5 s`, `200 ms`.
pub(crate) fn time(duration: Duration) -> String {
    match duration.as_secs_f64() {
        s if s >= 1.0 => format!("{s} s"),
        s if s >= 1e-3 => format!("{} ms", s * 1e3),
        s => format!("{} us", s * 1e6),
    }
}

/// Nanoseconds with three digits: `0.82 us`, `12.3 us`, `1.20 ms`.
pub(crate) fn nanoseconds(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    match us {
        us if us >= 1e6 => three_digits(us / 1e6) + " s",
        us if us >= 1e3 => three_digits(us / 1e3) + " ms",
        us => three_digits(us) + " us",
    }
}

/// `36.6 M`, `980`, `12.3 k`.
pub(crate) fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => three_digits(rate / 1e6) + " M",
        rate if rate >= 1e3 => three_digits(rate / 1e3) + " k",
        rate => three_digits(rate),
    }
}

/// `12.3 MB/s`, `980 B/s`.
pub(crate) fn bytes_per_second(rate: f64) -> String {
    let text = per_second(rate);
    let space = if text.ends_with(|last: char| last.is_ascii_digit()) { " " } else { "" };
    format!("{text}{space}B/s")
}

/// Three significant digits, none of them behind the point from 100 up.
pub(crate) fn three_digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// `1 host`, `2 hosts`.
pub(crate) fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Three significant digits of anything, however small: `4380`, `47.2`, `0.0123`.
pub(crate) fn significant(value: f64) -> String {
    let text = format!("{value:.2e}");
    // What is rounded up may have a digit more.
    let rounded: f64 = text.parse().unwrap_or(value);
    match rounded.abs() {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 1e-4 => text,
        v => format!("{rounded:.*}", (2.0 - v.log10().floor()).max(0.0) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64", 64),
            ("64B", 64),
            ("1k", 1024),
            ("1KiB", 1024),
            ("1kB", 1000),
            ("1.5K", 1536),
            (" 2 MiB ", 2 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1.5", "1X", "-1", "1e3", "9999999G", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(
            (size(64), size(1024), size(1 << 20), size(1500)),
            ("64 B".into(), "1 KiB".into(), "1 MiB".into(), "1500 B".into())
        );
    }

    #[test]
    fn durations_and_rates() {
        assert_eq!(parse_duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("1 week").is_err() && parse_duration("9999999h").is_err());
        assert_eq!(parse_rate("10k"), Ok(10_000.0));
        assert!(parse_rate("0").is_err() && parse_rate("5x").is_err());
    }

    #[test]
    fn figures() {
        assert_eq!(nanoseconds(823), "0.82 us");
        assert_eq!(nanoseconds(12_345), "12.3 us");
        assert_eq!(nanoseconds(1_200_000), "1.20 ms");
        assert_eq!(per_second(36_640_000.0), "36.6 M");
        assert_eq!(per_second(980.4), "980");
        assert_eq!((bytes_per_second(0.0), bytes_per_second(1.2e6)), ("0.00 B/s".into(), "1.20 MB/s".into()));
        assert_eq!(three_digits(99.96), "100");
        assert_eq!([0, 1, 2].map(|hosts| count(hosts, "host")), ["0 hosts", "1 host", "2 hosts"]);
        let all = [4382.0, 100.0, 99.96, 47.24, 0.9996, 0.012_345, 0.000_012_3, 0.0].map(significant);
        assert_eq!(all, ["4380", "100", "100", "47.2", "1.00", "0.0123", "1.23e-5", "0"]);
        let all = [0, 999, 12 << 20, 1 << 40].map(bytes);
        assert_eq!(all, ["0 B", "999 B", "12.0 MiB", "1.00 TiB"]);
    }
}
