//! `fabriq sub`: published messages on standard output. Publishes nothing.

use crate::failure::Failure;
use crate::output::Format;
use crate::recv::{print_messages, take_no_more_than};
use crate::wire::Wire;

const EXAMPLES: &str = "\
Examples:
  fabriq sub tcp://host:5556                       everything, a line per message, until Ctrl-C
  fabriq sub --topic weather. tcp://host:5556      what begins with `weather.`
  fabriq sub -n 1 --timeout 10s tcp://host:5556    one message, or exit code 3
  fabriq sub tcp://host:5556 | grep --line-buffered -m1 ready

The other end is a PUB or XPUB socket: `fabriq pub`, or any ZeroMQ program. A subscriber gets what is published from \
the moment it has joined; what was published earlier is gone.";

/// Subscribe to published messages (SUB) and print them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,
    #[command(flatten)]
    format: Format,

    /// Only messages whose first part begins with this; repeatable [default: everything]
    #[arg(long = "topic", value_name = "PREFIX")]
    topics: Vec<String>,

    /// Stop after so many messages
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let topics = if args.topics.is_empty() { vec![String::new()] } else { args.topics };
    let connection = args.wire.open_subscribed(&topics, |options| take_no_more_than(options, args.count))?;
    print_messages(&connection, args.format, args.count)
}
