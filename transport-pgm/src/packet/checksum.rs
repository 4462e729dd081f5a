//! PGM's checksum: the 16-bit one's complement sum over the whole packet, with no pseudo header (RFC 3208 section 8;
//! arithmetic of RFC 1071 and RFC 1624). Bytes in, numbers out.

/// The one's complement sum of `bytes`, not inverted, as the machine's own 16-bit words. An odd last byte is the first
/// half of a word.
///
/// The sum commutes with the order of bytes in a word (RFC 1071 section 2), so wide words of the machine's own order
/// are added and folded at the end. Four sums of 32-bit words in 64 bits cannot overflow below 16 GiB, and compilers
/// make vectors of them.
fn sum(bytes: &[u8]) -> u16 {
    let mut lanes = [0u64; 8];
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, word) in lanes.iter_mut().zip(block.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut words = blocks.remainder().chunks_exact(2);
    for word in &mut words {
        total += u64::from(u16::from_ne_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    fold(total)
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// The field for a packet whose checksum field holds zeros. Never 0, which says that there is none.
pub(super) fn of(packet: &[u8]) -> u16 {
    match u16::from_be(!sum(packet)) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// Whether a packet with its checksum in place is as it was sent.
pub(super) fn holds(packet: &[u8]) -> bool {
    sum(packet) == 0xffff
}

/// The field after one 16-bit word of the packet went from `before` to `after` (RFC 1624 equation 3).
pub(super) fn updated(checksum: u16, before: u16, after: u16) -> u16 {
    match !fold(u64::from(!checksum) + u64::from(!before) + u64::from(after)) {
        0 => 0xffff,
        checksum => checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Word by word, in network order, as RFC 1071 has it.
    fn simple(bytes: &[u8]) -> u16 {
        let words =
            bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |b| u32::from(*b)));
        let total: u32 = words.sum();
        !(((total & 0xffff) + (total >> 16)) as u16 + u16::from((total & 0xffff) + (total >> 16) > 0xffff))
    }

    #[test]
    fn it_is_the_plain_sum_at_every_length() {
        let bytes: Vec<u8> = (0..400u32).map(|at| (at * at * 7 + 13) as u8).collect();
        for len in 0..bytes.len() {
            let want = match simple(&bytes[..len]) {
                0 => 0xffff,
                sum => sum,
            };
            assert_eq!(of(&bytes[..len]), want, "{len} bytes");
        }
        // RFC 1071 section 3.
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(of(&[0xff; 64]), 0xffff, "never 0");
    }

    #[test]
    fn an_update_is_as_good_as_a_new_sum() {
        let mut packet = [0x5a; 61];
        for (at, word) in [(0, 0u16), (2, 0xffff), (4, 0x5a5a), (58, 1), (6, 0xfffe)] {
            packet[30..32].fill(0);
            let checksum = of(&packet);
            let before = u16::from_be_bytes([packet[at], packet[at + 1]]);
            packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
            let checksum = updated(checksum, before, word);
            assert_eq!(checksum, of(&packet));
            packet[30..32].copy_from_slice(&checksum.to_be_bytes());
            assert!(holds(&packet));
            packet[at] ^= 0x10;
            assert!(!holds(&packet));
            packet[at] ^= 0x10;
        }
    }
}
