//! Tests of the matcher: models under seeded random steps, and its size. Not for production.

use super::*;

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    /// Topics of few different bytes, so that they share prefixes, are prefixes of each other, and come again.
    fn topic(&mut self) -> Vec<u8> {
        const FEW: [u8; 6] = [0, 1, 0x10, 0x7f, 0xff, b'.'];
        match self.below(20) {
            0 => Vec::new(),
            // Around the length that fits in a leaf, and far beyond.
            1 => vec![b'x'; INLINE_MAX - 2 + self.below(5)],
            2 => [&vec![0xff; 500 + self.below(3)][..], &[self.next() as u8 & 3]].concat(),
            3 => vec![self.next() as u8],
            4 => vec![b'a', self.next() as u8],
            5 => format!("{}.{}.{}", self.below(3), self.below(12), self.below(3)).into_bytes(),
            _ => {
                let length = self.below(6);
                (0..length).map(|_| FEW[self.below(FEW.len())]).collect()
            }
        }
    }
}

fn matches(matcher: &Matcher<u64>, data: &[u8]) -> Vec<u64> {
    let mut keys = Vec::new();
    matcher.for_each_match(data, &mut |key| keys.push(key));
    keys.sort_unstable();
    keys
}

fn topics(matcher: &Matcher<u64>) -> Vec<Vec<u8>> {
    let mut topics = Vec::new();
    matcher.topics(|topic| topics.push(topic.to_vec()));
    topics.sort_unstable();
    topics
}

/// Everything that is said twice agrees, and branches are as the comment above the trie says.
fn check<V: Default>(trie: &Trie<V>) {
    let mut leaves = 0;
    let mut waiting = vec![trie.words[0]];
    let mut used = UNIT;
    while let Some(link) = waiting.pop() {
        if link == NONE {
            continue;
        }
        if link & LEAF != 0 {
            leaves += 1;
            let topic = trie.leaves.at(link & !LEAF).topic.bytes();
            assert_eq!(trie.find(topic), Some(link & !LEAF));
            continue;
        }
        let branch = trie.branch(link);
        assert!(branch.links() >= 2 && branch.links() <= room(branch.class()));
        assert!(branch.depth.is_multiple_of(2) || !branch.has(END));
        used += (branch.class() + 1) * UNIT;
        let links = branch.base + HEAD..branch.base + HEAD + branch.links();
        for &link in &trie.words[links] {
            assert!(link & LEAF != 0 || trie.branch(link).depth > branch.depth);
            waiting.push(link);
        }
    }
    assert_eq!(leaves, trie.leaves.live);
    assert_eq!(leaves, trie.leaves.iter().count());
    for class in 0..CLASSES {
        let mut link = trie.free[class];
        while link != NONE {
            used += (class + 1) * UNIT;
            link = trie.words[link as usize * UNIT];
        }
    }
    assert_eq!(used, trie.words.len(), "every word is in use or free");
}

fn check_matcher(matcher: &Matcher<u64>) {
    check(&matcher.trie);
    let mut pairs = 0;
    for (&key, &slot) in &matcher.slots {
        assert_eq!(matcher.keys[slot as usize], key);
        let held = &matcher.held[slot as usize];
        assert!(!held.is_empty());
        for (at, held) in held.iter().enumerate() {
            let subscriber = matcher.trie.leaves.at(held.leaf).value.all()[held.at as usize];
            assert_eq!((subscriber.slot, subscriber.at as usize), (slot, at));
            pairs += 1;
        }
    }
    assert_eq!(pairs, matcher.len());
    assert_eq!(pairs, matcher.trie.leaves.iter().map(|leaf| leaf.value.all().len()).sum::<usize>());
    assert_eq!(matcher.slots.len() + matcher.free_slots.len(), matcher.keys.len());
}

#[test]
fn sizes() {
    assert_eq!(size_of::<Leaf<Subscribers>>(), 64);
    assert_eq!(size_of::<Leaf<u64>>(), 64);
    for links in 2..=17 {
        let class = class_for(links);
        assert!(class < CLASSES && room(class) >= links);
        assert!(class == 0 || room(class - 1) < links);
    }
}

