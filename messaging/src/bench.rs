//! The pipe and the matcher alone, for the benches. Not part of the interface; no product calls it.

use transport_core::Part;

pub use crate::pattern::bench::Topics;

use crate::queue::{Read, Reader, Writer, queue};

/// Both ends of a pipe, in one hand: nobody ever sleeps, so nobody is woken.
#[derive(Debug)]
pub struct Pipe {
    writer: Writer<Part>,
    reader: Reader<Part>,
    hwm: u64,
}

impl Pipe {
    /// An empty one with a mark of `hwm` messages.
    #[must_use]
    pub fn new(hwm: u64) -> Self {
        let (writer, reader) = queue();
        Self { writer, reader, hwm }
    }

    /// Writes a message of one part, which the reader does not see yet. `false`: the mark is reached.
    #[inline]
    pub fn write(&mut self, part: Part) -> bool {
        let room = self.writer.room(self.hwm) > 0;
        if room {
            self.writer.write(part);
            self.writer.end_message();
        }
        room
    }

    /// Makes everything written visible. `true`: the reader slept.
    #[inline]
    pub fn publish(&mut self) -> bool {
        self.writer.publish()
    }

    /// Takes the next message. `None`: there is none, and the reader sleeps.
    #[inline]
    pub fn read(&mut self) -> Option<Part> {
        let Read::Value(part) = self.reader.read() else { return None };
        self.reader.took_message(self.hwm);
        Some(part)
    }
}
