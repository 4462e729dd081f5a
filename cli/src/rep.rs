//! `fabriq rep`: answers requests with their own text, a given one, or what a command prints. Asks nobody.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use fabriq::{Frame, Message, SocketType};

use crate::failure::{Failure, note};
use crate::wire::Wire;

const EXAMPLES: &str = "\
Examples:
  fabriq rep --bind 'tcp://*:5555'                      echoes
  fabriq rep --bind 'tcp://*:5555' pong                 always says `pong`
  fabriq rep --bind 'tcp://*:5555' --exec 'tr a-z A-Z'  runs the command for every request

--exec runs CMD with `sh -c`: the request is its standard input (parts separated by tabs), its standard output is the \
reply, without the last newline. A command that fails still replies with what it printed, and is named on stderr.

The other end is a REQ or DEALER socket: `fabriq req`, or any ZeroMQ program.";

/// Answer (REP): echo requests, give a fixed reply, or run a command for each
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    wire: Wire,

    /// The reply; several arguments are the parts of one. Without any, the request comes back
    #[arg(value_name = "REPLY")]
    reply: Vec<OsString>,

    /// Run this for every request
    #[arg(long, value_name = "CMD", conflicts_with = "reply")]
    exec: Option<String>,

    /// Reply with every byte that CMD prints, also the last newline
    #[arg(long, short, requires = "exec")]
    raw: bool,

    /// Stop after so many requests
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let fixed = Message::from_parts(args.reply.into_iter().map(OsString::into_vec));
    let connection = args.wire.open(SocketType::Rep, |_| {})?;
    let mut answered = 0;
    while args.count.is_none_or(|count| answered < count) {
        let request = connection.recv()?;
        let reply = match (&args.exec, &fixed) {
            (Some(command), _) => answer_of(command, &request, args.raw)?.into(),
            (None, Some(fixed)) => fixed.clone(),
            (None, None) => request,
        };
        connection.send(reply)?;
        answered += 1;
    }
    connection.finish(false)
}

/// Runs `command` with the request as its input; what it prints.
fn answer_of(command: &str, request: &Message, raw: bool) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("cannot run `sh -c '{command}'`: {error}"));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().map_err(failed)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside reading, since a command may print before it has read everything. One that does not read at all
        // (`date`) closes the pipe, and that is its right.
        scope.spawn(|| stdin.map(|mut stdin| write_parts(&mut stdin, request)));
        child.wait_with_output()
    });
    let output = output.map_err(failed)?;
    if !output.status.success() {
        note(&format!("`{command}`: {}; the reply is what it printed", output.status));
    }
    let mut reply = output.stdout;
    if !raw {
        reply.pop_if(|last| *last == b'\n');
    }
    Ok(reply)
}

fn write_parts(out: &mut impl Write, message: &Message) -> io::Result<()> {
    let parts: Vec<&[u8]> = message.parts().map(Frame::as_ref).collect();
    out.write_all(&parts.join(&b'\t'))
}
