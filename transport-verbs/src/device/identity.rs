//! The 64 bits that go with a work request and come back with its completion: which queue, whose, and which request of
//! it.

/// Which queue a request was posted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    Send,
    Receive,
    Shared,
}

/// What a completion is about. 2 bits of queue, 30 of the owner's cookie, 32 of a number: of the request in a queue
/// pair's queues, of the slot in a shared one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) queue: Queue,
    pub(super) cookie: u32,
    pub(super) number: u32,
}

/// Cookies have so many bits.
pub(super) const COOKIE_BITS: u32 = 30;

impl Identity {
    pub(super) const fn to_word(self) -> u64 {
        let queue = match self.queue {
            Queue::Send => 1,
            Queue::Receive => 2,
            Queue::Shared => 3,
        };
        queue << 62 | (self.cookie as u64) << 32 | self.number as u64
    }

    /// `None` for a word that was never given to a device.
    pub(super) const fn from_word(word: u64) -> Option<Self> {
        let queue = match word >> 62 {
            1 => Queue::Send,
            2 => Queue::Receive,
            3 => Queue::Shared,
            _ => return None,
        };
        Some(Self { queue, cookie: (word >> 32) as u32 & ((1 << COOKIE_BITS) - 1), number: word as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_survive() {
        for queue in [Queue::Send, Queue::Receive, Queue::Shared] {
            for cookie in [0, 1, (1 << COOKIE_BITS) - 1] {
                for number in [0, 7, u32::MAX] {
                    let identity = Identity { queue, cookie, number };
                    assert_eq!(Identity::from_word(identity.to_word()), Some(identity));
                }
            }
        }
        assert_eq!(Identity::from_word(0), None);
    }
}
