//! Which links are read on the off chance, without asking epoll first: a policy, pure. Reads nothing.
//!
//! To guess right saves a system call, and to guess wrong costs one. While a few links do all the talking, those that spoke
//! last are the right guess. Where any of many may speak next no guess is, and each would only keep epoll waiting; so a score
//! of how often somebody spoke who had spoken lately decides whether to guess at all.

use transport_core::LinkId;

use crate::limits::{HOT_MAX, HOT_MISSES_MAX, HOT_SCORE_MAX, LOOK_EVERY};

#[derive(Debug)]
struct Hot {
    link: LinkId,
    misses: u32,
}

/// The links that spoke lately.
#[derive(Debug)]
pub(crate) struct HotLinks {
    hot: Vec<Hot>,
    /// Above 0: they mostly were the ones that spoke next.
    score: i32,
    /// Whose place the next one takes when all have spoken lately and no guess is right.
    oldest: usize,
}

impl HotLinks {
    pub(crate) fn new() -> Self {
        Self { hot: Vec::with_capacity(HOT_MAX), score: 0, oldest: 0 }
    }

    /// Whether there is anybody to guess.
    pub(crate) fn guesses(&self) -> bool {
        self.score >= 0 && !self.hot.is_empty()
    }

    /// The guess at a place, from 0 on.
    pub(crate) fn at(&self, place: usize) -> Option<LinkId> {
        self.hot.get(place).map(|hot| hot.link)
    }

    /// What came of the guess at a place. Whether the link keeps that place; if not, another one has it.
    pub(crate) fn guessed(&mut self, place: usize, spoke: bool, lives: bool) -> bool {
        let Some(hot) = self.hot.get_mut(place) else { return false };
        if spoke {
            hot.misses = 0;
            self.score = HOT_SCORE_MAX.min(self.score + 1);
        } else {
            hot.misses += 1;
        }
        let stays = lives && hot.misses <= HOT_MISSES_MAX;
        if !stays {
            self.hot.swap_remove(place);
        }
        stays
    }

    /// A link spoke without having been guessed.
    pub(crate) fn spoke(&mut self, link: LinkId) {
        if let Some(hot) = self.hot.iter_mut().find(|hot| hot.link == link) {
            hot.misses = 0;
            self.score = HOT_SCORE_MAX.min(self.score + 1);
            return;
        }
        self.score = (-HOT_SCORE_MAX).max(self.score - 1);
        let new = Hot { link, misses: 0 };
        if self.hot.len() < HOT_MAX {
            self.hot.push(new);
        } else if !self.guesses() {
            self.oldest = (self.oldest + 1) % HOT_MAX;
            self.hot[self.oldest] = new;
        } else if let Some(cold) = self.hot.iter_mut().max_by_key(|hot| hot.misses)
            && cold.misses >= LOOK_EVERY
        {
            *cold = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use transport_core::{Slab, SlabKey};

    use super::*;

    fn links(count: usize) -> Vec<LinkId> {
        let mut slab: Slab<SlabKey, ()> = Slab::new();
        (0..count).map(|_| slab.insert(()).into()).collect()
    }

    /// As the driver does it: guesses while it may, and else is told who spoke. How many were guessed.
    fn listen(hot: &mut HotLinks, speakers: impl IntoIterator<Item = LinkId>) -> usize {
        let mut right = 0;
        for speaker in speakers {
            let mut guessed = false;
            let mut place = 0;
            while hot.guesses()
                && let Some(link) = hot.at(place)
            {
                guessed |= link == speaker;
                place += usize::from(hot.guessed(place, link == speaker, true));
            }
            if !guessed {
                hot.spoke(speaker);
            }
            right += usize::from(guessed);
        }
        right
    }

    #[test]
    fn a_few_that_talk_are_guessed() {
        for count in 1..=HOT_MAX {
            let (links, mut hot) = (links(count), HotLinks::new());
            let spoken = (0..1000).map(|at| links[at % count]);
            assert!(listen(&mut hot, spoken) > 1000 - 4 * HOT_MAX, "{count} links");
        }
    }

    #[test]
    fn where_anybody_may_speak_nobody_is_guessed() {
        let (links, mut hot) = (links(100), HotLinks::new());
        let mut state = 1_u64;
        let mut any = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            links[(state >> 33) as usize % links.len()]
        };
        listen(&mut hot, (0..100).map(|_| any()));
        assert!(!hot.guesses());
        // And when one of them does all the talking again, it is found out soon.
        let right = listen(&mut hot, std::iter::repeat_n(links[7], 1000));
        assert!(right > 1000 - 2 * HOT_SCORE_MAX as usize, "{right} of 1000");
    }

    #[test]
    fn who_falls_silent_or_leaves_is_forgotten() {
        let (links, mut hot) = (links(2), HotLinks::new());
        listen(&mut hot, [links[0], links[0], links[1], links[1]]);
        assert!(hot.guesses());
        assert!(!hot.guessed(0, false, false), "it has gone");
        assert_eq!(hot.at(0), Some(links[1]));
        for miss in 0..=HOT_MISSES_MAX {
            assert_eq!(hot.guessed(0, false, true), miss < HOT_MISSES_MAX);
        }
        assert!(!hot.guesses());
    }
}
