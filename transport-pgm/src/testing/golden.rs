//! Packets of libzmq and OpenPGM, as tests/golden/README.md describes them.

use std::net::IpAddr;
use std::time::Duration;

pub(crate) const FILES: [&[u8]; 4] = [
    include_bytes!("../../tests/golden/kinds_epgm.bin"),
    include_bytes!("../../tests/golden/kinds_pgmraw.bin"),
    include_bytes!("../../tests/golden/kinds_fec.bin"),
    TRACE,
];
pub(crate) const TRACE: &[u8] = include_bytes!("../../tests/golden/trace_epgm.bin");

pub(crate) struct Record<'a> {
    pub(crate) at: Duration,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn records(mut file: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    while let Some((&[a, b, c, d, f0, f1, f2, f3, t0, t1, t2, t3, high, low], rest)) =
        file.split_first_chunk::<14>()
    {
        let (bytes, rest) = rest.split_at(usize::from(u16::from_be_bytes([high, low])));
        let at = Duration::from_micros(u32::from_be_bytes([a, b, c, d]).into());
        records.push(Record { at, from: [f0, f1, f2, f3].into(), to: [t0, t1, t2, t3].into(), bytes });
        file = rest;
    }
    records
}
