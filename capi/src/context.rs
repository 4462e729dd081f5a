//! zmq_ctx_*: contexts, their options and their end. Moves no messages.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};

use crate::errno::{self, ETERM};
use crate::handle::Handles;
use crate::socket::Sock;
use crate::{Result, export, locked};

const IO_THREADS: c_int = 1;
const MAX_SOCKETS: c_int = 2;
/// Read; written it is THREAD_PRIORITY.
const SOCKET_LIMIT: c_int = 3;
const THREAD_SCHED_POLICY: c_int = 4;
const MAX_MSGSZ: c_int = 5;
const MSG_T_SIZE: c_int = 6;
const THREAD_AFFINITY_CPU_ADD: c_int = 7;
const THREAD_AFFINITY_CPU_REMOVE: c_int = 8;
const THREAD_NAME_PREFIX: c_int = 9;
const IPV6: c_int = 42;
const BLOCKY: c_int = 70;

static CONTEXTS: Handles<Ctx> = Handles::new();

/// A context as C sees it. The engine comes with the first socket.
#[derive(Debug)]
pub(crate) struct Ctx {
    state: Mutex<CtxState>,
    /// A socket was closed.
    closed: Condvar,
    pub(crate) terminated: AtomicBool,
    pid: u32,
}

#[derive(Debug)]
struct CtxState {
    context: Option<fabriq::Context>,
    sockets: Vec<Weak<Sock>>,
    /// Sockets and monitors that are not closed yet.
    open: usize,
    io_threads: c_int,
    max_sockets: c_int,
    max_msgsz: c_int,
    name_prefix: c_int,
    sched_policy: c_int,
    ipv6: c_int,
    blocky: c_int,
}

/// One open socket; its drop tells the context.
#[derive(Debug)]
pub(crate) struct Opened(Arc<Ctx>);

impl Drop for Opened {
    fn drop(&mut self) {
        locked(&self.0.state).open -= 1;
        self.0.closed.notify_all();
    }
}

/// What a new socket takes over from its context.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) ipv6: bool,
    pub(crate) blocky: bool,
    pub(crate) max_message_size: Option<u64>,
}

impl Ctx {
    pub(crate) fn find(handle: *const c_void) -> Result<Arc<Self>> {
        CONTEXTS.find(handle).ok_or(libc::EFAULT)
    }

    fn new() -> Self {
        Self {
            state: Mutex::new(CtxState {
                context: None,
                sockets: Vec::new(),
                open: 0,
                io_threads: 1,
                max_sockets: 1023,
                max_msgsz: c_int::MAX,
                name_prefix: 0,
                sched_policy: -1,
                ipv6: 0,
                blocky: 1,
            }),
            closed: Condvar::new(),
            terminated: AtomicBool::new(false),
            pid: std::process::id(),
        }
    }

    /// A socket of the engine, counted until `Opened` is dropped.
    pub(crate) fn open(
        self: &Arc<Self>,
        kind: fabriq::SocketType,
    ) -> Result<(fabriq::Socket, Opened, Inherited)> {
        let mut state = locked(&self.state);
        if self.terminated.load(Ordering::Acquire) {
            return Err(ETERM);
        }
        if state.open >= state.max_sockets as usize {
            return Err(libc::EMFILE);
        }
        let context = match &state.context {
            Some(context) => context.clone(),
            None => state.context.insert(fabriq::context().map_err(|error| errno::of(&error))?).clone(),
        };
        let socket = context.socket(kind).map_err(|error| errno::of(&error))?;
        state.open += 1;
        let inherited = Inherited {
            ipv6: state.ipv6 != 0,
            blocky: state.blocky != 0,
            max_message_size: (state.max_msgsz != c_int::MAX).then_some(state.max_msgsz as u64),
        };
        Ok((socket, Opened(self.clone()), inherited))
    }

