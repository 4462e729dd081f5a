//! `fabriq pub`: messages to all subscribers. Receives nothing.

use std::time::Duration;

use fabriq::SocketType;

use crate::failure::Failure;
use crate::input::Input;
use crate::units::parse_duration;
use crate::wire::Wire;

/// Messages that may wait for a subscriber that is slower than our input. More than ZeroMQ's 1000, so that `seq 10000 |
/// fabriq pub` loses nothing; still bounded.
const HWM: u32 = 100_000;

const EXAMPLES: &str = "\
Examples:
  fabriq pub --bind 'tcp://*:5556' hello            waits for the first subscriber
  tail -f log | fabriq pub --wait 0 tcp://proxy:1   publishes at once, heard or not
  fabriq pub --topic sky. tcp://proxy:1 blue        two parts: `sky.` and `blue`

The other ends are SUB or XSUB sockets: `fabriq sub`, or any ZeroMQ program. A PUB socket drops what nobody has \
subscribed to, and it cannot see subscriptions arrive. So `pub` waits until a subscriber's handshake is over and then \
for --settle, the time its subscriptions may take to follow. On slow networks give more.";

/// Publish messages (PUB), from arguments or standard input
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,
    #[command(flatten)]
    input: Input,

    /// First part of every message, for subscribers to choose by
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,

    /// Longest wait for the first subscriber; 0 does not wait [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,

    /// Pause between the first subscriber's handshake and the first message
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    settle: Duration,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let connection = args.wire.open(SocketType::Pub, |options| options.send_hwm = HWM)?;
    if args.wait != Some(Duration::ZERO) {
        if !connection.watch.wait_ready(args.wait) {
            return Err(connection.timed_out("no subscriber came", args.wait.unwrap_or_default()));
        }
        std::thread::sleep(args.settle);
    }
    for message in args.input.messages() {
        let mut message = message?;
        if let Some(topic) = &args.topic {
            message.push_front(topic.as_str());
        }
        connection.send(message)?;
    }
    connection.finish(false)
}
