//! The fabriq program: parses the command line and hands over to one module per subcommand. Does no work itself.

#![forbid(unsafe_code)]

mod bench;
mod failure;
mod info;
mod input;
mod manual;
mod monitor;
mod output;
mod proxy;
mod publish;
mod recv;
mod rep;
mod req;
mod schemes;
mod send;
mod stat;
mod subscribe;
mod units;
mod watch;
mod wire;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// ZeroMQ's sockets over the fastest wire that each endpoint URL names: measure them, use them in a shell.
#[derive(Debug, Parser)]
#[command(name = "fabriq", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
First steps:
  fabriq bench                              what this host can do, in some seconds
  fabriq info                               which transports there are
  fabriq rep --bind tcp://127.0.0.1:5555    in one terminal: echoes every request
  fabriq req tcp://127.0.0.1:5555 hello     in another: prints `hello`

Exit codes: 0 done, 1 failed, 2 wrong use (arguments, URL), 3 nothing came or went in the time allowed, \
4 data arrived damaged or out of order (bench), 5 slower than before (bench compare).";

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Args),
    Send(send::Args),
    Recv(recv::Args),
    Req(req::Args),
    Rep(rep::Args),
    Pub(publish::Args),
    Sub(subscribe::Args),
    Proxy(proxy::Args),
    Monitor(monitor::Args),
    Stat(stat::Args),
    Info(info::Args),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Bench(args) => bench::run(args),
        Command::Send(args) => send::run(args),
        Command::Recv(args) => recv::run(args),
        Command::Req(args) => req::run(args),
        Command::Rep(args) => rep::run(args),
        Command::Pub(args) => publish::run(args),
        Command::Sub(args) => subscribe::run(args),
        Command::Proxy(args) => proxy::run(args),
        Command::Monitor(args) => monitor::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Info(args) => info::run(args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
    };
    done.map_or_else(failure::Failure::report, |()| ExitCode::SUCCESS)
}
