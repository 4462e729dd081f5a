//! Tests of the queue's memory, in so few steps that Miri (ci/miri) gets through: segments that are used again, given
//! back and left behind, in one hand and in two threads. Not of its order and wake-ups: those are in queue.rs.

use crate::queue::queue;

/// Values in a volley: a few segments.
const VOLLEY: u64 = 200;

/// Values in more segments than a queue keeps.
const FLOOD: u64 = 70 * 32;

#[test]
fn segments_are_used_again() {
    let (mut writer, mut reader) = queue();
    for volley in [VOLLEY, 1, 31, 32, 33, VOLLEY] {
        for value in 0..volley {
            writer.write(Box::new(value));
        }
        writer.publish();
        for value in 0..volley {
            assert_eq!(reader.read(), Some(Box::new(value)));
        }
        assert_eq!(reader.read(), None);
    }
}

#[test]
fn segments_that_a_queue_does_not_keep_are_freed_at_once() {
    let (mut writer, mut reader) = queue();
    for _ in 0..2 {
        for value in 0..FLOOD {
            writer.write(value);
        }
        writer.publish();
        for value in 0..FLOOD {
            assert_eq!(reader.read(), Some(value));
        }
    }
}

#[test]
fn either_end_frees_what_the_other_left() {
    for (published, read, writer_first) in
        [(0, 0, true), (32, 32, false), (VOLLEY, 0, true), (VOLLEY, 40, false), (VOLLEY, VOLLEY, true)]
    {
        let (mut writer, mut reader) = queue();
        for value in 0..published {
            writer.write(Box::new(value));
        }
        writer.publish();
        // Written and never published: nobody's but the queue's.
        writer.write(Box::new(VOLLEY));
        for value in 0..read {
            assert_eq!(reader.read(), Some(Box::new(value)));
        }
        if writer_first {
            drop(writer);
            drop(reader);
        } else {
            drop(reader);
            drop(writer);
        }
    }
}

#[test]
fn values_cross_threads_while_segments_come_back() {
    let (mut writer, mut reader) = queue();
    let reading = std::thread::spawn(move || {
        let mut want = 0;
        loop {
            match reader.read() {
                Some(value) => {
                    assert_eq!(value, Box::new(want));
                    want += 1;
                }
                None if reader.is_ended() => return want,
                None => std::thread::park(),
            }
        }
    });
    for value in 0..2 * VOLLEY {
        writer.write(Box::new(value));
        if value % 3 == 0 && writer.publish() {
            reading.thread().unpark();
        }
    }
    writer.publish();
    writer.end();
    reading.thread().unpark();
    assert_eq!(reading.join().unwrap(), 2 * VOLLEY);
}
