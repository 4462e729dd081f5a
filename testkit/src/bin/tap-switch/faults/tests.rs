//! Tests of chance and of what of a frame it touches; no switch, no device.

use super::*;
use fabriq_testkit::media::each_seed;

const FRAMES: usize = 400_000;

fn losses(faults: &Faults, seed: u64) -> (f64, f64) {
    faults.check().unwrap();
    let mut dice = Dice::new(seed);
    let fates: Vec<bool> = (0..FRAMES).map(|_| dice.roll(faults).lost).collect();
    let lost = fates.iter().filter(|lost| **lost).count() as f64;
    let bursts = fates.windows(2).filter(|pair| !pair[0] && pair[1]).count().max(1) as f64;
    (lost / FRAMES as f64, lost / bursts)
}

#[test]
fn the_share_of_lost_frames_and_the_mean_burst_are_as_asked() {
    each_seed(1..5, |seed| {
        for (loss, burst) in
            [(5.0, None), (20.0, None), (2.0, Some(8.0)), (20.0, Some(3.0)), (50.0, Some(1.5))]
        {
            let (share, mean) = losses(&Faults { loss, burst, ..Faults::default() }, seed);
            // Chance by itself makes runs of 1 / (1 - share).
            let expected = burst.unwrap_or(1.0 / (1.0 - loss / 100.0));
            assert!((share * 100.0 / loss - 1.0).abs() < 0.15, "{loss} {burst:?}: {share}");
            assert!((mean / expected - 1.0).abs() < 0.15, "{loss} {burst:?}: bursts of {mean}");
        }
    });
}

#[test]
fn nothing_and_everything_are_exact() {
    for (loss, burst, share) in [(0.0, None, 0.0), (0.0, Some(4.0), 0.0), (100.0, None, 1.0)] {
        assert_eq!(losses(&Faults { loss, burst, ..Faults::default() }, 3).0, share);
    }
    let mut dice = Dice::new(1);
    assert!((0..1000).all(|_| dice.roll(&Faults::default()) == Fate::default()));
    let faults = Faults { duplicate: 100.0, corrupt: 100.0, reorder: 100.0, ..Faults::default() };
    let fate = dice.roll(&faults);
    assert!(fate.duplicated && fate.corrupted.is_some() && fate.reordered);
}

#[test]
fn a_seed_repeats_itself_and_one_option_does_not_shift_another() {
    let fates = |seed, faults: &Faults| {
        let mut dice = Dice::new(seed);
        (0..1000).map(|_| dice.roll(faults)).collect::<Vec<_>>()
    };
    let loss = Faults { loss: 20.0, ..Faults::default() };
    let both = Faults { duplicate: 30.0, ..loss.clone() };
    assert_eq!(fates(7, &both), fates(7, &both));
    assert_ne!(fates(7, &both), fates(8, &both));
    let lost = |fates: Vec<Fate>| fates.iter().map(|fate| fate.lost).collect::<Vec<_>>();
    assert_eq!(lost(fates(7, &loss)), lost(fates(7, &both)));
}

#[test]
fn delays_stay_within_the_jitter() {
    let faults = Faults { delay_ms: 10.0, jitter_ms: 2.0, ..Faults::default() };
    let mut dice = Dice::new(5);
    let delays: Vec<f64> = (0..10_000).map(|_| dice.delay(&faults).as_secs_f64() * 1e3).collect();
    assert!(delays.iter().all(|delay| (8.0..=12.0).contains(delay)));
    assert!(delays.iter().any(|delay| *delay < 8.2) && delays.iter().any(|delay| *delay > 11.8));
}

#[test]
fn impossible_options_are_refused_with_a_reason() {
    let perfect = Faults::default();
    for (faults, says) in [
        (Faults { loss: 101.0, ..perfect.clone() }, "--loss 101 is no percentage"),
        (Faults { corrupt: -1.0, ..perfect.clone() }, "--corrupt -1"),
        (Faults { reorder: f64::NAN, ..perfect.clone() }, "--reorder NaN"),
        (Faults { jitter_ms: 1.0, ..perfect.clone() }, "is more than --delay-ms 0"),
        (Faults { loss: 90.0, burst: Some(2.0), ..perfect.clone() }, "bursts are 9.00 or longer"),
        (Faults { rate_mbit: Some(0.0), ..perfect.clone() }, "--rate-mbit 0"),
        (Faults { delay_ms: f64::INFINITY, ..perfect }, "--delay-ms inf"),
    ] {
        let error = faults.check().unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

/// An Ethernet frame with an IPv4 packet of this protocol.
pub(crate) fn frame4(protocol: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 94, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    let length = (20 + transport.len() as u16).to_be_bytes();
    frame.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 1, protocol, 0, 0]);
    frame.extend([10, 8, 0, 1, 239, 192, 0, 1]);
    frame.extend(transport);
    frame
}

