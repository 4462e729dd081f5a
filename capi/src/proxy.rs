//! zmq_proxy and zmq_device: carry messages between two sockets, both ways, until the context ends.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use fabriq::{Interest, Message, PollItem, Socket};

use crate::socket::Sock;
use crate::{Result, errno, export};

/// Messages taken from one socket before the others get their turn.
const BATCH: usize = 1000;

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    messages: u64,
    bytes: u64,
}

#[derive(Debug, PartialEq)]
enum State {
    Active,
    Paused,
}

fn carry(from: &Socket, to: &Socket, capture: Option<&Socket>, counts: [&mut Count; 2]) -> Result<()> {
    let [received, sent] = counts;
    for _ in 0..BATCH {
        // With one socket for both sides, receiving is what makes it writable (REP).
        if !std::ptr::eq(from, to) && !to.is_writable() {
            return Ok(());
        }
        let message = match from.try_recv() {
            Ok(message) => message,
            Err(fabriq::Error::Again) => return Ok(()),
            Err(error) => return Err(errno::of(&error)),
        };
        let bytes: u64 = message.parts().map(|part| part.len() as u64).sum();
        for count in [&mut *received, &mut *sent] {
            count.messages += 1;
            count.bytes += bytes;
        }
        if let Some(capture) = capture {
            let _ = capture.send(message.clone());
        }
        to.send(message).map_err(|refused| errno::of(&refused.error))?;
    }
    Ok(())
}

fn proxy(front: &Sock, back: &Sock, capture: Option<&Sock>, control: Option<&Sock>) -> Result<()> {
    let capture = capture.map(|sock| &sock.socket);
    let (mut state, same) = (State::Active, std::ptr::eq(front, back));
    // Received and sent, by the front and by the back.
    let mut counts = [Count::default(); 4];
    // What was found readable while the other side was full: wait for that side instead.
    let (mut to_back, mut to_front) = (false, false);
    loop {
        let active = state == State::Active;
        let mut items = vec![PollItem::readable(&front.socket)];
        items[0].interest = Interest { readable: active && !to_back, writable: active && to_front };
        if !same {
            items.push(PollItem::readable(&back.socket));
            items[1].interest = Interest { readable: active && !to_front, writable: active && to_back };
        }
        if let Some(control) = control {
            items.push(PollItem::readable(&control.socket));
        }
        fabriq::poll(&mut items, None).map_err(|error| errno::of(&error))?;
        let ready: Vec<bool> = items.iter().map(|item| item.ready.readable).collect();
        drop(items);
        if let Some(control) = control
            && ready.last() == Some(&true)
        {
            let command = control.socket.try_recv().map_err(|error| errno::of(&error))?;
            match &command.body()[..] {
                b"PAUSE" => state = State::Paused,
                b"RESUME" => state = State::Active,
                b"TERMINATE" => return Ok(()),
                b"STATISTICS" => {
                    let numbers = counts.iter().flat_map(|count| [count.messages, count.bytes]);
                    if let Some(answer) = Message::from_parts(numbers.map(|n| n.to_ne_bytes().to_vec())) {
                        control.socket.send(answer).map_err(|refused| errno::of(&refused.error))?;
                    }
                    continue;
                }
                _ => return Err(libc::EINVAL),
            }
            // A REP must answer before it hears the next command.
            if control.socket.socket_type() == fabriq::SocketType::Rep {
                control.socket.send("").map_err(|refused| errno::of(&refused.error))?;
            }
        }
        if state == State::Paused {
            continue;
        }
        to_back = !same && (to_back || ready[0]) && !back.socket.is_writable();
        to_front = !same && (to_front || ready[1]) && !front.socket.is_writable();
        let [front_in, front_out, back_in, back_out] = &mut counts;
        if ready[0] {
            let to = if same { front } else { back };
            carry(&front.socket, &to.socket, capture, [front_in, back_out])?;
        }
        if !same && ready[1] {
            carry(&back.socket, &front.socket, capture, [back_in, front_out])?;
        }
    }
}

fn optional(handle: *mut c_void) -> Result<Option<Arc<Sock>>> {
    if handle.is_null() { Ok(None) } else { Sock::find(handle).map(Some) }
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_proxy(front: *mut c_void, back: *mut c_void, capture: *mut c_void) -> c_int {
    zmq_proxy_steerable(front, back, capture, std::ptr::null_mut())
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_proxy_steerable(
    front: *mut c_void,
    back: *mut c_void,
    capture: *mut c_void,
    control: *mut c_void,
) -> c_int {
    export(-1, || {
        if front.is_null() || back.is_null() {
            return Err(libc::EFAULT);
        }
        let (front, back) = (Sock::find(front)?, Sock::find(back)?);
        let (capture, control) = (optional(capture)?, optional(control)?);
        proxy(&front, &back, capture.as_deref(), control.as_deref()).map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_device(_: c_int, front: *mut c_void, back: *mut c_void) -> c_int {
    zmq_proxy(front, back, std::ptr::null_mut())
}
