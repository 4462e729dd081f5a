//! The pipe and the matcher alone, for the benches. Not part of the interface; no product calls it.

use transport_core::{Frame, Part};

pub use crate::pattern::bench::Topics;

use crate::queue::{Reader, Writer, queue};

/// Both ends of a pipe, in one hand: nobody ever sleeps, so nobody is woken.
#[derive(Debug)]
pub struct Pipe {
    writer: Writer<Frame>,
    reader: Reader<Frame>,
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
            self.writer.write(part.into_frame());
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
        let part = Part::from_frame(self.reader.read()?);
        self.reader.took_message(self.hwm);
        Some(part)
    }
}
