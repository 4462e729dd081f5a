//! zmq_timers_*: timers that the application runs by itself. Knows no socket.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_long, c_void};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::handle::Handles;
use crate::{Result, export, locked};

pub type TimerFn = unsafe extern "C" fn(timer: c_int, argument: *mut c_void);

static TIMERS: Handles<Mutex<Timers>> = Handles::new();

#[derive(Debug, Default)]
struct Timers {
    last_id: c_int,
    timers: BTreeMap<c_int, Timer>,
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    due: Instant,
    interval: Duration,
    run: TimerFn,
    argument: usize,
}

fn find(handle: *mut c_void) -> Result<Arc<Mutex<Timers>>> {
    TIMERS.find(handle).ok_or(libc::EFAULT)
}

fn change(handle: *mut c_void, id: c_int, change: impl FnOnce(&mut Timer)) -> Result<c_int> {
    let timers = find(handle)?;
    let mut timers = locked(&timers);
    timers.timers.get_mut(&id).map(change).map(|()| 0).ok_or(libc::EINVAL)
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_new() -> *mut c_void {
    export(std::ptr::null_mut(), || Ok(TIMERS.add(Arc::default())))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_timers_destroy(timers: *mut *mut c_void) -> c_int {
    export(-1, || {
        if timers.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: not NULL, and the caller's.
        let handle = unsafe { timers.read() };
        TIMERS.remove(handle).ok_or(libc::EFAULT)?;
        // SAFETY: as above.
        unsafe { timers.write(std::ptr::null_mut()) };
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_add(
    timers: *mut c_void,
    interval: usize,
    run: Option<TimerFn>,
    argument: *mut c_void,
) -> c_int {
    export(-1, || {
        let timers = find(timers)?;
        let run = run.ok_or(libc::EFAULT)?;
        let interval = Duration::from_millis(interval as u64);
        let due = Instant::now().checked_add(interval).ok_or(libc::EINVAL)?;
        let mut timers = locked(&timers);
        timers.last_id += 1;
        let id = timers.last_id;
        timers.timers.insert(id, Timer { due, interval, run, argument: argument.expose_provenance() });
        Ok(id)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_cancel(timers: *mut c_void, id: c_int) -> c_int {
    export(-1, || locked(&*find(timers)?).timers.remove(&id).map(|_| 0).ok_or(libc::EINVAL))
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_set_interval(timers: *mut c_void, id: c_int, interval: usize) -> c_int {
    export(-1, || {
        change(timers, id, |timer| {
            timer.interval = Duration::from_millis(interval as u64);
            timer.due = Instant::now() + timer.interval;
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_reset(timers: *mut c_void, id: c_int) -> c_int {
    export(-1, || change(timers, id, |timer| timer.due = Instant::now() + timer.interval))
}

/// Milliseconds until the next timer is due, or -1.
#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_timeout(timers: *mut c_void) -> c_long {
    export(-1, || {
        let timers = find(timers)?;
        let next = locked(&timers).timers.values().map(|timer| timer.due).min();
        let left = next.map(|due| due.saturating_duration_since(Instant::now()));
        // Rounded up: not to be asked again before it is due.
        Ok(left.map_or(-1, |left| left.as_micros().div_ceil(1000) as c_long))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_timers_execute(timers: *mut c_void) -> c_int {
    export(-1, || {
        let timers = find(timers)?;
        let now = Instant::now();
        let due: Vec<c_int> =
            locked(&timers).timers.iter().filter(|(_, timer)| timer.due <= now).map(|(id, _)| *id).collect();
        for id in due {
            // One that an earlier one cancelled is left out. Not locked while it runs: it may use its timers.
            let timer = match locked(&timers).timers.get_mut(&id) {
                Some(timer) => {
                    timer.due = now + timer.interval;
                    *timer
                }
                None => continue,
            };
            // SAFETY: the caller's function with its own argument.
            unsafe { (timer.run)(id, std::ptr::with_exposed_provenance_mut(timer.argument)) }
        }
        Ok(0)
    })
}
