//! Tests of the switch without devices: where frames go, when, and in what order.

use super::*;
use crate::limits::IN_FLIGHT_MAX;

const A: u8 = 1;
const B: u8 = 2;
const ALL: u8 = 0xff;
const MS: Duration = Duration::from_millis(1);

/// A frame of UDP from station to station (or to all), with a mark at its end.
fn frame(to: u8, from: u8, mark: u8) -> Vec<u8> {
    let mut frame = vec![if to == ALL { 0xff } else { 2 }, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 1, 17, 0, 0, 10, 8, 0, 1, 239, 192, 0, 1]);
    frame.extend([0, 9, 0, 9, 0, 9, 0, 0, mark]);
    frame
}

fn switch(ports: usize, faults: &Faults) -> Switch {
    Switch::new((0..ports).map(|port| Port::new(faults.clone(), port as u64)).collect())
}

/// Everything that is due by `now`: port and mark.
fn due(switch: &mut Switch, now: Duration) -> Vec<(usize, u8)> {
    let mut all = Vec::new();
    while let Some((port, frame)) = switch.take_due(now) {
        switch.sent(port, true);
        all.push((port, *frame.last().unwrap()));
    }
    all
}

#[test]
fn groups_and_strangers_go_to_all_others_and_known_stations_to_their_port() {
    let mut switch = switch(3, &Faults::default());
    switch.forward(Duration::ZERO, 0, &frame(ALL, A, 1));
    assert_eq!(due(&mut switch, Duration::ZERO), [(1, 1), (2, 1)]);
    switch.forward(Duration::ZERO, 1, &frame(A, B, 2));
    assert_eq!(due(&mut switch, Duration::ZERO), [(0, 2)]);
    switch.forward(Duration::ZERO, 0, &frame(B, A, 3));
    assert_eq!(due(&mut switch, Duration::ZERO), [(1, 3)]);
    switch.forward(Duration::ZERO, 0, &frame(99, A, 4));
    assert_eq!(due(&mut switch, Duration::ZERO), [(1, 4), (2, 4)]);
    switch.forward(Duration::ZERO, 1, &frame(A, A, 5));
    switch.forward(Duration::ZERO, 0, &frame(A, B, 6));
    assert_eq!(due(&mut switch, Duration::ZERO), [(1, 6)], "station A has moved to port 1");
    switch.forward(Duration::ZERO, 0, &[0; 13]);
    assert_eq!(switch.next_due(), None, "too short to be a frame");
}

#[test]
fn a_delay_holds_frames_until_they_are_due_and_jitter_keeps_their_order() {
    let mut calm = switch(2, &Faults { delay_ms: 10.0, ..Faults::default() });
    calm.forward(MS, 0, &frame(ALL, A, 1));
    assert_eq!(calm.next_due(), Some(11 * MS));
    assert_eq!(due(&mut calm, 10 * MS), []);
    assert_eq!(due(&mut calm, 11 * MS), [(1, 1)]);
    let mut rough = switch(2, &Faults { delay_ms: 10.0, jitter_ms: 10.0, ..Faults::default() });
    for mark in 0..100 {
        rough.forward(MS * u32::from(mark), 0, &frame(ALL, A, mark));
    }
    let marks: Vec<u8> = due(&mut rough, 200 * MS).iter().map(|(_, mark)| *mark).collect();
    assert_eq!(marks, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_held_back_frame_is_overtaken() {
    let mut switch = switch(2, &Faults { reorder: 20.0, hold_ms: 2.5, ..Faults::default() });
    for mark in 0..100 {
        switch.forward(MS * u32::from(mark), 0, &frame(ALL, A, mark));
    }
    let marks: Vec<u8> = due(&mut switch, 200 * MS).iter().map(|(_, mark)| *mark).collect();
    let overtaken = marks.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    let held = switch.ports()[1].counts().reordered;
    assert!(
        held > 5 && overtaken > 0 && overtaken <= held,
        "{held} held back, {overtaken} overtaken: {marks:?}"
    );
    let mut sorted = marks;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..100).collect::<Vec<u8>>(), "none is lost");
}

#[test]
fn ports_lose_by_themselves_and_count_it() {
    let mut switch = switch(3, &Faults { loss: 20.0, duplicate: 10.0, ..Faults::default() });
    let mut came = [Vec::new(), Vec::new()];
    for mark in 0..200 {
        switch.forward(Duration::ZERO, 0, &frame(ALL, A, mark));
        for (port, mark) in due(&mut switch, Duration::ZERO) {
            came[port - 1].push(mark);
        }
    }
    assert_ne!(came[0], came[1]);
    for (port, came) in [1, 2].into_iter().zip(&came) {
        let counts = switch.ports()[port].counts();
        assert!((20..60).contains(&counts.lost) && (5..40).contains(&counts.duplicated), "{counts}");
        assert_eq!(counts.sent, came.len() as u64);
        assert_eq!(counts.offered, counts.sent - counts.duplicated + counts.lost);
        let mut once = came.clone();
        once.dedup();
        assert_eq!(once.len() as u64, counts.offered - counts.lost);
        let gaps = once.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64;
        let ends = u64::from(once[0] != 0) + u64::from(once[once.len() - 1] != 199);
        assert_eq!(counts.bursts, gaps + ends);
    }
}

#[test]
fn what_is_neither_udp_nor_pgm_is_delayed_but_never_lost() {
    let faults = Faults { loss: 100.0, corrupt: 100.0, delay_ms: 3.0, ..Faults::default() };
    let mut switch = switch(2, &faults);
    let mut arp = frame(ALL, A, 7);
    arp[13] = 0x06;
    switch.forward(Duration::ZERO, 0, &arp);
    switch.forward(Duration::ZERO, 0, &frame(ALL, A, 8));
    assert_eq!(switch.next_due(), Some(3 * MS));
    assert_eq!(due(&mut switch, 3 * MS), [(1, 7)]);
    assert_eq!(switch.ports()[1].counts().lost, 1);
}

#[test]
fn a_corrupted_copy_is_one_ports_own() {
    let mut switch = Switch::new(vec![
        Port::new(Faults::default(), 1),
        Port::new(Faults { corrupt: 100.0, ..Faults::default() }, 2),
        Port::new(Faults::default(), 3),
    ]);
    switch.forward(Duration::ZERO, 0, &frame(ALL, A, 0));
    let came = due(&mut switch, Duration::ZERO);
    assert_eq!(came[0].1.count_ones(), 1);
    assert_eq!(came[1], (2, 0));
}

#[test]
fn a_rate_spaces_frames_and_drops_what_would_wait_too_long() {
    // 43 bytes at 0.344 Mbit/s take a millisecond.
    let mut switch = switch(2, &Faults { rate_mbit: Some(0.344), ..Faults::default() });
    for mark in 0..100 {
        switch.forward(Duration::ZERO, 0, &frame(ALL, A, mark));
    }
    assert_eq!(due(&mut switch, 3 * MS), [(1, 0), (1, 1), (1, 2)]);
    let through = QUEUE_MAX.as_millis() as u64 + 1;
    due(&mut switch, 1000 * MS);
    let counts = switch.ports()[1].counts();
    assert_eq!((counts.sent, counts.overflowed), (through, 100 - through));
}

#[test]
fn frames_on_their_way_are_bounded() {
    let mut switch = switch(2, &Faults { delay_ms: 1000.0, ..Faults::default() });
    for _ in 0..IN_FLIGHT_MAX + 10 {
        switch.forward(Duration::ZERO, 0, &frame(ALL, A, 1));
    }
    assert_eq!(switch.ports()[1].counts().overflowed, 10);
}
