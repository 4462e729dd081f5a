//! What zmq.h has beside sockets: version, capabilities, threads, stopwatches, counters. Nothing of it touches a message.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::handle::Handles;
use crate::{export, locked, text};

static THREADS: Handles<Mutex<Option<JoinHandle<()>>>> = Handles::new();
static WATCHES: Handles<Instant> = Handles::new();
static COUNTERS: Handles<AtomicI32> = Handles::new();

pub type ThreadFn = unsafe extern "C" fn(argument: *mut c_void);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_version(major: *mut c_int, minor: *mut c_int, patch: *mut c_int) {
    for (place, number) in [(major, 4), (minor, 3), (patch, 4)] {
        if !place.is_null() {
            // SAFETY: not NULL, and the caller's.
            unsafe { place.write(number) };
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_has(capability: *const c_char) -> c_int {
    export(0, || {
        // SAFETY: a string of the caller's.
        let capability = unsafe { text(capability) }?;
        // What zmq.h asks for by these names; every transport of ours beyond them has its scheme's name.
        let known = fabriq::transports().iter().any(|transport| transport.schemes().contains(&capability));
        Ok((known && !matches!(capability, "tcp" | "inproc")).into())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_sleep(seconds: c_int) {
    std::thread::sleep(Duration::from_secs(seconds.try_into().unwrap_or(0)));
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_threadstart(run: Option<ThreadFn>, argument: *mut c_void) -> *mut c_void {
    export(std::ptr::null_mut(), || {
        let run = run.ok_or(libc::EFAULT)?;
        let argument = argument.expose_provenance();
        let thread = std::thread::Builder::new().spawn(move || {
            // SAFETY: the caller's function with its own argument.
            unsafe { run(std::ptr::with_exposed_provenance_mut(argument)) }
        });
        let thread = thread.map_err(|error| error.raw_os_error().unwrap_or(libc::EAGAIN))?;
        Ok(THREADS.add(Arc::new(Mutex::new(Some(thread)))))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_threadclose(thread: *mut c_void) {
    export((), || {
        let thread = THREADS.remove(thread).ok_or(libc::EFAULT)?;
        let thread = locked(&thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_stopwatch_start() -> *mut c_void {
    export(std::ptr::null_mut(), || Ok(WATCHES.add(Arc::new(Instant::now()))))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_stopwatch_intermediate(watch: *mut c_void) -> c_ulong {
    export(0, || WATCHES.find(watch).map(|start| start.elapsed().as_micros() as c_ulong).ok_or(libc::EFAULT))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_stopwatch_stop(watch: *mut c_void) -> c_ulong {
    let elapsed = zmq_stopwatch_intermediate(watch);
    WATCHES.remove(watch);
    elapsed
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_atomic_counter_new() -> *mut c_void {
    export(std::ptr::null_mut(), || Ok(COUNTERS.add(Arc::default())))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_atomic_counter_set(counter: *mut c_void, value: c_int) {
    export((), || {
        COUNTERS.find(counter).ok_or(libc::EFAULT)?.store(value, Ordering::SeqCst);
        Ok(())
    });
}

/// Returns the value before.
#[unsafe(no_mangle)]
pub extern "C" fn zmq_atomic_counter_inc(counter: *mut c_void) -> c_int {
    export(-1, || Ok(COUNTERS.find(counter).ok_or(libc::EFAULT)?.fetch_add(1, Ordering::SeqCst)))
}

/// Returns 0 when the counter has come to 0, else 1.
#[unsafe(no_mangle)]
pub extern "C" fn zmq_atomic_counter_dec(counter: *mut c_void) -> c_int {
    export(
        -1,
        || Ok((COUNTERS.find(counter).ok_or(libc::EFAULT)?.fetch_sub(1, Ordering::SeqCst) != 1).into()),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_atomic_counter_value(counter: *mut c_void) -> c_int {
    export(-1, || Ok(COUNTERS.find(counter).ok_or(libc::EFAULT)?.load(Ordering::SeqCst)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_atomic_counter_destroy(counter: *mut *mut c_void) {
    if !counter.is_null() {
        // SAFETY: not NULL, and the caller's.
        let handle = unsafe { counter.replace(std::ptr::null_mut()) };
        COUNTERS.remove(handle);
    }
}