#[test]
fn first_and_last_subscriber_of_a_topic() {
    let mut matcher = Matcher::new();
    assert!(matcher.is_empty());
    assert!(matcher.subscribe(b"a", 1));
    assert!(!matcher.subscribe(b"a", 1), "twice counts once");
    assert!(!matcher.subscribe(b"a", 2));
    assert!(matcher.subscribe(b"ab", 2));
    assert_eq!(matcher.len(), 3);
    assert_eq!(matches(&matcher, b"abc"), [1, 2], "two matching topics of a key count once");
    assert_eq!(matches(&matcher, b""), []);
    assert!(!matcher.cancel(b"a", 3), "no such key");
    assert!(!matcher.cancel(b"abc", 1), "no such topic");
    assert!(!matcher.cancel(b"ab", 1), "the topic is another's");
    assert!(!matcher.cancel(b"a", 1));
    assert!(!matcher.cancel(b"a", 1), "twice counted once");
    assert!(matcher.cancel(b"a", 2));
    assert_eq!(matches(&matcher, b"a"), []);
    assert_eq!(matches(&matcher, b"ab"), [2]);
    assert!(matcher.cancel(b"ab", 2));
    assert!(matcher.is_empty());
    check_matcher(&matcher);
}

#[test]
fn empty_topic_matches_everything() {
    let mut matcher = Matcher::new();
    assert!(matcher.subscribe(b"", 7));
    assert!(!matcher.subscribe(b"", 8));
    assert_eq!(matches(&matcher, b""), [7, 8]);
    assert_eq!(matches(&matcher, b"\0\xff"), [7, 8]);
    assert!(matcher.subscribe(b"\0", 7));
    assert_eq!(matches(&matcher, b"\0\xff"), [7, 8]);
    assert_eq!(matches(&matcher, b"\x01"), [7, 8]);
    let mut gone = Vec::new();
    matcher.remove_key(7, &mut |topic, last| gone.push((topic.to_vec(), last)));
    gone.sort();
    assert_eq!(gone, [(b"".to_vec(), false), (b"\0".to_vec(), true)]);
    matcher.remove_key(7, &mut |_, _| panic!("it is gone already"));
    assert_eq!(matches(&matcher, b"\0"), [8]);
}

#[test]
fn a_topic_skipped_by_branches_is_compared() {
    let mut matcher = Matcher::new();
    matcher.subscribe(b"news", 1);
    matcher.subscribe(b"news.sport", 2);
    matcher.subscribe(b"news.sport.chess", 3);
    matcher.subscribe(b"news.spare", 4);
    assert_eq!(matches(&matcher, b"news.sport.chess!"), [1, 2, 3]);
    assert_eq!(matches(&matcher, b"news.sPort.chess!"), [1]);
    assert_eq!(matches(&matcher, b"new!.sport.chess!"), []);
    assert_eq!(matches(&matcher, b"news.sport.ch"), [1, 2]);
    assert_eq!(matches(&matcher, b"new"), []);
}

#[test]
fn a_peer_that_subscribes_to_every_prefix_of_a_long_topic() {
    let long: Vec<u8> = (0..6_000u32).map(|i| ((i * i) >> 3) as u8).collect();
    let mut matcher = Matcher::new();
    let mut set = SubscriptionSet::new();
    for end in 0..long.len() {
        assert!(matcher.subscribe(&long[..end], (end % 3) as u64));
    }
    let huge = vec![0xaa; 4 << 20];
    assert!(matcher.subscribe(&huge, 9) && set.add(&huge));
    assert_eq!(matches(&matcher, &long), [0, 1, 2]);
    assert_eq!(matches(&matcher, &huge), [0, 9]);
    assert!(set.matches(&huge) && !set.matches(&huge[1..]));
    assert_eq!(matches(&matcher, &long[..2]), [0, 1, 2]);
    for key in 0..3 {
        let mut gone = 0;
        matcher.remove_key(key, &mut |_, last| gone += usize::from(last));
        assert!(gone >= long.len() / 3);
    }
    assert_eq!(topics(&matcher), [huge]);
    matcher.remove_key(9, &mut |_, _| {});
    assert!(matcher.is_empty());
    check_matcher(&matcher);
    assert_eq!(matcher.trie.words.len(), UNIT, "a large arena is given back");
    assert!(matcher.subscribe(b"again", 1));
}

#[test]
fn many_pipes_on_one_topic_come_and_go() {
    let mut matcher = Matcher::new();
    for key in 0..10_000 {
        assert_eq!(matcher.subscribe(b"", key), key == 0);
    }
    assert_eq!(matches(&matcher, b"x"), (0..10_000).collect::<Vec<_>>());
    for key in 0..10_000 {
        if key % 2 == 0 {
            matcher.remove_key(key, &mut |_, last| assert!(!last, "others remain"));
        } else {
            assert_eq!(matcher.cancel(b"", key), key == 9_999);
        }
    }
    check_matcher(&matcher);
    matcher.subscribe(b"", 1);
    assert_eq!(matcher.keys.len(), 10_000, "slots are used again");
}

