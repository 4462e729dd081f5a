//! One socket on one endpoint, as every messaging subcommand opens, waits on and closes it. Knows no pattern.

use std::time::{Duration, Instant};

use fabriq::{Context, Endpoint, Error, Message, Options, SendError, Socket, SocketType};

use crate::failure::{Failure, note};
use crate::units::parse_duration;
use crate::watch::Watch;

/// The options that all messaging subcommands share.
#[derive(Debug, clap::Args)]
pub(crate) struct Wire {
    /// Endpoint URL, for example tcp://127.0.0.1:5555
    url: String,

    /// Listen at URL instead of connecting to it; the real endpoint is said on stderr, so `tcp://*:*` picks a port and
    /// `ipc://*` a path
    #[arg(long, short)]
    bind: bool,

    /// Longest wait for each message to come or go, as in 500ms, 2s or 1m [default: no limit]
    #[arg(long, short, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    /// How long to go on delivering at the end what is still queued
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    linger: Duration,

    /// High-water mark: messages queued per peer in each direction; 0 is no limit [default: 1000; pub: 100000]
    #[arg(long, value_name = "MESSAGES")]
    hwm: Option<u32>,

    /// Let names and wildcards in URL also mean IPv6
    #[arg(long, short = '6')]
    ipv6: bool,

    /// Say on stderr what happens to the connection
    #[arg(long, short)]
    verbose: bool,
}

impl Wire {
    /// Opens the endpoint. `change` sets what the subcommand wants otherwise; what the user asked for stands.
    pub(crate) fn open(
        &self,
        kind: SocketType,
        change: impl FnOnce(&mut Options),
    ) -> Result<Connection, Failure> {
        self.open_with(kind, change, |_| Ok(()))
    }

    /// Opens a SUB socket's endpoint with its subscriptions, so that the first message already counts.
    pub(crate) fn open_subscribed(
        &self,
        topics: &[String],
        change: impl FnOnce(&mut Options),
    ) -> Result<Connection, Failure> {
        self.open_with(SocketType::Sub, change, |socket| {
            topics.iter().try_for_each(|topic| socket.subscribe(topic))
        })
    }

    fn open_with(
        &self,
        kind: SocketType,
        change: impl FnOnce(&mut Options),
        prepare: impl FnOnce(&Socket) -> Result<(), Error>,
    ) -> Result<Connection, Failure> {
        refuse_inproc(&self.url)?;
        let context = fabriq::context()?;
        let socket = context.socket(kind)?;
        socket.set_options(|options| {
            options.linger = Some(self.linger);
            options.ipv6 = self.ipv6;
            change(options);
            if let Some(hwm) = self.hwm {
                (options.send_hwm, options.receive_hwm) = (hwm, hwm);
            }
        })?;
        prepare(&socket)?;
        let how = Opening { bind: self.bind, quiet: false, verbose: self.verbose, timeout: self.timeout };
        Connection::open(context, socket, &self.url, how)
    }
}

/// How to open a [`Connection`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Listen instead of connecting.
    pub(crate) bind: bool,
    /// Say nothing unless something is wrong.
    pub(crate) quiet: bool,
    /// Say every event.
    pub(crate) verbose: bool,
    /// Longest wait for each message.
    pub(crate) timeout: Option<Duration>,
}

/// A socket with its one endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    // Before the context, so that it closes first.
    pub(crate) socket: Socket,
    pub(crate) watch: Watch,
    pub(crate) context: Context,
    /// As given, or the real one after a bind.
    pub(crate) url: String,
    /// Longest wait for each message; the socket has it as well.
    timeout: Option<Duration>,
}

impl Connection {
    /// Binds or connects; says where it listens.
    pub(crate) fn open(context: Context, socket: Socket, url: &str, how: Opening) -> Result<Self, Failure> {
        let waiting = (!how.bind && !how.quiet)
            .then(|| format!("waiting for a peer at {url}; start one there, or give up with Ctrl-C"));
        let watch = Watch::start(&socket, waiting, how.verbose)?;
        let url = if how.bind {
            let real = socket.bind(url)?;
            if !how.quiet {
                note(&format!("bound {real}"));
            }
            real.as_str().to_owned()
        } else {
            socket.connect(url).map_err(|error| not_connected(url, error))?;
            url.to_owned()
        };
        let mut connection = Self { socket, watch, context, url, timeout: None };
        connection.set_timeout(how.timeout)?;
        Ok(connection)
    }

