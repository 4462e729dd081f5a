//! Which subscriptions are a prefix of a message's first frame. Not a router: it knows neither pipes nor messages.
//!
//! [`Matcher`] serves PUB and XPUB (topics to sets of pipe ids), [`SubscriptionSet`] serves SUB and XSUB (topics to
//! counts). Both are one trie: a Patricia trie of half bytes, in an arena of 32-bit words, whose branches skip what
//! their topics have in common and whose leaves hold the whole topic. Cache misses decide the price of a match, so:
//!
//! * a branch takes 16 to 80 bytes, so that all but the last one or two on the way stay cached among a million topics,
//!   and a leaf is one cache line;
//! * the way down never looks at what branches skip. One comparison, with the deepest topic met, settles every topic
//!   met on the way, because each of them is a prefix of all topics below it.
//!
//! Measured against it, and dropped: a table hashed by topic length (1.5 to 5 times slower, since it needs a look-up
//! for each length in use, and peers choose the lengths); and buckets of 16 or 32 topics in place of the last branches
//! (no faster at a million topics, a third slower at a few thousand).
//!
//! A match takes at most two steps per byte of the data, whatever peers subscribe to. Nothing here recurses, and no
//! input panics: topics of any length and content may come from a hostile peer. How many subscriptions a peer may hold
//! is for the caller to bound; memory grows with the bytes that were subscribed.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt;
use std::hash::Hash;

/// Topics longer than this are refused (not recorded), since a branch counts half bytes in 32 bits.
pub(super) const TOPIC_MAX: usize = (u32::MAX / 2 - 1) as usize;

// ---------------------------------------------------------------------------------------------------------------
// Leaves

/// Bytes of a topic that fit in its leaf. Longer ones cost an allocation, and a second cache miss per match.
const INLINE_MAX: usize = 38;

/// The topic of a leaf, or the mark of a free one.
enum Topic {
    Inline(u8, [u8; INLINE_MAX]),
    Heap(Box<[u8]>),
    /// Not in use. Holds the next free leaf, or [`NONE`].
    Free(u32),
}

impl Topic {
    fn new(topic: &[u8]) -> Self {
        let mut bytes = [0; INLINE_MAX];
        match bytes.get_mut(..topic.len()) {
            Some(start) => {
                start.copy_from_slice(topic);
                Self::Inline(topic.len() as u8, bytes)
            }
            None => Self::Heap(topic.into()),
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Inline(length, bytes) => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
            Self::Free(_) => &[],
        }
    }
}

/// A topic and what is known about it. One cache line, and aligned to it, when `V` is at most 24 bytes.
#[repr(align(64))]
struct Leaf<V> {
    topic: Topic,
    value: V,
}

/// Leaves per chunk. Chunks, and not one vector, so that growing never copies all leaves at once.
const CHUNK: usize = 1 << 13;

/// Leaves by number. A number stays valid until its leaf is taken, and is then used again.
struct Leaves<V> {
    chunks: Vec<Vec<Leaf<V>>>,
    free: u32,
    live: usize,
}

impl<V: Default> Leaves<V> {
    const fn new() -> Self {
        Self { chunks: Vec::new(), free: NONE, live: 0 }
    }

    #[inline]
    fn at(&self, leaf: u32) -> &Leaf<V> {
        &self.chunks[leaf as usize / CHUNK][leaf as usize % CHUNK]
    }

    #[inline]
    fn at_mut(&mut self, leaf: u32) -> &mut Leaf<V> {
        &mut self.chunks[leaf as usize / CHUNK][leaf as usize % CHUNK]
    }

