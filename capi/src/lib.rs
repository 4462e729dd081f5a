//! A private C ABI on fabriq, so that the test programs of libzmq judge its semantics. Not a supported interface yet.
//!
//! Names, constants and layouts are those of `zmq.h` of libzmq 4.3. Handles are numbers that were never used before, not
//! addresses, so that a stale one is an error. No export unwinds or aborts: misuse is an errno.

// The functions are specified by libzmq's manual pages; each says here only where it differs. They are reached by
// their C names, from modules that are private in Rust.
#![allow(missing_docs, unreachable_pub, clippy::missing_safety_doc)]

mod context;
mod errno;
mod extras;
mod handle;
mod message;
#[cfg(test)]
mod misuse;
mod monitor;
mod options;
mod poll;
mod proxy;
mod socket;
mod timers;
mod z85;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(crate) type Result<T> = std::result::Result<T, i32>;

/// Runs the body of an export: an error or a panic becomes errno and `failed`.
pub(crate) fn export<T>(failed: T, body: impl FnOnce() -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(code)) => {
            errno::set(code);
            failed
        }
        Err(_) => {
            errno::set(libc::ENOTRECOVERABLE);
            failed
        }
    }
}

/// Locks; a panic elsewhere does not poison what is kept consistent at every step.
pub(crate) fn locked<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The text at a C string, or EINVAL.
///
/// # Safety
/// `text` is NULL or a string that ends with NUL.
pub(crate) unsafe fn text<'a>(text: *const libc::c_char) -> Result<&'a str> {
    if text.is_null() {
        return Err(libc::EINVAL);
    }
    // SAFETY: not NULL, and the caller promises the rest.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_str().map_err(|_| libc::EINVAL)
}
