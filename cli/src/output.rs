//! Received messages on standard output. Receives nothing.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use fabriq::{Frame, Message};
use rustix::event::{PollFd, PollFlags};
use serde::Serialize;

use crate::failure::Failure;

/// How messages are printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Format {
    /// Print the bytes alone: no tab between parts, no newline behind a message, nothing escaped
    #[arg(long, short, conflicts_with = "json")]
    raw: bool,

    /// Print one JSON object per line: {"parts": ["text", {"hex": "00ff"}]}, hex where a part is no UTF-8
    #[arg(long)]
    json: bool,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Printer {
    out: BufWriter<File>,
    format: Format,
    escape: bool,
    pipe: bool,
}

#[derive(Serialize)]
struct JsonMessage<'a> {
    parts: Vec<JsonPart<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonPart<'a> {
    Text(&'a str),
    Bytes { hex: String },
}

impl Printer {
    /// Standard output in `format`.
    pub(crate) fn new(format: Format) -> Result<Self, Failure> {
        let stdout = io::stdout();
        // Not through `Stdout`, which flushes at every newline.
        let file = File::from(stdout.as_fd().try_clone_to_owned().map_err(|error| Failure::output(&error))?);
        let pipe =
            file.metadata().is_ok_and(|meta| meta.file_type().is_fifo() || meta.file_type().is_socket());
        Ok(Self { out: BufWriter::with_capacity(64 << 10, file), format, escape: stdout.is_terminal(), pipe })
    }

    /// Prints a message, into the buffer at first.
    pub(crate) fn print(&mut self, message: &Message) -> Result<(), Failure> {
        self.write(message).map_err(|error| Failure::output(&error))
    }

    fn write(&mut self, message: &Message) -> io::Result<()> {
        if self.format.json {
            serde_json::to_writer(
                &mut self.out,
                &JsonMessage { parts: message.parts().map(json_part).collect() },
            )?;
            return self.out.write_all(b"\n");
        }
        for (index, part) in message.parts().enumerate() {
            if index > 0 && !self.format.raw {
                self.out.write_all(b"\t")?;
            }
            if self.escape && !self.format.raw {
                // What a stranger sends must not drive the user's terminal.
                self.out.write_all(printable(part).as_bytes())?;
            } else {
                self.out.write_all(part)?;
            }
        }
        if self.format.raw { Ok(()) } else { self.out.write_all(b"\n") }
    }

    /// Makes everything printed so far visible: before a wait, and at the end.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    /// What to poll to learn that nobody reads any more (`head` has gone); only pipes tell.
    pub(crate) fn closing(&self) -> Option<PollFd<'_>> {
        self.pipe.then(|| PollFd::new(self.out.get_ref(), PollFlags::empty()))
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // On the way out after an error; there is nobody left to tell.
        let _ = self.out.flush();
    }
}

fn json_part(part: &Frame) -> JsonPart<'_> {
    match std::str::from_utf8(part) {
        Ok(text) => JsonPart::Text(text),
        Err(_) => JsonPart::Bytes { hex: part.iter().map(|byte| format!("{byte:02x}")).collect() },
    }
}

/// Text with everything escaped that could move a cursor.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' => text.push(c),
                c if c.is_control() => text.extend(c.escape_default()),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_get_no_control_characters() {
        assert_eq!(printable(b"a\tb\x1b[2J\xff\xc3\xa4"), "a\tb\\u{1b}[2J\\xffä");
    }

    #[test]
    fn json_has_text_or_hex() {
        let parts = ["a\"\n".into(), Frame::from(b"\x00\xff")];
        let text =
            serde_json::to_string(&JsonMessage { parts: parts.iter().map(json_part).collect() }).unwrap();
        assert_eq!(text, r#"{"parts":["a\"\n",{"hex":"00ff"}]}"#);
    }
}
