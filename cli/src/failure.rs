//! How the program fails: a text on stderr and an exit code. Knows no subcommand.

use std::io;
use std::process::ExitCode;

use fabriq::{Error, OpenError, SendError};

/// Why a subcommand did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong.
    Failed(String),
    /// The arguments make no sense, or the URL cannot.
    Usage(String),
    /// Nothing came or went in the time allowed.
    TimedOut(String),
    /// Data arrived damaged, out of order or not at all.
    Corrupt(String),
    /// A benchmark got slower.
    Slower(String),
    /// Whoever read our output has gone, as `head` does when it has enough. Not an error.
    OutputClosed,
}

impl Failure {
    /// Says it on stderr; the process's exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (text, code) = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Failed(text) => (text, 1),
            Self::Usage(text) => (text, 2),
            Self::TimedOut(text) => (text, 3),
            Self::Corrupt(text) => (text, 4),
            Self::Slower(text) => (text, 5),
        };
        note(&format!("error: {text}"));
        ExitCode::from(code)
    }

    /// The same, with what to do about it.
    pub(crate) fn with(self, remedy: &str) -> Self {
        let add = |text: String| format!("{text}; {remedy}");
        match self {
            Self::Failed(text) => Self::Failed(add(text)),
            Self::Usage(text) => Self::Usage(add(text)),
            Self::TimedOut(text) => Self::TimedOut(add(text)),
            Self::Corrupt(text) => Self::Corrupt(add(text)),
            Self::Slower(text) => Self::Slower(add(text)),
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    /// The text alone.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Failed(text)
            | Self::Usage(text)
            | Self::TimedOut(text)
            | Self::Corrupt(text)
            | Self::Slower(text) => text,
            Self::OutputClosed => "the output was closed".to_owned(),
        }
    }

    /// An output that failed; quiet when nobody reads any more.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Failed(format!("cannot write to standard output: {error}; is the disk full?")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        let names_something_wrong = |error: &OpenError| {
            matches!(
                error,
                OpenError::BadEndpoint(_)
                    | OpenError::BadAddress { .. }
                    | OpenError::Incompatible { .. }
                    | OpenError::UnknownScheme { .. }
            )
        };
        match error {
            Error::Again => Self::TimedOut(text),
            Error::Open(error) if names_something_wrong(&error) => Self::Usage(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<SendError> for Failure {
    fn from(not_sent: SendError) -> Self {
        not_sent.error.into()
    }
}

/// One line on stderr. A closed stderr is nobody's problem.
pub(crate) fn note(text: &str) {
    use io::Write;
    let _ = writeln!(io::stderr(), "fabriq: {text}");
}
