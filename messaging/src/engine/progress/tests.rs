//! Who is woken when several threads wait: wakes and handovers at the moments at which they could be lost. No transport.

use std::cell::Cell;
use std::sync::mpsc::channel;

use super::*;

/// Long enough for any machine; only a thread that nobody wakes waits for so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn shard() -> Arc<Shard> {
    Shard::start(0, Duration::ZERO, FramePool::new(1 << 20)).unwrap()
}

/// A socket that has a message or not.
#[derive(Default)]
struct Place {
    waiters: Waiters,
    message: AtomicBool,
}

impl Place {
    fn deliver(&self) {
        self.message.store(true, Ordering::SeqCst);
        self.waiters.wake_all();
    }
}

impl Target for Place {
    fn waiters(&self) -> &Waiters {
        &self.waiters
    }
    fn has_news(&self) -> bool {
        false
    }
}

/// Wakes who waits at a place at the moment at which it has put itself on the list there, once: as a thread does that has
/// shown a message, was held up, and says so when the message has been taken.
struct Tardy<'a> {
    place: &'a Place,
    waiters: Waiters,
    due: Cell<bool>,
}

impl Target for Tardy<'_> {
    fn waiters(&self) -> &Waiters {
        if self.due.take() {
            self.place.waiters.wake_all();
        }
        &self.waiters
    }
    fn has_news(&self) -> bool {
        false
    }
}

#[test]
fn a_wake_that_comes_late_does_not_take_a_leader_off_the_list_for_good() {
    let (shard, place) = (shard(), Place::default());
    let tardy = Tardy { place: &place, waiters: Waiters::default(), due: Cell::new(true) };
    let (asleep, heard) = channel();
    let woken = std::thread::scope(|scope| {
        let place = &place;
        scope.spawn(move || {
            // The leader has looked for the last time.
            if heard.recv().is_ok() {
                place.deliver();
            }
        });
        let wait =
            Wait { targets: &[place, &tardy], deadline: Instant::now().checked_add(PATIENCE), fds: &[] };
        let woken = shard.wait(&wait, || {
            let there = place.message.load(Ordering::SeqCst).then_some(());
            if there.is_none() && shard.leader_parked.load(Ordering::SeqCst) {
                let _ = asleep.send(());
            }
            there
        });
        drop(asleep);
        // Not when the time is over, when it would look once more as well.
        woken.map(|()| Instant::now() < wait.deadline.unwrap())
    });
    shard.stop();
    assert_eq!(woken, Ok(true));
}

/// Waits for a message while another leads; says when it has looked for the last time before it parks.
fn follow(shard: &Shard, place: &Place, parks: impl Fn()) -> Result<(), Error> {
    let mut looks = 0;
    let wait = Wait { targets: &[place], deadline: Instant::now().checked_add(PATIENCE), fds: &[] };
    shard.wait(&wait, || {
        let there = place.message.load(Ordering::SeqCst).then_some(());
        looks += 1;
        if looks == 2 {
            parks();
        }
        there
    })
}

#[test]
fn a_follower_that_is_to_lead_and_finds_its_message_hands_the_lead_on() {
    let shard = shard();
    let (first, second) = (Place::default(), Place::default());
    shard.leader.store(true, Ordering::SeqCst);
    let (following, follows) = channel();
    let led = std::thread::scope(|scope| {
        let wait = |place| {
            let (shard, following) = (&shard, following.clone());
            scope.spawn(move || follow(shard, place, || following.send(()).unwrap()))
        };
        // One after the other: who came last leads first.
        let one = wait(&first);
        follows.recv().unwrap();
        let other = wait(&second);
        follows.recv().unwrap();
        // Found by looking, not by a wake: the one that wakes it is the leader that leaves.
        second.message.store(true, Ordering::SeqCst);
        shard.stop_leading();
        assert_eq!(other.join().unwrap(), Ok(()));
        let until = Instant::now() + PATIENCE;
        while !shard.is_driven() && Instant::now() < until {
            std::thread::yield_now();
        }
        let led = shard.is_driven();
        first.deliver();
        assert_eq!(one.join().unwrap(), Ok(()));
        led
    });
    shard.stop();
    assert!(led, "nobody drove while a thread waited");
}