fn frame6(next: u8, transport: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd];
    let length = (transport.len() as u16).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, length[0], length[1], next, 1]);
    frame.extend([0xfd; 16].iter().chain(&[0xff; 16]));
    frame.extend(transport);
    frame
}

/// The sum of 16-bit words that UDP's checksum makes 0xffff, over the part that may change.
fn sum(words: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for word in words.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn only_udp_and_pgm_may_be_touched() {
    let udp = [0; 12];
    assert!(layout(&frame4(17, &udp)).is_some() && layout(&frame4(113, &udp)).is_some());
    assert!(layout(&frame6(17, &udp)).is_some() && layout(&frame6(113, &udp)).is_some());
    for other in [1, 2, 6] {
        assert!(layout(&frame4(other, &udp)).is_none(), "protocol {other}");
    }
    let mut arp = frame4(17, &udp);
    arp[13] = 0x06;
    assert!(layout(&arp).is_none());
    for whole in [frame4(17, &udp), frame6(17, &udp), frame6(44, &[17, 0, 0, 1])] {
        for length in 0..whole.len() {
            let _no_panic = layout(&whole[..length]);
        }
    }
}

#[test]
fn a_fragment_has_no_payload_to_corrupt() {
    let mut fragment = frame4(17, &[9; 40]);
    fragment[14 + 6] = 0x20; // more fragments
    let layout = layout(&fragment).unwrap();
    let before = fragment.clone();
    assert!(!corrupt(&mut fragment, &layout, 3));
    assert_eq!(fragment, before);
    assert!(super::layout(&frame6(44, &[17, 0, 0, 1, 0, 0, 0, 0, 9, 9])).is_some(), "but it can be lost");
}

#[test]
fn corruption_flips_one_bit_of_the_payload_and_the_udp_checksum_agrees() {
    each_seed(0..200, |seed| {
        let mut chance = Chance::new(seed);
        let mut udp = vec![0x1d, 0x4c, 0x1d, 0x4c, 0, 0, 0, 0];
        udp.extend((0..1 + chance.below(40)).map(|_| chance.word() as u8));
        // The checksum as a sender makes it (but for the addresses, which do not change).
        let checksum = !sum(&udp);
        udp[6..8].copy_from_slice(&(if checksum == 0 { 0xffff } else { checksum }).to_be_bytes());
        for mut frame in [frame4(17, &udp), frame6(17, &udp)] {
            let start = frame.len() - udp.len();
            let before = frame.clone();
            let layout = layout(&frame).unwrap();
            assert!(corrupt(&mut frame, &layout, chance.word()));
            assert_eq!(sum(&frame[start..]), 0xffff, "the checksum is right");
            let changed: u32 = (start + 8..frame.len()).map(|at| (frame[at] ^ before[at]).count_ones()).sum();
            assert_eq!(changed, 1);
            assert_eq!(frame[..start + 6], before[..start + 6]);
        }
    });
}

#[test]
fn without_a_checksum_there_stays_none_and_pgm_has_none_to_mend() {
    let mut udp = frame4(17, &[0, 1, 0, 1, 0, 12, 0, 0, 5, 5, 5, 5]);
    let layout = layout(&udp).unwrap();
    assert!(corrupt(&mut udp, &layout, 1));
    assert_eq!(udp[14 + 20 + 6..14 + 20 + 8], [0, 0]);
    let mut pgm = frame4(113, &[5; 16]);
    let layout = super::layout(&pgm).unwrap();
    assert!(corrupt(&mut pgm, &layout, 0));
    assert_eq!(pgm[14 + 20], 4, "its first bit");
}
