//! `fabriq send`: messages out of a PUSH socket. Receives nothing.

use fabriq::SocketType;

use crate::failure::Failure;
use crate::input::Input;
use crate::wire::Wire;

const EXAMPLES: &str = "\
Examples:
  fabriq send tcp://localhost:5555 hello world             two messages
  fabriq send --part tcp://localhost:5555 key value        one message of two parts
  seq 1000 | fabriq send tcp://localhost:5555              a message per line
  fabriq send --whole tcp://localhost:5555 < image.png     one message
  fabriq send --bind 'tcp://*:5555' hello                  waits for a puller to come

The other end is a PULL socket: `fabriq recv`, or any ZeroMQ program. It may start later. Ends when all messages \
are on their way; fails with exit code 3 when there is no peer within --linger.";

/// Send messages down a pipeline (PUSH), from arguments or standard input
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,
    #[command(flatten)]
    input: Input,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let connection = args.wire.open(SocketType::Push, |_| {})?;
    let mut queued = false;
    for message in args.input.messages() {
        connection.send(message?)?;
        queued = true;
    }
    connection.finish(queued)
}
