//! The asynchronous calls: futures that any executor can poll. They drive the engine themselves while that pays, and
//! leave it to the background thread when it does not.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Socket;
use super::context::ContextShared;
use crate::engine::{AsyncSpin, Target, TaskKey};
use crate::error::{Error, SendError};
use crate::message::Message;
use crate::pattern::NotSent;

/// Sends a message; see [`Socket::send_async`].
#[must_use = "futures do nothing unless polled"]
pub struct Send<'a> {
    socket: &'a Socket,
    message: Option<Message>,
    turns: Turns,
}

/// Receives a message; see [`Socket::recv_async`].
#[must_use = "futures do nothing unless polled"]
pub struct Receive<'a> {
    socket: &'a Socket,
    turns: Turns,
}

impl<'a> Send<'a> {
    pub(super) fn new(socket: &'a Socket, message: Message) -> Self {
        Self { socket, message: Some(message), turns: Turns::default() }
    }
}

impl<'a> Receive<'a> {
    pub(super) fn new(socket: &'a Socket) -> Self {
        Self { socket, turns: Turns::default() }
    }
}

/// What a future keeps from one poll to the next.
#[derive(Debug, Default)]
pub(super) struct Turns {
    spin: Option<AsyncSpin>,
    /// Its place on the sockets' lists, once it has slept.
    key: Option<TaskKey>,
}

impl Turns {
    /// Attempts, drives and attempts again; spins by yielding to the executor; registers with the targets, all of that
    /// context, and attempts once more before it lets the task sleep.
    pub(super) fn poll<R>(
        &mut self,
        context: &ContextShared,
        targets: &[&dyn Target],
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<R>,
    ) -> Poll<R> {
        if let Some(result) = attempt() {
            return self.succeed(result);
        }
        let shard = &context.shard;
        // Each wait spins at most once: what wakes the task later is the background.
        self.spin.get_or_insert_with(|| shard.begin_async_spin());
        shard.drive(Instant::now());
        if let Some(result) = attempt() {
            return self.succeed(result);
        }
        if self.spin.as_mut().is_some_and(AsyncSpin::goes_on) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let key = *self.key.get_or_insert_with(TaskKey::new);
        for target in targets {
            target.waiters().add_task(key, cx.waker());
        }
        match attempt() {
            Some(result) => self.succeed(result),
            None => {
                shard.hand_over();
                Poll::Pending
            }
        }
    }

    fn succeed<R>(&mut self, result: R) -> Poll<R> {
        if let Some(spin) = self.spin.take() {
            spin.succeed();
        }
        Poll::Ready(result)
    }

    /// Nobody waits any more.
    pub(super) fn leave(&mut self, context: &ContextShared, targets: &[&dyn Target]) {
        let Some(key) = self.key.take() else { return };
        // In a forked child the lists may be locked for ever.
        if context.is_foreign() {
            return;
        }
        for target in targets {
            target.waiters().remove_task(key);
        }
    }
}

impl Future for Receive<'_> {
    type Output = Result<Message, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let socket = self.socket;
        self.turns.poll(&socket.context, &[&*socket.shared], cx, || {
            let mut message = Message::EMPTY;
            match socket.recv_once(&mut message) {
                Ok(true) => Some(Ok(message)),
                Ok(false) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }
}

impl Future for Send<'_> {
    type Output = Result<(), SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let (socket, waiting) = (this.socket, &mut this.message);
        this.turns.poll(&socket.context, &[&*socket.shared], cx, || {
            let Some(message) = waiting else {
                // Polled after it was ready.
                return Some(Ok(()));
            };
            let result = match socket.send_once(message) {
                Err(NotSent::Again) if socket.check().is_ok() => return None,
                Ok(()) => Ok(()),
                Err(why) => Err(socket.send_error(why, message.take())),
            };
            *waiting = None;
            Some(result)
        })
    }
}

impl Drop for Send<'_> {
    fn drop(&mut self) {
        self.turns.leave(&self.socket.context, &[&*self.socket.shared]);
    }
}

impl Drop for Receive<'_> {
    fn drop(&mut self) {
        self.turns.leave(&self.socket.context, &[&*self.socket.shared]);
    }
}

impl fmt::Debug for Send<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Send({:?})", self.socket)
    }
}

impl fmt::Debug for Receive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receive({:?})", self.socket)
    }
}
