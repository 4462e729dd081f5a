//! Messages to send: from arguments, or from standard input by line or whole. Sends nothing.

use std::ffi::OsString;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStringExt;

use fabriq::{Frame, Message};

use crate::failure::Failure;

/// Where messages come from.
#[derive(Debug, clap::Args)]
pub(crate) struct Input {
    /// The messages, one per argument; without any, standard input has one per line
    #[arg(value_name = "MESSAGE")]
    messages: Vec<OsString>,

    /// All arguments are the parts of one message; in lines of standard input, tabs separate the parts
    #[arg(long, short)]
    part: bool,

    /// All of standard input is one message
    #[arg(long, short, conflicts_with_all = ["messages", "part"])]
    whole: bool,

    /// Stop after so many messages; arguments are repeated to reach it
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

/// The source of one run.
#[derive(Debug)]
enum Source {
    Arguments(Vec<Message>),
    Lines(io::StdinLock<'static>),
    Whole,
}

impl Input {
    /// The messages, one by one as they are there.
    pub(crate) fn messages(self) -> impl Iterator<Item = Result<Message, Failure>> {
        let Self { messages, part, whole, count } = self;
        let mut left = count.unwrap_or(match messages.is_empty() {
            true => u64::MAX,
            false if part => 1,
            false => messages.len() as u64,
        });
        let arguments = messages.into_iter().map(OsString::into_vec);
        let arguments: Vec<Message> = if part {
            Message::from_parts(arguments).into_iter().collect()
        } else {
            arguments.map(Message::new).collect()
        };
        let mut source = match arguments.is_empty() {
            true if whole => Source::Whole,
            true => Source::Lines(io::stdin().lock()),
            false => Source::Arguments(arguments),
        };
        let mut next = 0;
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            match &mut source {
                Source::Arguments(messages) => {
                    let message = messages[next].clone();
                    next = (next + 1) % messages.len();
                    Some(Ok(message))
                }
                Source::Lines(lines) => read_line(lines, part).transpose(),
                Source::Whole => {
                    left = 0;
                    let mut all = Vec::new();
                    Some(
                        io::stdin()
                            .lock()
                            .read_to_end(&mut all)
                            .map(|_| all.into())
                            .map_err(|e| unreadable(&e)),
                    )
                }
            }
        })
    }
}

fn read_line(input: &mut impl BufRead, split: bool) -> Result<Option<Message>, Failure> {
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line).map_err(|error| unreadable(&error))? == 0 {
        return Ok(None);
    }
    line.pop_if(|last| *last == b'\n');
    Ok(if split {
        Message::from_parts(line.split(|&byte| byte == b'\t').map(Frame::from))
    } else {
        Some(line.into())
    })
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot read standard input: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(messages: &[&str], part: bool, count: Option<u64>) -> Vec<Message> {
        let messages = messages.iter().map(OsString::from).collect();
        let input = Input { messages, part, whole: false, count };
        input.messages().map(|message| message.unwrap()).collect()
    }

    #[test]
    fn arguments_are_messages_or_parts_and_repeat() {
        let both = Message::from_parts(["a", "b"]).unwrap();
        assert_eq!(input(&["a", "b"], false, None), ["a".into(), "b".into()]);
        assert_eq!(input(&["a", "b"], false, Some(3)), ["a".into(), "b".into(), "a".into()]);
        assert_eq!(input(&["a", "b"], true, None).len(), 1);
        assert_eq!(input(&["a", "b"], true, Some(2)), [both.clone(), both]);
        assert!(input(&["a"], false, Some(0)).is_empty());
    }

    #[test]
    fn lines_end_with_or_without_a_newline() {
        let mut text = &b"a\tb\n\nlast"[..];
        let mut next = |split| read_line(&mut text, split).unwrap();
        assert_eq!(next(true), Message::from_parts(["a", "b"]));
        assert_eq!(next(false), Some("".into()));
        assert_eq!(next(false), Some("last".into()));
        assert_eq!(next(false), None);
    }
}
