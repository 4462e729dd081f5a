//! What the patterns share: taking turns among pipes, whole messages in and out of one pipe. Knows no pattern's rules.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use transport_core::{Flags, Frame, Part};

use super::{NotReceived, PipeId, Pipes};
use crate::message::Message;

/// Lists of parts that a socket keeps for its next multipart messages.
const SPARE_LISTS: usize = 16;

/// Longer lists are given back, so that one huge multipart message does not stay for ever.
const SPARE_PARTS: usize = 32;

// ---------------------------------------------------------------------------------------------------------------
// Maps by pipe

/// Pipe ids are made by us, so nobody can choose them to collide, and one multiplication is enough.
#[derive(Default)]
pub(super) struct PipeHasher(u64);

impl Hasher for PipeHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        let product = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The map takes its bucket from the low bits, where a product is weakest.
        self.0 = product ^ product >> 32;
    }
}

pub(super) type PipeMap<V> = HashMap<PipeId, V, BuildHasherDefault<PipeHasher>>;
pub(super) type PipeSet = std::collections::HashSet<PipeId, BuildHasherDefault<PipeHasher>>;

// ---------------------------------------------------------------------------------------------------------------
// Turns

/// Pipes that take turns. The active ones are in front of the list, the passive ones behind them, as in libzmq's
/// array_t; every step is O(1) however many are passive.
#[derive(Debug, Default)]
struct Rotation {
    pipes: Vec<PipeId>,
    /// How many of `pipes`, from the front, are active.
    active: usize,
    /// Whose turn it is: below `active`, or 0.
    current: usize,
    places: PipeMap<usize>,
}

impl Rotation {
    #[inline]
    fn current(&self) -> Option<PipeId> {
        if self.current < self.active { self.pipes.get(self.current).copied() } else { None }
    }

    #[inline]
    fn advance(&mut self) {
        self.current += 1;
        if self.current >= self.active {
            self.current = 0;
        }
    }

    /// Joins the end of the active ones. Known pipes stay as they are.
    fn add(&mut self, pipe: PipeId) {
        if self.places.contains_key(&pipe) {
            return;
        }
        self.places.insert(pipe, self.pipes.len());
        self.pipes.push(pipe);
        self.activate(pipe);
    }

    /// A passive pipe joins the end of the active ones.
    fn activate(&mut self, pipe: PipeId) {
        match self.places.get(&pipe) {
            Some(&place) if place >= self.active => {
                self.swap(place, self.active);
                self.active += 1;
            }
            _ => {}
        }
    }

    /// The one whose turn it is becomes passive; the last active one takes its place and its turn.
    #[inline]
    fn pause_current(&mut self) {
        if self.current >= self.active {
            return;
        }
        self.active -= 1;
        self.swap(self.current, self.active);
        if self.current == self.active {
            self.current = 0;
        }
    }

    fn remove(&mut self, pipe: PipeId) {
        let Some(mut place) = self.places.remove(&pipe) else { return };
        if place < self.active {
            if place < self.current {
                // The gap is among those who had their turn. libzmq puts the last active one there, which then
                // misses its own; here the gap first moves up to whose turn it is.
                self.current -= 1;
                self.shift(self.current, place);
                place = self.current;
            }
            self.active -= 1;
            self.shift(self.active, place);
            place = self.active;
            if self.current == self.active {
                self.current = 0;
            }
        }
        self.shift(self.pipes.len() - 1, place);
        self.pipes.pop();
    }

    /// Moves a pipe into the gap at `to`.
    fn shift(&mut self, from: usize, to: usize) {
        if from != to {
            self.pipes[to] = self.pipes[from];
            self.places.insert(self.pipes[to], to);
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        // A lone pipe that runs empty with every message swaps with itself: no look-up then.
        if a != b {
            self.pipes.swap(a, b);
            self.places.insert(self.pipes[a], a);
            self.places.insert(self.pipes[b], b);
        }
    }
}

/// Takes messages from pipes in turn: one message, then the next pipe. A pipe found empty is left alone until it is
/// said to be readable.
#[derive(Debug, Default)]
pub(super) struct FairQueue(Rotation);

impl FairQueue {
    pub(super) fn add(&mut self, pipe: PipeId) {
        self.0.add(pipe);
    }

