//! Packets that are ready to go: where each goes and where its bytes lie. Sends nothing.

#![forbid(unsafe_code)]

use crate::datagrams::To;
use crate::packet::Packet;

/// A batch. Packets of data stay where they lie in the transmit window; the bytes of the others are here.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    items: Vec<Item>,
    /// Of these, so many have gone.
    gone: usize,
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    to: To,
    in_window: bool,
    start: usize,
    len: usize,
}

impl Outgoing {
    /// Packets that have not gone.
    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.gone
    }

    fn clear(&mut self) {
        self.items.clear();
        self.control.clear();
        self.gone = 0;
    }

    /// Adds a packet that is not data. It has at most `room` bytes.
    pub(crate) fn control(&mut self, to: To, packet: &Packet<'_>, room: usize) {
        let start = self.control.len();
        self.control.resize(start + room, 0);
        // Control packets are made here, of a length known beforehand.
        let len = packet.encode(&mut self.control[start..]).unwrap_or_default();
        debug_assert!(len > 0, "{packet:?} has more than {room} bytes");
        self.control.truncate(start + len);
        self.items.push(Item { to, in_window: false, start, len });
    }

    pub(crate) fn window(&mut self, start: usize, len: usize) {
        self.items.push(Item { to: To::Group, in_window: true, start, len });
    }

    /// What has not gone, in order.
    pub(crate) fn iter<'a>(&'a self, window: &'a [u8]) -> impl ExactSizeIterator<Item = (To, &'a [u8])> {
        self.items[self.gone..].iter().map(move |item| {
            let memory = if item.in_window { window } else { &self.control };
            (item.to, &memory[item.start..item.start + item.len])
        })
    }

    /// So many more have gone. `left` hears where those lie that are in the window.
    pub(crate) fn gone(&mut self, packets: usize, mut left: impl FnMut(usize)) {
        let end = (self.gone + packets).min(self.items.len());
        self.items[self.gone..end].iter().filter(|item| item.in_window).for_each(|item| left(item.start));
        self.gone = end;
        if self.gone == self.items.len() {
            self.clear();
        }
    }
}
