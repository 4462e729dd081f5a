//! Little memory that may be locked. Wants a guest with `--memlock 8M`, whose user is an ordinary one.

use fabriq::SocketType;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use super::device::endpoint;
use super::parcel::{LARGE, pack_len, unpack};
use super::socket;

/// With 8 MiB everything works: what cannot be registered is copied. With 1 MiB the error says what to raise, and how.
#[test]
fn eight_mib_are_enough_and_one_is_refused_with_the_remedy() {
    assert!(!geteuid().is_root(), "root is exempt from the limit");
    assert_eq!(getrlimit(Resource::Memlock).current, Some(8 << 20));
    let context = fabriq::context().unwrap();
    let (far, near) = (socket(&context, SocketType::Dealer), socket(&context, SocketType::Dealer));
    near.connect(far.bind(&endpoint()).unwrap().as_str()).unwrap();
    // More large frames at once than can be locked, also more than one message's worth of either pool.
    for round in 0..3 {
        for number in 0..16 {
            near.send(pack_len(&context, round * 16 + number, LARGE)).unwrap();
        }
        let held: Vec<_> = (0..16).map(|_| far.recv().unwrap()).collect();
        for (message, number) in held.into_iter().zip(round * 16..) {
            assert_eq!(unpack(&message), number);
            far.send(message).unwrap();
        }
        for number in round * 16..(round + 1) * 16 {
            assert_eq!(unpack(&near.recv().unwrap()), number);
        }
    }

    setrlimit(Resource::Memlock, Rlimit { current: Some(1 << 20), maximum: Some(8 << 20) }).unwrap();
    let poor = fabriq::context().unwrap();
    let refused = socket(&poor, SocketType::Dealer).bind(&endpoint()).unwrap_err().to_string();
    for part in ["RLIMIT_MEMLOCK", "1048576", "ulimit -l unlimited", "limits.conf"] {
        assert!(refused.contains(part), "{part} is not in: {refused}");
    }
    // What was connected before goes on.
    near.send("still here").unwrap();
    assert_eq!(far.recv().unwrap().body(), "still here");
}