    /// Longest wait for each message.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Changes the longest wait for each message.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        self.socket.set_options(|options| {
            options.send_timeout = timeout;
            options.receive_timeout = timeout;
        })?;
        self.timeout = timeout;
        Ok(())
    }

    /// Sends, waiting for room for at most the time-out.
    // Inlined, as is `recv`: moving a message once more shows in a benchmark of small ones.
    #[inline(always)]
    pub(crate) fn send(&self, message: impl Into<Message>) -> Result<(), Failure> {
        match self.socket.send(message) {
            Ok(()) => Ok(()),
            Err(not_sent) => self.send_again(not_sent),
        }
    }

    #[cold]
    fn send_again(&self, mut not_sent: SendError) -> Result<(), Failure> {
        // A stop and continue (Ctrl-Z, fg) interrupts.
        while not_sent.error == Error::Interrupted {
            match self.socket.send(*not_sent.message) {
                Ok(()) => return Ok(()),
                Err(again) => not_sent = again,
            }
        }
        Err(self.failed("no peer took the message", not_sent.error))
    }

    /// Receives, for at most the time-out.
    #[inline(always)]
    pub(crate) fn recv(&self) -> Result<Message, Failure> {
        match self.socket.recv() {
            Ok(message) => Ok(message),
            Err(error) => self.recv_again(error),
        }
    }

    #[cold]
    fn recv_again(&self, mut error: Error) -> Result<Message, Failure> {
        while error == Error::Interrupted {
            match self.socket.recv() {
                Ok(message) => return Ok(message),
                Err(again) => error = again,
            }
        }
        Err(self.failed("no message came", error))
    }

    #[cold]
    fn failed(&self, what: &str, error: Error) -> Failure {
        match error {
            Error::Again => self.timed_out(what, self.timeout.unwrap_or_default()),
            error => error.into(),
        }
    }

    /// The failure for a wait that was too long. Also gives up what is still queued, or closing would wait again.
    pub(crate) fn timed_out(&self, what: &str, timeout: Duration) -> Failure {
        let _ = self.socket.set_options(|options| options.linger = Some(Duration::ZERO));
        let (time, peers) = (crate::units::time(timeout), self.watch.peers());
        Failure::TimedOut(format!("{}: {what} within {time}: {peers}", self.url))
    }

    /// Closes and waits until all is delivered to the network, for at most the linger time. With `queued`, a socket
    /// that has never had a peer still holds everything, and waits for one.
    pub(crate) fn finish(self, queued: bool) -> Result<(), Failure> {
        let linger = self.socket.options()?.linger;
        if linger == Some(Duration::ZERO) {
            return Ok(());
        }
        let deadline = linger.and_then(|linger| Instant::now().checked_add(linger));
        if queued && !self.watch.wait_ready(linger) {
            return Err(self.timed_out("nothing was delivered", linger.unwrap_or_default()));
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let _ = self.socket.set_options(|options| options.linger = left);
        drop(self.socket);
        // The engine itself gives up at the same moment; ask a little before.
        let ask = left.map(|left| left.mul_f64(0.98));
        if self.context.wait_until_sent(ask) {
            return Ok(());
        }
        Err(Failure::TimedOut(format!(
            "{}: not all messages were delivered within the linger time; the peer has gone or does not read: give more \
             with --linger",
            self.url
        )))
    }
}

/// inproc:// is no mistake in a URL, but has no meaning between programs.
pub(crate) fn refuse_inproc(url: &str) -> Result<(), Failure> {
    let endpoint = Endpoint::parse(url).map_err(|error| Failure::Usage(error.to_string()))?;
    if endpoint.scheme() == "inproc" {
        return Err(Failure::Usage(format!(
            "{url}: inproc:// ends at this process, and the peer would be another; use ipc://PATH or tcp://127.0.0.1:PORT"
        )));
    }
    Ok(())
}

fn not_connected(url: &str, error: Error) -> Failure {
    let failure = Failure::from(error);
    match failure {
        Failure::Usage(text) if url.contains('*') => Failure::Usage(format!(
            "{text}\nA wildcard is for listening: add --bind, or name a host and port"
        )),
        failure => failure,
    }
}