#[test]
fn matching_while_matching() {
    let mut matcher = Matcher::new();
    matcher.subscribe(b"", 1);
    matcher.subscribe(b"a", 2);
    let mut outer = Vec::new();
    matcher.for_each_match(b"a", &mut |key| {
        outer.push(key);
        assert_eq!(matches(&matcher, b"a"), [1, 2]);
    });
    assert_eq!(outer, [1, 2]);
}

#[test]
fn matcher_agrees_with_a_list() {
    for seed in 1..=40u64 {
        let mut random = XorShift(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut matcher = Matcher::new();
        let mut model: Vec<(Vec<u8>, u64)> = Vec::new();
        let keys = 1 + random.below(8);
        for step in 0..2_000 {
            let (topic, key) = (random.topic(), random.below(keys) as u64);
            let known = |model: &[(Vec<u8>, u64)]| model.iter().any(|(other, _)| *other == topic);
            // Seeds differ in how much they let the matcher fill up.
            match random.below(100) {
                0..50 => {
                    assert_eq!(matcher.subscribe(&topic, key), !known(&model));
                    if !model.contains(&(topic.clone(), key)) {
                        model.push((topic, key));
                    }
                }
                n if n < 60 + seed as usize => {
                    let there = model.iter().position(|pair| *pair == (topic.clone(), key));
                    if let Some(at) = there {
                        model.swap_remove(at);
                    }
                    assert_eq!(matcher.cancel(&topic, key), there.is_some() && !known(&model));
                }
                99 if step % 3 == 0 => {
                    let mut gone = Vec::new();
                    matcher.remove_key(key, &mut |topic, last| gone.extend(last.then(|| topic.to_vec())));
                    let (left, went): (Vec<_>, Vec<_>) = model.into_iter().partition(|pair| pair.1 != key);
                    model = left;
                    let mut expected: Vec<_> = went.into_iter().map(|pair| pair.0).collect();
                    expected.retain(|topic| model.iter().all(|(other, _)| other != topic));
                    gone.sort_unstable();
                    expected.sort_unstable();
                    assert_eq!(gone, expected);
                }
                _ => {
                    let mut data = topic;
                    data.extend(random.topic());
                    if random.below(3) == 0 && !data.is_empty() {
                        let at = random.below(data.len());
                        data[at] ^= 1 << random.below(8);
                    }
                    let prefixes = model.iter().filter(|(topic, _)| data.starts_with(topic));
                    let mut expected: Vec<_> = prefixes.map(|pair| pair.1).collect();
                    expected.sort_unstable();
                    expected.dedup();
                    assert_eq!(matches(&matcher, &data), expected, "{data:?}");
                }
            }
            assert_eq!((matcher.len(), matcher.is_empty()), (model.len(), model.is_empty()));
            if step % 50 == 0 {
                check_matcher(&matcher);
                let mut expected: Vec<_> = model.iter().map(|pair| pair.0.clone()).collect();
                expected.sort_unstable();
                expected.dedup();
                assert_eq!(topics(&matcher), expected);
            }
        }
    }
}

#[test]
fn set_agrees_with_a_list() {
    for seed in 1..=40u64 {
        let mut random = XorShift(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut set = SubscriptionSet::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for step in 0..2_000 {
            let topic = random.topic();
            match random.below(100) {
                0..30 => {
                    assert_eq!(set.add(&topic), !model.contains(&topic));
                    model.push(topic);
                }
                30..70 => {
                    let there = model.iter().position(|other| *other == topic);
                    let expected = match there {
                        None => Removed::Unknown,
                        Some(at) => {
                            model.swap_remove(at);
                            if model.contains(&topic) { Removed::StillThere } else { Removed::Last }
                        }
                    };
                    assert_eq!(set.remove(&topic), expected);
                }
                _ => assert_eq!(set.matches(&topic), model.iter().any(|other| topic.starts_with(other))),
            }
            if step % 50 == 0 {
                check(&set.trie);
                let mut expected = model.clone();
                expected.sort_unstable();
                expected.dedup();
                let mut topics = Vec::new();
                set.topics(|topic| topics.push(topic.to_vec()));
                topics.sort_unstable();
                assert_eq!(topics, expected);
                assert_eq!((set.len(), set.is_empty()), (expected.len(), expected.is_empty()));
            }
        }
    }
}
