//! The matcher alone, for the benches. Not part of the interface; no product calls it.

use super::PipeId;
use super::matcher::Matcher;

/// Topics that pipes subscribed to.
#[derive(Debug, Default)]
pub struct Topics(Matcher<PipeId>);

impl Topics {
    /// Subscribes a pipe to what starts with `topic`.
    pub fn subscribe(&mut self, topic: &[u8], pipe: u64) {
        self.0.subscribe(topic, PipeId(pipe));
    }

    /// Calls `found` with each pipe that gets a message which starts with `data`.
    #[inline]
    pub fn for_each_match(&self, data: &[u8], found: &mut impl FnMut(u64)) {
        self.0.for_each_match(data, &mut |PipeId(pipe)| found(pipe));
    }
}
