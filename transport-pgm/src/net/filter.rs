//! Programs for the system that drop what a source's sockets need not hear, before it costs anything. Classic BPF; the text is
//! in the comments, as `bpf_asm` writes it.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
    BPF_MSH, BPF_RET, BPF_W,
};
use socket2::SockFilter;

use crate::packet::Tsi;

/// Bytes before the PGM packet in what a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// The UDP header.
    Udp,
    /// The IPv4 header, of whatever length.
    Ipv4,
    /// Nothing: IPv6 takes its headers off.
    Nothing,
}

/// Passes what receivers say, and nothing that sources do: NAK, NNAK, SPMR, ACK (types 8, 9, c, d), not NCF (a) and no data. With a `tsi`,
/// only what is said to this one.
pub(super) fn upstream(before: Before, tsi: Option<Tsi>) -> Vec<SockFilter> {
    let base = if before == Before::Udp { 8 } else { 0 };
    let indirect = before == Before::Ipv4;
    let load = |size: u32, at: u32| {
        let mode = if indirect { BPF_IND } else { BPF_ABS };
        op(BPF_LD | size | mode, 0, 0, base + at)
    };
    let mut program = Vec::new();
    if indirect {
        // ldx 4*([0]&0xf)
        program.push(op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0));
    }
    // What differs goes to the last line, which is `drop`. (Offset, size, value) of what must not.
    let words = tsi.map(|tsi| {
        let [a, b, c, d, e, f] = tsi.gsi.0;
        [
            (2, BPF_H, u32::from(tsi.port)),
            (8, BPF_W, u32::from_be_bytes([a, b, c, d])),
            (12, BPF_H, u32::from(u16::from_be_bytes([e, f]))),
        ]
    });
    let rest = 2 * words.iter().flatten().count() as u8;
    // ldb [4]; and #15; jlt #8, drop; jeq #10, drop
    program.push(load(BPF_B, 4));
    program.push(op(BPF_ALU | BPF_AND | BPF_K, 0, 0, 15));
    program.push(op(BPF_JMP | BPF_JGE | BPF_K, 0, rest + 2, 8));
    program.push(op(BPF_JMP | BPF_JEQ | BPF_K, rest + 1, 0, 10));
    for (at, (offset, size, value)) in words.into_iter().flatten().enumerate() {
        // ld [offset]; jne #value, drop
        program.push(load(size, offset));
        program.push(op(BPF_JMP | BPF_JEQ | BPF_K, 0, rest - 2 * at as u8 - 1, value));
    }
    // pass: ret #-1; drop: ret #0
    program.push(op(BPF_RET | BPF_K, 0, 0, u32::MAX));
    program.push(op(BPF_RET | BPF_K, 0, 0, 0));
    program
}

fn op(code: u32, jt: u8, jf: u8, k: u32) -> SockFilter {
    SockFilter::new(code as u16, jt, jf, k)
}
