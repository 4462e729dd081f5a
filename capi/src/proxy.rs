//! zmq_proxy and zmq_device by name: finds the sockets behind the handles. The library carries the messages.

use std::ffi::{c_int, c_void};
use std::sync::Arc;

use fabriq::Proxy;

use crate::socket::Sock;
use crate::{Result, errno, export};

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
        let mut proxy = Proxy::new(&front.socket, &back.socket);
        if let Some(capture) = &capture {
            proxy = proxy.with_capture(&capture.socket);
        }
        if let Some(control) = &control {
            proxy = proxy.with_control(&control.socket);
        }
        proxy.run().map(|()| 0).map_err(|error| errno::of(&error))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn zmq_device(_: c_int, front: *mut c_void, back: *mut c_void) -> c_int {
    zmq_proxy(front, back, std::ptr::null_mut())
}