    pub(crate) fn remember(&self, sock: &Arc<Sock>) {
        let mut state = locked(&self.state);
        if state.sockets.len() == state.sockets.capacity() {
            state.sockets.retain(|sock| sock.strong_count() > 0);
        }
        state.sockets.push(Arc::downgrade(sock));
    }

    /// Every call on every socket fails with ETERM from here on.
    fn shutdown(&self) {
        let state = locked(&self.state);
        if self.terminated.swap(true, Ordering::AcqRel) {
            return;
        }
        let context = state.context.clone();
        let sockets: Vec<_> = state.sockets.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for sock in &sockets {
            sock.socket.stop_monitor();
        }
        if let Some(context) = context {
            context.shutdown();
        }
    }

    fn set(&self, option: c_int, value: c_int) -> Result<()> {
        let mut state = locked(&self.state);
        match option {
            IO_THREADS if value >= 0 => state.io_threads = value,
            MAX_SOCKETS if value >= 1 => state.max_sockets = value,
            MAX_MSGSZ if value >= 0 => state.max_msgsz = value,
            THREAD_NAME_PREFIX if value >= 0 => state.name_prefix = value,
            // The engine's thread keeps the scheduling that it was given.
            SOCKET_LIMIT | THREAD_AFFINITY_CPU_ADD if value >= 0 => {}
            THREAD_SCHED_POLICY if value >= 0 => state.sched_policy = value,
            THREAD_AFFINITY_CPU_REMOVE if value >= 0 => {}
            IPV6 if matches!(value, 0 | 1) => state.ipv6 = value,
            BLOCKY if matches!(value, 0 | 1) => state.blocky = value,
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn get(&self, option: c_int) -> Result<c_int> {
        let state = locked(&self.state);
        Ok(match option {
            IO_THREADS => state.io_threads,
            MAX_SOCKETS => state.max_sockets,
            SOCKET_LIMIT => 65_535,
            MAX_MSGSZ => state.max_msgsz,
            MSG_T_SIZE => 64,
            THREAD_NAME_PREFIX => state.name_prefix,
            THREAD_SCHED_POLICY => state.sched_policy,
            IPV6 => state.ipv6,
            BLOCKY => state.blocky,
            _ => return Err(libc::EINVAL),
        })
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_new() -> *mut c_void {
    export(std::ptr::null_mut(), || Ok(CONTEXTS.add(Arc::new(Ctx::new()))))
}

/// Waits for all sockets to be closed and for what they left to be sent.
#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_term(context: *mut c_void) -> c_int {
    export(-1, || {
        let ctx = Ctx::find(context)?;
        if ctx.pid != std::process::id() {
            // A fork's copy: there is no thread to end and nothing to send.
            CONTEXTS.remove(context);
            std::mem::forget(ctx);
            return Ok(0);
        }
        ctx.shutdown();
        let mut state = locked(&ctx.state);
        while state.open > 0 {
            state = ctx.closed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let engine = state.context.take();
        drop(state);
        CONTEXTS.remove(context);
        if let Some(engine) = engine {
            engine.wait_until_sent(None);
        }
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_shutdown(context: *mut c_void) -> c_int {
    export(-1, || {
        Ctx::find(context)?.shutdown();
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_set(context: *mut c_void, option: c_int, value: c_int) -> c_int {
    export(-1, || Ctx::find(context)?.set(option, value).map(|()| 0))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_get(context: *mut c_void, option: c_int) -> c_int {
    export(-1, || Ctx::find(context)?.get(option))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_init(io_threads: c_int) -> *mut c_void {
    export(std::ptr::null_mut(), || {
        if io_threads < 0 {
            return Err(libc::EINVAL);
        }
        let ctx = Ctx::new();
        ctx.set(IO_THREADS, io_threads)?;
        Ok(CONTEXTS.add(Arc::new(ctx)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_term(context: *mut c_void) -> c_int {
    zmq_ctx_term(context)
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_ctx_destroy(context: *mut c_void) -> c_int {
    zmq_ctx_term(context)
}