    pub(super) fn remove(&mut self, pipe: PipeId) {
        self.0.remove(pipe);
    }

    pub(super) fn readable(&mut self, pipe: PipeId) {
        self.0.activate(pipe);
    }

    /// The pipe whose turn it is; then say `took` or `found_empty`.
    #[inline]
    pub(super) fn current(&self) -> Option<PipeId> {
        self.0.current()
    }

    #[inline]
    pub(super) fn took(&mut self) {
        self.0.advance();
    }

    #[inline]
    pub(super) fn found_empty(&mut self) {
        self.0.pause_current();
    }

    /// The first part of the next message. The caller reads or drops the rest from the same pipe at once; the turn
    /// has passed on already.
    #[inline(always)]
    pub(super) fn first<P: Pipes>(&mut self, pipes: &mut P) -> Option<(PipeId, Part)> {
        while let Some(pipe) = self.0.current() {
            if let Some(part) = pipes.read(pipe) {
                self.0.advance();
                return Some((pipe, part));
            }
            self.0.pause_current();
        }
        None
    }

    /// The next whole message.
    #[inline(always)]
    pub(super) fn recv<P: Pipes>(
        &mut self,
        pipes: &mut P,
        spares: &mut Spares,
        message: &mut Message,
    ) -> Result<(), NotReceived> {
        // A message of one part goes from its pipe to its place in one step: each call or name in between would copy
        // it once more, and a copy of what was just written waits for the stores to arrive.
        while let Some(pipe) = self.0.current() {
            match pipes.read(pipe) {
                Some(Part { body, flags: Flags::LAST }) => {
                    self.0.advance();
                    message.set(body);
                    return Ok(());
                }
                Some(first) => {
                    self.0.advance();
                    if let Some(whole) = read_message(pipes, pipe, first, spares) {
                        *message = whole;
                        return Ok(());
                    }
                }
                None => self.0.pause_current(),
            }
        }
        Err(NotReceived::Again)
    }
}

/// Gives messages to pipes in turn. A pipe found full is left alone until it is said to be writable.
#[derive(Debug, Default)]
pub(super) struct LoadBalancer(Rotation);

impl LoadBalancer {
    pub(super) fn add(&mut self, pipe: PipeId) {
        self.0.add(pipe);
    }

    pub(super) fn remove(&mut self, pipe: PipeId) {
        self.0.remove(pipe);
    }

    pub(super) fn writable(&mut self, pipe: PipeId) {
        self.0.activate(pipe);
    }

    /// The pipe for the next message, which has room for it. Its turn lasts until `sent`.
    #[inline]
    pub(super) fn pick<P: Pipes>(&mut self, pipes: &mut P) -> Option<PipeId> {
        while let Some(pipe) = self.0.current() {
            if pipes.can_write(pipe) {
                return Some(pipe);
            }
            self.0.pause_current();
        }
        None
    }

