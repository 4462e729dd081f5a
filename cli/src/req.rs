//! `fabriq req`: requests out, replies on standard output. Serves nobody.

use std::time::Duration;

use fabriq::SocketType;

use crate::failure::Failure;
use crate::input::Input;
use crate::output::{Format, Printer};
use crate::wire::Wire;

const EXAMPLES: &str = "\
Examples:
  fabriq req tcp://localhost:5555 hello             prints the reply
  fabriq req --timeout 2s tcp://host:5555 ping      exit code 3 without a reply in two seconds
  fabriq req tcp://host:5555 < questions            a request per line, each after the reply to the one before

The other end is a REP or ROUTER socket: `fabriq rep`, or any ZeroMQ program. It may start later.";

/// Ask (REQ): send requests one by one and print the replies
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    format: Format,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    // When the last reply is there, nothing is left to linger for.
    let connection = args.wire.open(SocketType::Req, |options| options.linger = Some(Duration::ZERO))?;
    let mut printer = Printer::new(args.format)?;
    for message in args.input.messages() {
        connection.send(message?)?;
        printer.print(&connection.recv()?)?;
        printer.flush()?;
    }
    Ok(())
}
