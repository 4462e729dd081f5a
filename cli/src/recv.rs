//! `fabriq recv`: messages into a PULL socket and out on standard output. Sends nothing.

use std::time::{Duration, Instant};

use fabriq::{Error, PollItem, SocketType, poll, poll_with_fds};

use crate::failure::Failure;
use crate::output::{Format, Printer};
use crate::wire::{Connection, Wire};

const EXAMPLES: &str = "\
Examples:
  fabriq recv --bind 'tcp://*:5555'                     prints a line per message until Ctrl-C
  fabriq recv -n 1 --raw tcp://host:5555 > image.png    one message, byte by byte
  fabriq recv --timeout 5s --bind tcp://127.0.0.1:5555  ends after five silent seconds

The other end is a PUSH socket: `fabriq send`, or any ZeroMQ program. Parts of a message are separated by tabs. \
With --timeout, exit code 3 says that nothing came, or less than --count.";

/// Receive messages from a pipeline (PULL) and print them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,
    #[command(flatten)]
    format: Format,

    /// Stop after so many messages
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let connection = args.wire.open(SocketType::Pull, |options| take_no_more_than(options, args.count))?;
    print_messages(&connection, args.format, args.count)
}

/// Messages taken from peers beyond `count` would be lost with this process, so it takes few ahead. And there is
/// nothing to linger for.
pub(crate) fn take_no_more_than(options: &mut fabriq::Options, count: Option<u64>) {
    options.linger = Some(Duration::ZERO);
    let ahead = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(u32::MAX).max(1);
    options.receive_hwm = options.receive_hwm.min(ahead);
}

/// Prints what comes until there were `count`, or silence for the time-out, or nobody reads the output any more.
pub(crate) fn print_messages(
    connection: &Connection,
    format: Format,
    count: Option<u64>,
) -> Result<(), Failure> {
    let mut printer = Printer::new(format)?;
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        match connection.socket.try_recv() {
            Ok(message) => {
                printer.print(&message)?;
                printed += 1;
            }
            Err(Error::Again) => {
                printer.flush()?;
                if !wait(connection, &printer)? {
                    return match count {
                        None if printed > 0 => Ok(()),
                        _ => {
                            Err(connection
                                .timed_out("no message came", connection.timeout().unwrap_or_default()))
                        }
                    };
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    printer.flush()
}

/// `false`: nothing came in time.
fn wait(connection: &Connection, printer: &Printer) -> Result<bool, Failure> {
    let deadline = connection.timeout().and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let mut items = [PollItem::readable(&connection.socket)];
        let ready = match printer.closing() {
            None => poll(&mut items, left),
            Some(closing) => {
                let mut fds = [closing];
                let ready = poll_with_fds(&mut items, &mut fds, left);
                if !fds[0].revents().is_empty() {
                    return Err(Failure::OutputClosed);
                }
                ready
            }
        };
        match ready {
            Err(Error::Interrupted) => {}
            ready => return Ok(ready? > 0),
        }
    }
}