    /// The picked pipe got its message.
    #[inline]
    pub(super) fn sent(&mut self) {
        self.0.advance();
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Whole messages

/// Empty lists of parts for messages to come: a socket that receives and sends multipart messages in turn (ROUTER)
/// does not allocate.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Vec<Frame>>);

impl Spares {
    #[inline(never)]
    pub(super) fn take(&mut self) -> Vec<Frame> {
        self.0.pop().unwrap_or_default()
    }

    #[inline(never)]
    pub(super) fn put(&mut self, mut list: Vec<Frame>) {
        list.clear();
        if (1..=SPARE_PARTS).contains(&list.capacity()) && self.0.len() < SPARE_LISTS {
            self.0.push(list);
        }
    }
}

/// The message that begins with `first`. `None` if the pipe ended in the middle: the fragment is dropped.
#[inline(never)]
pub(super) fn read_message<P: Pipes>(
    pipes: &mut P,
    pipe: PipeId,
    first: Part,
    spares: &mut Spares,
) -> Option<Message> {
    let mut rest = Vec::new();
    if first.flags.more() {
        rest = spares.take();
        if !read_rest(pipes, pipe, &mut rest) {
            spares.put(rest);
            return None;
        }
    }
    let mut message = Message::from_first_and_rest(first.body, rest);
    if first.flags.gap() {
        message.set_gap_before();
    }
    Some(message)
}

/// Appends the parts that follow one with MORE. `false` if the pipe ended in the middle.
#[inline(never)]
pub(super) fn read_rest<P: Pipes>(pipes: &mut P, pipe: PipeId, rest: &mut Vec<Frame>) -> bool {
    while let Some(part) = pipes.read(pipe) {
        rest.push(part.body);
        if !part.flags.more() {
            return true;
        }
    }
    false
}

/// ZMQ_PROBE_ROUTER: an empty message, so that a ROUTER at the other end hears of us before we have anything to say.
pub(super) fn probe<P: Pipes>(wanted: bool, pipes: &mut P, pipe: PipeId) {
    if wanted && pipes.can_write(pipe) {
        pipes.write(pipe, Part::last(Frame::EMPTY));
    }
}

/// Drops the parts that follow `part` in its message.
pub(super) fn drop_rest<P: Pipes>(pipes: &mut P, pipe: PipeId, part: &Part) {
    let mut more = part.flags.more();
    while more {
        more = pipes.read(pipe).is_some_and(|part| part.flags.more());
    }
}

/// Writes a message to a pipe that has room for it, and leaves it empty.
#[inline(always)]
pub(super) fn write_message<P: Pipes>(
    pipes: &mut P,
    pipe: PipeId,
    message: &mut Message,
    spares: &mut Spares,
) {
    if message.len() == 1 {
        pipes.write(pipe, Part { body: message.take_first(), flags: Flags::LAST });
    } else {
        let (first, rest) = message.take().into_first_and_rest();
        pipes.write(pipe, Part { body: first, flags: Flags::MORE });
        write_all(pipes, pipe, rest, spares);
    }
}

/// Writes the parts that end a message.
#[inline(never)]
pub(super) fn write_all<P: Pipes>(pipes: &mut P, pipe: PipeId, mut parts: Vec<Frame>, spares: &mut Spares) {
    let mut after = parts.len();
    for body in parts.drain(..) {
        after -= 1;
        let flags = if after == 0 { Flags::LAST } else { Flags::MORE };
        pipes.write(pipe, Part { body, flags });
    }
    spares.put(parts);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Random, TestPipes, message, pipe};
    use super::*;

    fn next(
        fair: &mut FairQueue,
        pipes: &mut TestPipes,
        spares: &mut Spares,
    ) -> Result<Message, NotReceived> {
        let mut message = Message::EMPTY;
        fair.recv(pipes, spares, &mut message).map(|()| message)
    }

    fn recv(fair: &mut FairQueue, pipes: &mut TestPipes) -> Option<String> {
        let message = next(fair, pipes, &mut Spares::default()).ok()?;
        Some(String::from_utf8(message.body().to_vec()).unwrap())
    }

    #[test]
    fn one_message_from_each_in_turn() {
        let mut pipes = TestPipes::new();
        let mut fair = FairQueue::default();
        for n in 1..=3 {
            fair.add(pipe(n));
            pipes.arrive(n, &[&format!("{n}a")]);
            pipes.arrive(n, &["more", &format!("{n}b")]);
        }
        let got: Vec<_> = std::iter::from_fn(|| recv(&mut fair, &mut pipes)).collect();
        assert_eq!(got, ["1a", "2a", "3a", "1b", "2b", "3b"]);
        assert_eq!(fair.0.active, 0);
    }

    #[test]
    fn an_empty_pipe_is_not_asked_again_before_it_is_readable() {
        let mut pipes = TestPipes::new();
        let mut fair = FairQueue::default();
        (0..10_000).for_each(|n| fair.add(pipe(n)));
        assert_eq!(recv(&mut fair, &mut pipes), None);
        pipes.asked = 0;
        for _ in 0..100 {
            assert_eq!(recv(&mut fair, &mut pipes), None);
        }
        assert_eq!(pipes.asked, 0, "no passive pipe is asked");
        for n in [7_000, 3, 9_999] {
            pipes.arrive(n, &[&n.to_string()]);
            fair.readable(pipe(n));
            fair.readable(pipe(n));
        }
        let got: Vec<_> = std::iter::from_fn(|| recv(&mut fair, &mut pipes)).collect();
        assert_eq!(got, ["7000", "3", "9999"]);
        assert_eq!(pipes.asked, 6, "each for its message, and once to find it empty");
        fair.readable(pipe(70_000));
        assert_eq!(recv(&mut fair, &mut pipes), None, "an unknown pipe is no pipe");
    }

    #[test]
    fn the_next_in_turn_keeps_its_turn_when_another_leaves() {
        let mut pipes = TestPipes::new();
        let mut fair = FairQueue::default();
        for n in 1..=4 {
            fair.add(pipe(n));
            (0..4).for_each(|_| pipes.arrive(n, &[&n.to_string()]));
        }
        assert_eq!(recv(&mut fair, &mut pipes).unwrap(), "1");
        assert_eq!(recv(&mut fair, &mut pipes).unwrap(), "2");
        fair.remove(pipe(1));
        let mut next: Vec<_> = (0..2).filter_map(|_| recv(&mut fair, &mut pipes)).collect();
        next.sort();
        assert_eq!(next, ["3", "4"], "neither misses its turn");
        assert_eq!(recv(&mut fair, &mut pipes).unwrap(), "2");
    }

    #[test]
    fn a_pipe_that_ends_in_a_message_loses_the_fragment_only() {
        let mut pipes = TestPipes::new();
        let mut fair = FairQueue::default();
        let mut spares = Spares::default();
        fair.add(pipe(1));
        fair.add(pipe(2));
        pipes.arrive_part(1, Part::more("half"));
        pipes.arrive(2, &["whole"]);
        assert_eq!(next(&mut fair, &mut pipes, &mut spares).unwrap(), message(&["whole"]));
        assert!(next(&mut fair, &mut pipes, &mut spares).is_err());
        pipes.arrive(1, &["later", "on"]);
        fair.readable(pipe(1));
        assert_eq!(next(&mut fair, &mut pipes, &mut spares).unwrap(), message(&["later", "on"]));

        pipes.arrive_part(1, Part::more("half"));
        let first = pipes.read(pipe(1)).unwrap();
        drop_rest(&mut pipes, pipe(1), &first);
    }

    #[test]
    fn full_pipes_are_skipped_until_writable() {
        let mut pipes = TestPipes::new();
        let mut balancer = LoadBalancer::default();
        (1..=3).for_each(|n| balancer.add(pipe(n)));
        pipes.room(2, 0);
        let send = |balancer: &mut LoadBalancer, pipes: &mut TestPipes| {
            let pipe = balancer.pick(pipes)?;
            write_message(pipes, pipe, &mut Message::new("x"), &mut Spares::default());
            balancer.sent();
            Some(pipe.0)
        };
        let got: Vec<_> = (0..4).map(|_| send(&mut balancer, &mut pipes).unwrap()).collect();
        assert_eq!(got, [1, 3, 1, 3]);
        pipes.room(2, 100);
        assert_eq!(send(&mut balancer, &mut pipes), Some(1), "not before it is said");
        balancer.writable(pipe(2));
        balancer.writable(pipe(2));
        let got: Vec<_> = (0..4).map(|_| send(&mut balancer, &mut pipes).unwrap()).collect();
        assert_eq!(got, [3, 2, 1, 3], "it joined the end");
        (1..=3).for_each(|n| pipes.room(n, 0));
        assert_eq!(send(&mut balancer, &mut pipes), None);
        pipes.asked = 0;
        assert_eq!(send(&mut balancer, &mut pipes), None);
        assert_eq!(pipes.asked, 0);
    }

    #[test]
    fn parts_keep_their_order_and_lists_are_used_again() {
        let mut pipes = TestPipes::new();
        let mut spares = Spares::default();
        write_message(&mut pipes, pipe(1), &mut message(&["a", "b", "c"]), &mut spares);
        assert_eq!(pipes.sent(1), [message(&["a", "b", "c"])]);
        assert_eq!(spares.0.len(), 1);
        let place = spares.0[0].as_ptr();
        pipes.arrive(1, &["x", "y"]);
        let first = pipes.read(pipe(1)).unwrap();
        let got = read_message(&mut pipes, pipe(1), first, &mut spares).unwrap();
        assert_eq!(got, message(&["x", "y"]));
        assert_eq!(got.into_first_and_rest().1.as_ptr(), place);
        spares.put(Vec::new());
        spares.put(Vec::with_capacity(10_000));
        assert!(spares.0.is_empty(), "neither nothing nor too much is kept");
    }

    #[test]
    fn the_first_part_tells_of_a_gap() {
        let mut pipes = TestPipes::new();
        for parts in [&["a"][..], &["a", "b"]] {
            pipes.arrive(1, parts);
            let mut first = pipes.read(pipe(1)).unwrap();
            first.flags = first.flags.with(Flags::GAP);
            assert!(read_message(&mut pipes, pipe(1), first, &mut Spares::default()).unwrap().gap_before());
        }
    }

    /// Every place is where the map says, and nothing else is known.
    fn check(rotation: &Rotation) {
        assert_eq!(rotation.pipes.len(), rotation.places.len());
        for (place, pipe) in rotation.pipes.iter().enumerate() {
            assert_eq!(rotation.places[pipe], place);
        }
        assert!(rotation.active <= rotation.pipes.len());
        assert!(rotation.current < rotation.active || rotation.current == 0);
    }

    /// The same by plain lists: `turn` is this round's remaining order, `had` those who had their turn.
    #[derive(Default)]
    struct Model {
        had: Vec<u64>,
        turn: Vec<u64>,
        passive: Vec<u64>,
    }

    impl Model {
        fn wrap(&mut self) {
            if self.turn.is_empty() {
                self.turn = std::mem::take(&mut self.had);
            }
        }

        fn join(&mut self, pipe: u64) {
            self.turn.push(pipe);
        }

        fn remove(&mut self, pipe: u64) {
            if let Some(at) = self.passive.iter().position(|&other| other == pipe) {
                self.passive.swap_remove(at);
            } else if let Some(at) = self.turn.iter().position(|&other| other == pipe) {
                self.turn.swap_remove(at);
            } else if let Some(at) = self.had.iter().position(|&other| other == pipe) {
                self.had.swap_remove(at);
                // The last in turn comes next.
                if let Some(last) = self.turn.pop() {
                    self.turn.insert(0, last);
                }
            }
            self.wrap();
        }

        /// Whose turn it is that has something, given what each has.
        fn next(&mut self, mut has: impl FnMut(u64) -> bool) -> Option<u64> {
            loop {
                self.wrap();
                let &pipe = self.turn.first()?;
                if has(pipe) {
                    self.had.push(self.turn.remove(0));
                    self.wrap();
                    return Some(pipe);
                }
                self.turn.swap_remove(0);
                self.passive.push(pipe);
            }
        }
    }

    #[test]
    fn fair_queueing_agrees_with_lists_and_starves_nobody() {
        for seed in 1..=60 {
            let mut random = Random::new(seed);
            let mut pipes = TestPipes::new();
            let mut fair = FairQueue::default();
            let mut model = Model::default();
            let mut live: Vec<u64> = Vec::new();
            // For a pipe that has had something all the time since its last message: what each other got since.
            let mut waiting: HashMap<u64, HashMap<u64, u32>> = HashMap::new();
            for step in 0..3_000 {
                match random.below(20) {
                    0 => {
                        fair.add(pipe(step));
                        model.join(step);
                        live.push(step);
                    }
                    1 if live.len() > 2 => {
                        let gone = live.swap_remove(random.below(live.len()));
                        fair.remove(pipe(gone));
                        pipes.remove(gone);
                        model.remove(gone);
                        waiting.remove(&gone);
                    }
                    2..=9 if !live.is_empty() => {
                        let n = live[random.below(live.len())];
                        let parts = ["1", "2", "3"];
                        pipes.arrive(n, &parts[..1 + random.below(3)]);
                        fair.readable(pipe(n));
                        if let Some(at) = model.passive.iter().position(|&other| other == n) {
                            model.passive.swap_remove(at);
                            model.join(n);
                        }
                        waiting.entry(n).or_default();
                    }
                    _ => {
                        let expected = model.next(|n| pipes.has_in(n));
                        let got = fair.first(&mut pipes);
                        assert_eq!(got.as_ref().map(|got| got.0.0), expected, "seed {seed} step {step}");
                        if let Some((from, part)) = got {
                            drop_rest(&mut pipes, from, &part);
                            waiting.remove(&from.0);
                            for passed in waiting.values_mut().map(|others| others.entry(from.0).or_default())
                            {
                                *passed += 1;
                                assert!(
                                    *passed <= 2,
                                    "seed {seed} step {step}: a third before one that waits"
                                );
                            }
                            if pipes.has_in(from.0) {
                                waiting.insert(from.0, HashMap::new());
                            }
                        }
                    }
                }
                check(&fair.0);
                assert_eq!(fair.0.active, model.turn.len() + model.had.len());
            }
        }
    }

    #[test]
    fn load_balancing_agrees_with_lists() {
        for seed in 1..=60 {
            let mut random = Random::new(seed);
            let mut pipes = TestPipes::new();
            let mut balancer = LoadBalancer::default();
            let mut model = Model::default();
            let mut live: Vec<u64> = Vec::new();
            for step in 0..3_000 {
                match random.below(20) {
                    0 => {
                        balancer.add(pipe(step));
                        pipes.room(step, random.below(5));
                        model.join(step);
                        live.push(step);
                    }
                    1 if live.len() > 2 => {
                        let gone = live.swap_remove(random.below(live.len()));
                        balancer.remove(pipe(gone));
                        model.remove(gone);
                    }
                    2..=5 if !live.is_empty() => {
                        let n = live[random.below(live.len())];
                        pipes.room(n, random.below(5));
                        // May be said without need, even of a pipe without room.
                        balancer.writable(pipe(n));
                        if let Some(at) = model.passive.iter().position(|&other| other == n) {
                            model.passive.swap_remove(at);
                            model.join(n);
                        }
                    }
                    _ => {
                        let expected = model.next(|n| pipes.can_write(pipe(n)));
                        let got = balancer.pick(&mut pipes);
                        assert_eq!(got, expected.map(pipe), "seed {seed} step {step}");
                        assert_eq!(balancer.pick(&mut pipes), got, "looking does not pass the turn on");
                        if let Some(to) = got {
                            write_message(&mut pipes, to, &mut Message::new("x"), &mut Spares::default());
                            balancer.sent();
                        }
                    }
                }
                check(&balancer.0);
            }
        }
    }
}