    fn put(&mut self, topic: &[u8]) -> u32 {
        let new = Leaf { topic: Topic::new(topic), value: V::default() };
        self.live += 1;
        if self.free != NONE {
            let leaf = self.free;
            let place = self.at_mut(leaf);
            let next = if let Topic::Free(next) = place.topic { next } else { NONE };
            *place = new;
            self.free = next;
            return leaf;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as any vector does: most matchers hold a handful of topics.
            self.chunks.push(Vec::with_capacity(if self.chunks.is_empty() { 4 } else { CHUNK }));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("one was just pushed if there was none");
        chunk.push(new);
        // Leaf numbers have 31 bits. That many leaves are 128 GiB, so memory ends first.
        (before + chunk.len() - 1) as u32
    }

    fn take(&mut self, leaf: u32) -> Leaf<V> {
        let free = Leaf { topic: Topic::Free(self.free), value: V::default() };
        let taken = std::mem::replace(self.at_mut(leaf), free);
        self.free = leaf;
        self.live -= 1;
        taken
    }

    fn iter(&self) -> impl Iterator<Item = &Leaf<V>> {
        self.chunks.iter().flatten().filter(|leaf| !matches!(leaf.topic, Topic::Free(_)))
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The trie
//
// A topic is read as symbols: two per byte (high half, low half; values 1 to 16), and the symbol END (0) behind the
// last byte. A branch at depth d holds topics that agree in their first d symbols and differ in symbol d. In words:
//
//     depth | children present: a bit per symbol, and the size class in the top byte | a link per child, by symbol
//
// A link is NONE (only at the root), a leaf's number with the top bit set, or a branch's place in the arena in units
// of four words. Word 0 of the arena is the link to the root, so that every link has a place that can be written to.

const NONE: u32 = u32::MAX;
const LEAF: u32 = 1 << 31;
/// The symbol behind the last byte of a topic.
const END: u32 = 0;
/// Words of a branch before its links.
const HEAD: usize = 2;
/// Words that allocation counts in.
const UNIT: usize = 4;
/// Branch sizes: 1 to 5 units. 17 links and the head need 19 words.
const CLASSES: usize = 5;
const CLASS_SHIFT: u32 = 24;
const SYMBOLS: u32 = (1 << 17) - 1;
/// Words of arena that are kept when the last topic goes; a larger arena is given back.
const KEPT_WORDS: usize = 1 << 14;

/// The symbol of `topic` at `depth`; END for all depths behind its last byte.
#[inline]
fn symbol(topic: &[u8], depth: u32) -> u32 {
    match topic.get(depth as usize / 2) {
        Some(&byte) => half(byte, depth),
        None => END,
    }
}

#[inline]
fn half(byte: u8, depth: u32) -> u32 {
    1 + u32::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many links a branch of this class has room for.
const fn room(class: usize) -> usize {
    (class + 1) * UNIT - HEAD
}

/// The smallest class with room for `links`. Two to 17 of them.
const fn class_for(links: usize) -> usize {
    (links + HEAD).div_ceil(UNIT) - 1
}

/// A branch as its two words of head say it.
#[derive(Clone, Copy)]
struct Branch {
    /// Its first word.
    base: usize,
    depth: u32,
    bits: u32,
}

impl Branch {
    const fn has(self, symbol: u32) -> bool {
        self.bits >> symbol & 1 != 0
    }

    /// The place of the link for `symbol`, or where it belongs if there is none.
    const fn place(self, symbol: u32) -> usize {
        self.base + HEAD + (self.bits & ((1 << symbol) - 1)).count_ones() as usize
    }

    const fn links(self) -> usize {
        (self.bits & SYMBOLS).count_ones() as usize
    }

    const fn class(self) -> usize {
        (self.bits >> CLASS_SHIFT) as usize
    }
}

struct Trie<V> {
    words: Vec<u32>,
    /// By class, the first free branch; its first word holds the next one.
    free: [u32; CLASSES],
    leaves: Leaves<V>,
}

impl<V: Default> Trie<V> {
    fn new() -> Self {
        Self { words: vec![NONE; UNIT], free: [NONE; CLASSES], leaves: Leaves::new() }
    }

    #[inline]
    fn branch(&self, link: u32) -> Branch {
        let base = link as usize * UNIT;
        let head = &self.words[base..base + HEAD];
        Branch { base, depth: head[0], bits: head[1] }
    }

    /// Calls `candidate` for each leaf whose topic is a prefix of `data` as far as the branches tell, the shortest
    /// first, until it returns false. Each candidate's topic is a prefix of the next one's: what compares the last
    /// with `data` knows about all.
    #[inline(always)]
    fn walk(&self, data: &[u8], mut candidate: impl FnMut(u32) -> bool) {
        let mut link = self.words[0];
        if link == NONE {
            return;
        }
        while link & LEAF == 0 {
            let branch = self.branch(link);
            if branch.has(END) && !candidate(self.words[branch.base + HEAD] & !LEAF) {
                return;
            }
            let Some(&byte) = data.get(branch.depth as usize / 2) else { return };
            let symbol = half(byte, branch.depth);
            if !branch.has(symbol) {
                return;
            }
            link = self.words[branch.place(symbol)];
        }
        candidate(link & !LEAF);
    }

    /// The leaf of exactly this topic.
    fn find(&self, topic: &[u8]) -> Option<u32> {
        let mut link = self.words[0];
        if link == NONE {
            return None;
        }
        while link & LEAF == 0 {
            let branch = self.branch(link);
            let symbol = symbol(topic, branch.depth);
            if !branch.has(symbol) {
                return None;
            }
            link = self.words[branch.place(symbol)];
        }
        let leaf = link & !LEAF;
        (self.leaves.at(leaf).topic.bytes() == topic).then_some(leaf)
    }

    /// The leaf of exactly this topic; makes it if there is none. The topic is at most [`TOPIC_MAX`] long.
    fn find_or_insert(&mut self, topic: &[u8]) -> u32 {
        if self.words[0] == NONE {
            let leaf = self.leaves.put(topic);
            self.words[0] = leaf | LEAF;
            return leaf;
        }
        // Some topic that shares the longest prefix with this one. Below the place where this one leaves the trie,
        // all topics share the same prefix with it, so there any link will do.
        let mut link = self.words[0];
        while link & LEAF == 0 {
            let branch = self.branch(link);
            let symbol = symbol(topic, branch.depth);
            let place = if branch.has(symbol) { branch.place(symbol) } else { branch.base + HEAD };
            link = self.words[place];
        }
        let near = self.leaves.at(link & !LEAF).topic.bytes();
        let common = common_prefix(topic, near);
        let mut split = 2 * common as u32;
        match (topic.get(common), near.get(common)) {
            (None, None) => return link & !LEAF,
            (Some(a), Some(b)) if a >> 4 == b >> 4 => split += 1,
            _ => {}
        }
        let (own, other) = (symbol(topic, split), symbol(near, split));
        let leaf = self.leaves.put(topic);
        let mut place = 0;
        loop {
            let link = self.words[place];
            if link & LEAF == 0 {
                let branch = self.branch(link);
                if branch.depth < split {
                    place = branch.place(symbol(topic, branch.depth));
                    continue;
                }
                if branch.depth == split {
                    self.add_link(place, branch, own, leaf | LEAF);
                    return leaf;
                }
            }
            // What is here agrees in more symbols than it shares with the topic: a branch goes between.
            let base = self.allocate(0);
            self.words[base] = split;
            self.words[base + 1] = 1 << own | 1 << other;
            self.words[base + HEAD + usize::from(own > other)] = leaf | LEAF;
            self.words[base + HEAD + usize::from(own < other)] = link;
            self.words[place] = (base / UNIT) as u32;
            return leaf;
        }
    }

    /// Takes the leaf out, which must be live.
    fn remove(&mut self, leaf: u32) -> Leaf<V> {
        let taken = self.leaves.take(leaf);
        let topic = taken.topic.bytes();
        let mut place = 0;
        let mut above = None;
        loop {
            let link = self.words[place];
            if link & LEAF != 0 {
                debug_assert_eq!(link, leaf | LEAF, "a live leaf is where its topic leads");
                break;
            }
            let branch = self.branch(link);
            let symbol = symbol(topic, branch.depth);
            above = Some((place, branch, symbol));
            place = branch.place(symbol);
        }
        match above {
            None => self.words[0] = NONE,
            Some((place, branch, symbol)) => self.remove_link(place, branch, symbol),
        }
        if self.leaves.live == 0 && (self.words.len() > KEPT_WORDS || self.leaves.chunks.len() > 1) {
            *self = Self::new();
        }
        taken
    }

    /// Adds a link for a symbol that the branch does not have yet. `place` holds the link to the branch.
    fn add_link(&mut self, place: usize, branch: Branch, symbol: u32, link: u32) {
        let links = branch.links();
        let at = branch.place(symbol);
        let end = branch.base + HEAD + links;
        if links < room(branch.class()) {
            self.words.copy_within(at..end, at + 1);
            self.words[at] = link;
            self.words[branch.base + 1] |= 1 << symbol;
            return;
        }
        let class = class_for(links + 1);
        let base = self.allocate(class);
        let split = base + at - branch.base;
        self.words.copy_within(branch.base..at, base);
        self.words.copy_within(at..end, split + 1);
        self.words[split] = link;
        self.words[base + 1] = (branch.bits & SYMBOLS) | 1 << symbol | (class as u32) << CLASS_SHIFT;
        self.words[place] = (base / UNIT) as u32;
        self.release(branch);
    }

    /// Removes the link for a symbol that the branch has. `place` holds the link to the branch.
    fn remove_link(&mut self, place: usize, branch: Branch, symbol: u32) {
        let at = branch.place(symbol);
        let end = branch.base + HEAD + branch.links();
        self.words.copy_within(at + 1..end, at);
        let links = branch.links() - 1;
        if links == 1 {
            // A branch of one is no branch.
            self.words[place] = self.words[branch.base + HEAD];
            self.release(branch);
            return;
        }
        let class = class_for(links);
        let bits = (branch.bits & SYMBOLS & !(1 << symbol)) | (class as u32) << CLASS_SHIFT;
        let mut base = branch.base;
        if class < branch.class() {
            base = self.allocate(class);
            self.words.copy_within(branch.base..end - 1, base);
            self.words[place] = (base / UNIT) as u32;
            self.release(branch);
        }
        self.words[base + 1] = bits;
    }

    /// The first word of a free branch of this class, with anything in it.
    fn allocate(&mut self, class: usize) -> usize {
        let link = self.free[class];
        if link == NONE {
            let base = self.words.len();
            self.words.resize(base + (class + 1) * UNIT, NONE);
            return base;
        }
        let base = link as usize * UNIT;
        self.free[class] = self.words[base];
        base
    }

    fn release(&mut self, branch: Branch) {
        self.words[branch.base] = self.free[branch.class()];
        self.free[branch.class()] = (branch.base / UNIT) as u32;
    }
}

// ---------------------------------------------------------------------------------------------------------------
// PUB, XPUB

/// A pipe's subscription as its topic's leaf lists it.
#[derive(Clone, Copy)]
struct Subscriber {
    /// The pipe's number in this matcher.
    slot: u32,
    /// Where the pipe's own list has it.
    at: u32,
}

/// A pipe's subscription as the pipe lists it.
#[derive(Clone, Copy)]
struct Held {
    leaf: u32,
    /// Where the leaf's list has it.
    at: u32,
}

/// Who subscribed to a topic. Nearly always one pipe, which then needs no allocation.
enum Subscribers {
    One(Subscriber),
    Many(Vec<Subscriber>),
}

impl Default for Subscribers {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Subscribers {
    #[inline]
    fn all(&self) -> &[Subscriber] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn all_mut(&mut self) -> &mut [Subscriber] {
        match self {
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    fn push(&mut self, new: Subscriber) {
        match self {
            Self::One(one) => *self = Self::Many(vec![*one, new]),
            Self::Many(many) if many.is_empty() => *self = Self::One(new),
            Self::Many(many) => many.push(new),
        }
    }

    /// Removes the one at `at`, where the last one then is.
    fn swap_remove(&mut self, at: u32) {
        match self {
            Self::One(_) => *self = Self::default(),
            Self::Many(many) => {
                many.swap_remove(at as usize);
                match many[..] {
                    [one] => *self = Self::One(one),
                    _ => shrink(many),
                }
            }
        }
    }
}

/// How many matching topics a match keeps; with more, it goes the way twice.
const MET: usize = 8;

/// Gives memory back after a list lost most of its entries, seldom enough to cost nothing per entry.
fn shrink<T>(list: &mut Vec<T>) {
    if list.len() < list.capacity() / 4 {
        list.shrink_to(list.len() * 2);
    }
}

/// Topics that pipes subscribed to, and which pipes get a message.
///
/// A pipe counts once per topic, however often it subscribes to it, as in libzmq. Keys that have subscriptions get
/// small numbers (slots), so that an entry takes 8 bytes in its topic and 8 with its pipe, whatever `K` is; the two
/// point at each other, so that either side is removed in constant time.
///
/// Memory: 64 bytes (leaf), 16 to 20 (branches) and 8 (the pipe's list) for each topic of up to 38 bytes, and what
/// vectors keep in reserve: measured 90 bytes in all at a million topics and up to 136 at other sizes. A longer topic
/// adds its length, and each further pipe on a topic 16 to 32 bytes.
///
/// `Send`, but not `Sync`: matching marks the pipes that it has found.
pub(super) struct Matcher<K> {
    trie: Trie<Subscribers>,
    slots: HashMap<K, u32>,
    /// By slot: whose it is. Stale for free slots.
    keys: Vec<K>,
    /// By slot: the last match that found it among several topics.
    marks: Vec<Cell<u64>>,
    /// By slot: its subscriptions. Empty for free slots, and for no others.
    held: Vec<Vec<Held>>,
    /// By slot: the bytes of those topics.
    bytes: Vec<usize>,
    free_slots: Vec<u32>,
    /// Counts matches of several topics; with 64 bits it does not come round.
    epoch: Cell<u64>,
    len: usize,
}

impl<K: Copy + Eq + Ord + Hash + fmt::Debug> Matcher<K> {
    /// One without subscriptions.
    pub(super) fn new() -> Self {
        Self {
            trie: Trie::new(),
            slots: HashMap::new(),
            keys: Vec::new(),
            marks: Vec::new(),
            held: Vec::new(),
            bytes: Vec::new(),
            free_slots: Vec::new(),
            epoch: Cell::new(0),
            len: 0,
        }
    }

    /// Subscribes `key` to what starts with `topic`. True if nobody was subscribed to this topic before (XPUB passes
    /// that on). A topic longer than [`TOPIC_MAX`] is not recorded: false.
    ///
    /// Costs O(topic length + branches below it), where the latter is the number of prefixes in use, and a search for
    /// the pair in the topic's pipes or in the pipe's topics, whichever are fewer.
    pub(super) fn subscribe(&mut self, topic: &[u8], key: K) -> bool {
        if topic.len() > TOPIC_MAX {
            return false;
        }
        let leaf = self.trie.find_or_insert(topic);
        let slot = self.slot(key);
        if self.position(leaf, slot).is_some() {
            return false;
        }
        let held = &mut self.held[slot as usize];
        let subscribers = &mut self.trie.leaves.at_mut(leaf).value;
        let before = subscribers.all().len();
        subscribers.push(Subscriber { slot, at: held.len() as u32 });
        held.push(Held { leaf, at: before as u32 });
        self.bytes[slot as usize] += topic.len();
        self.len += 1;
        before == 0
    }

    /// Ends the subscription of `key` to exactly this topic. True if nobody is subscribed to it any more; false also
    /// if there was no such subscription.
    ///
    /// Costs as much as [`Self::subscribe`].
    pub(super) fn cancel(&mut self, topic: &[u8], key: K) -> bool {
        let Some(&slot) = self.slots.get(&key) else { return false };
        let Some(leaf) = self.trie.find(topic) else { return false };
        let Some((in_leaf, in_held)) = self.position(leaf, slot) else { return false };
        self.bytes[slot as usize] -= topic.len();
        let held = &mut self.held[slot as usize];
        held.swap_remove(in_held as usize);
        shrink(held);
        if let Some(moved) = held.get(in_held as usize) {
            self.trie.leaves.at_mut(moved.leaf).value.all_mut()[moved.at as usize].at = in_held;
        }
        if held.is_empty() {
            self.release_slot(key, slot);
        }
        self.unlist(leaf, in_leaf).is_some()
    }

    /// Ends all subscriptions of `key`, which went away, and calls `gone` for each of their topics, in no particular order,
    /// with whether nobody is subscribed to it any more.
    ///
    /// Costs O(topic length) for each subscription of this key, and nothing for those of others.
    pub(super) fn remove_key(&mut self, key: K, gone: &mut dyn FnMut(&[u8], bool)) {
        let Some(&slot) = self.slots.get(&key) else { return };
        while let Some(held) = self.held[slot as usize].pop() {
            // Told before it goes, since the topic may go with it.
            let leaf = self.trie.leaves.at(held.leaf);
            gone(leaf.topic.bytes(), leaf.value.all().len() == 1);
            self.unlist(held.leaf, held.at);
        }
        self.release_slot(key, slot);
    }

    /// How many topics `key` is subscribed to, and their bytes.
    pub(super) fn held_by(&self, key: K) -> (usize, usize) {
        self.slots
            .get(&key)
            .map_or((0, 0), |&slot| (self.held[slot as usize].len(), self.bytes[slot as usize]))
    }

    /// Calls `found` once for each key that subscribed to a prefix of `data`, however many of its topics match, in no
    /// particular order. (If `found` itself matches again on this matcher, keys may come twice.)
    ///
    /// Costs O(branches on the way + length of the longest matching topic + subscriptions found): the way has at most
    /// two branches per byte of `data`, and 5 or 6 among a million random topics. If all subscribed to the empty topic
    /// only, there is no branch and no comparison, only the list.
    #[inline]
    pub(super) fn for_each_match(&self, data: &[u8], found: &mut impl FnMut(K)) {
        let mut met = [0; MET];
        let mut candidates = 0;
        let mut deepest = 0;
        self.trie.walk(data, |leaf| {
            if let Some(place) = met.get_mut(candidates) {
                *place = leaf;
            }
            candidates += 1;
            deepest = leaf;
            true
        });
        if candidates == 0 {
            return;
        }
        let deepest = self.trie.leaves.at(deepest);
        let topic = deepest.topic.bytes();
        let whole = data.starts_with(topic);
        if candidates == 1 {
            if whole {
                deepest.value.all().iter().for_each(|subscriber| found(self.keys[subscriber.slot as usize]));
            }
            return;
        }
        let common = if whole { topic.len() } else { common_prefix(topic, data) };
        let epoch = self.epoch.get() + 1;
        self.epoch.set(epoch);
        let mut report = |leaf| {
            let leaf = self.trie.leaves.at(leaf);
            if leaf.topic.bytes().len() > common {
                return false;
            }
            for subscriber in leaf.value.all() {
                if self.marks[subscriber.slot as usize].replace(epoch) != epoch {
                    found(self.keys[subscriber.slot as usize]);
                }
            }
            true
        };
        match met.get(..candidates) {
            Some(met) => {
                let _ = met.iter().all(|&leaf| report(leaf));
            }
            // The way is in the cache now, and keeping what may be thousands of candidates would need memory.
            None => self.trie.walk(data, report),
        }
    }

    /// Whether nobody is subscribed to anything.
    #[cfg(test)]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pairs of a topic and a key there are.
    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Calls `topic` for each topic that somebody is subscribed to, once, in no particular order.
    #[cfg(test)]
    pub(super) fn topics(&self, mut topic: impl FnMut(&[u8])) {
        self.trie.leaves.iter().for_each(|leaf| topic(leaf.topic.bytes()));
    }

    /// The slot of `key`; gives it one if it has none.
    fn slot(&mut self, key: K) -> u32 {
        match self.slots.entry(key) {
            hash_map::Entry::Occupied(entry) => *entry.get(),
            hash_map::Entry::Vacant(entry) => {
                if let Some(slot) = self.free_slots.pop() {
                    self.keys[slot as usize] = key;
                    return *entry.insert(slot);
                }
                self.keys.push(key);
                self.marks.push(Cell::new(0));
                self.held.push(Vec::new());
                self.bytes.push(0);
                *entry.insert((self.keys.len() - 1) as u32)
            }
        }
    }

    /// Forgets a key that has no subscription left, so that keys that come and go do not add up.
    fn release_slot(&mut self, key: K, slot: u32) {
        self.slots.remove(&key);
        self.held[slot as usize] = Vec::new();
        self.bytes[slot as usize] = 0;
        self.free_slots.push(slot);
    }

    /// Where the leaf's list has the slot, and where the slot's list has the leaf. Searches the shorter one.
    fn position(&self, leaf: u32, slot: u32) -> Option<(u32, u32)> {
        let subscribers = self.trie.leaves.at(leaf).value.all();
        let held = &self.held[slot as usize];
        if subscribers.len() <= held.len() {
            let at = subscribers.iter().position(|subscriber| subscriber.slot == slot)?;
            Some((at as u32, subscribers[at].at))
        } else {
            let at = held.iter().position(|held| held.leaf == leaf)?;
            Some((held[at].at, at as u32))
        }
    }

    /// Removes an entry from a leaf's list (the pipe's list no longer has it), and the leaf if that was the last.
    fn unlist(&mut self, leaf: u32, at: u32) -> Option<Leaf<Subscribers>> {
        self.len -= 1;
        let subscribers = &mut self.trie.leaves.at_mut(leaf).value;
        subscribers.swap_remove(at);
        if let Some(moved) = subscribers.all().get(at as usize) {
            self.held[moved.slot as usize][moved.at as usize].at = at;
        }
        subscribers.all().is_empty().then(|| self.trie.remove(leaf))
    }
}

impl<K: Copy + Eq + Ord + Hash + fmt::Debug> Default for Matcher<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Sizes only: there may be millions of topics.
impl<K> fmt::Debug for Matcher<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("topics", &self.trie.leaves.live)
            .field("keys", &self.slots.len())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

// ---------------------------------------------------------------------------------------------------------------
// SUB, XSUB

/// What [`SubscriptionSet::remove`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    /// The topic was not in the set.
    Unknown,
    /// It was added more often than it was removed.
    StillThere,
    /// It is not in the set any more.
    Last,
}

/// Topics that this socket subscribed to. Each counts how often it was added, and stays until removed as often.
pub(super) struct SubscriptionSet {
    trie: Trie<u64>,
}

impl SubscriptionSet {
    /// One without topics.
    pub(super) fn new() -> Self {
        Self { trie: Trie::new() }
    }

    /// Adds a topic once more. True if it was not in the set. One longer than [`TOPIC_MAX`] is not recorded: false.
    /// Costs as much as [`Matcher::subscribe`], without its search.
    pub(super) fn add(&mut self, topic: &[u8]) -> bool {
        if topic.len() > TOPIC_MAX {
            return false;
        }
        let leaf = self.trie.find_or_insert(topic);
        let count = &mut self.trie.leaves.at_mut(leaf).value;
        *count += 1;
        *count == 1
    }

    /// Removes a topic once. O(topic length).
    pub(super) fn remove(&mut self, topic: &[u8]) -> Removed {
        let Some(leaf) = self.trie.find(topic) else { return Removed::Unknown };
        let count = &mut self.trie.leaves.at_mut(leaf).value;
        *count -= 1;
        if *count > 0 {
            return Removed::StillThere;
        }
        self.trie.remove(leaf);
        Removed::Last
    }

    /// Whether a topic of the set is a prefix of `data`. Looks at one topic: the shortest that may match is a prefix
    /// of all others that may.
    #[inline]
    pub(super) fn matches(&self, data: &[u8]) -> bool {
        let mut shortest = None;
        self.trie.walk(data, |leaf| {
            shortest = Some(leaf);
            false
        });
        shortest.is_some_and(|leaf| data.starts_with(self.trie.leaves.at(leaf).topic.bytes()))
    }

    /// Whether there is no topic, so that nothing matches.
    #[cfg(test)]
    pub(super) const fn is_empty(&self) -> bool {
        self.trie.leaves.live == 0
    }

    /// How many different topics there are.
    pub(super) const fn len(&self) -> usize {
        self.trie.leaves.live
    }

    /// Calls `topic` for each topic, once, however often it was added, in no particular order.
    pub(super) fn topics(&self, mut topic: impl FnMut(&[u8])) {
        self.trie.leaves.iter().for_each(|leaf| topic(leaf.topic.bytes()));
    }
}

impl Default for SubscriptionSet {
    fn default() -> Self {
        Self::new()
    }
}

/// Sizes only: there may be millions of topics.
impl fmt::Debug for SubscriptionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionSet").field("topics", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
