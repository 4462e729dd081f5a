//! What libfabric's headers have as static inline functions, and so in no library: calls through the tables of an
//! object. Same names, same meaning. A call that a provider's table lacks is `-FI_ENOSYS`, as if the provider had
//! said so.
//!
//! Tables begin with their size and grow at the end only; every entry here has been in them since libfabric 1.0
//! (fi_control commands apart), which the assertions below and the layout test hold to.

use std::mem::offset_of;
use std::os::raw::{c_char, c_int, c_void};

use super::{
    FI_BACKLOG, FI_ENABLE, FI_ENOSYS, FI_GETWAIT, FI_OPT_CM_DATA_SIZE, FI_OPT_ENDPOINT, fi_addr_t,
    fi_av_attr, fi_cq_attr, fi_cq_err_entry, fi_eq_attr, fi_eq_err_entry, fi_info, fi_msg, fid, fid_av,
    fid_cq, fid_domain, fid_ep, fid_eq, fid_fabric, fid_mr, fid_pep,
};

// The inline functions below read these without looking: their place must be what the library's is.
const _: () = {
    assert!(size_of::<usize>() == 8, "libfabric is bound for 64-bit machines only");
    assert!(offset_of!(fid, ops) == 16);
    assert!(offset_of!(fid_fabric, ops) == 24);
    assert!(offset_of!(fid_domain, ops) == 24 && offset_of!(fid_domain, mr) == 32);
    assert!(offset_of!(fid_ep, ops) == 24 && offset_of!(fid_ep, cm) == 32);
    assert!(offset_of!(fid_ep, msg) == 40 && offset_of!(fid_ep, rma) == 48);
    assert!(offset_of!(fid_pep, ops) == 24 && offset_of!(fid_pep, cm) == 32);
    assert!(offset_of!(fid_eq, ops) == 24);
    assert!(offset_of!(fid_cq, ops) == 24);
    assert!(offset_of!(fid_av, ops) == 24);
    assert!(offset_of!(fid_mr, mem_desc) == 24 && offset_of!(fid_mr, key) == 32);
};

const LACKING: c_int = -(FI_ENOSYS as c_int);

/// Defines inline functions: `object.table.call(arguments)`, where the table may be a path.
macro_rules! calls {
    ($(
        $(#[$doc:meta])*
        $name:ident($first:ident: $object:ty, $($argument:ident: $type:ty),* $(,)?) -> $result:ty
            = $($table:ident).+ => $call:ident($($given:expr),* $(,)?);
    )*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// The object is alive; the arguments are as its manual page asks for.
        #[inline]
        #[allow(clippy::too_many_arguments)] // C's have as many.
        pub unsafe fn $name($first: $object, $($argument: $type),*) -> $result {
            // SAFETY: the caller vouches for object and arguments. Tables live as long as their object, and an
            // endpoint has all of those that its capabilities ask for.
            unsafe {
                match (*(*$first).$($table).+).$call {
                    Some(call) => call($($given),*),
                    None => LACKING as $result,
                }
            }
        }
    )*};
}

calls! {
    /// fi_domain(3).
    fi_domain(fabric: *mut fid_fabric, info: *mut fi_info, domain: *mut *mut fid_domain, context: *mut c_void) -> c_int
        = ops => domain(fabric, info, domain, context);
    /// fi_passive_ep(3).
    fi_passive_ep(fabric: *mut fid_fabric, info: *mut fi_info, pep: *mut *mut fid_pep, context: *mut c_void) -> c_int
        = ops => passive_ep(fabric, info, pep, context);
    /// fi_eq_open(3).
    fi_eq_open(fabric: *mut fid_fabric, attr: *mut fi_eq_attr, eq: *mut *mut fid_eq, context: *mut c_void) -> c_int
        = ops => eq_open(fabric, attr, eq, context);
    /// fi_trywait(3).
    fi_trywait(fabric: *mut fid_fabric, fids: *mut *mut fid, count: c_int) -> c_int
        = ops => trywait(fabric, fids, count);

    /// fi_cq_open(3).
    fi_cq_open(domain: *mut fid_domain, attr: *mut fi_cq_attr, cq: *mut *mut fid_cq, context: *mut c_void) -> c_int
        = ops => cq_open(domain, attr, cq, context);
    /// fi_av_open(3).
    fi_av_open(domain: *mut fid_domain, attr: *mut fi_av_attr, av: *mut *mut fid_av, context: *mut c_void) -> c_int
        = ops => av_open(domain, attr, av, context);
    /// fi_endpoint(3).
    fi_endpoint(domain: *mut fid_domain, info: *mut fi_info, ep: *mut *mut fid_ep, context: *mut c_void) -> c_int
        = ops => endpoint(domain, info, ep, context);
    /// fi_mr_reg(3).
    fi_mr_reg(
        domain: *mut fid_domain, buf: *const c_void, len: usize, access: u64, offset: u64, requested_key: u64, flags: u64,
        mr: *mut *mut fid_mr, context: *mut c_void,
    ) -> c_int
        = mr => reg(
            &raw mut (*domain).fid, buf, len, access, offset, requested_key, flags, mr, context,
        );

    /// fi_close(3). The object is gone, unless this fails.
    fi_close(object: *mut fid,) -> c_int = ops => close(object);
    /// fi_control(3).
    fi_control(object: *mut fid, command: c_int, argument: *mut c_void) -> c_int
        = ops => control(object, command, argument);
    /// fi_ep_bind(3).
    fi_ep_bind(ep: *mut fid_ep, to: *mut fid, flags: u64) -> c_int
        = fid.ops => bind(&raw mut (*ep).fid, to, flags);
    /// fi_pep_bind(3).
    fi_pep_bind(pep: *mut fid_pep, to: *mut fid, flags: u64) -> c_int
        = fid.ops => bind(&raw mut (*pep).fid, to, flags);

    /// fi_getname(3) of an endpoint.
    fi_getname(ep: *mut fid_ep, address: *mut c_void, len: *mut usize) -> c_int
        = cm => getname(&raw mut (*ep).fid, address, len);
    /// fi_getname(3) of a passive endpoint.
    fi_pep_getname(pep: *mut fid_pep, address: *mut c_void, len: *mut usize) -> c_int
        = cm => getname(&raw mut (*pep).fid, address, len);
    /// fi_getpeer(3).
    fi_getpeer(ep: *mut fid_ep, address: *mut c_void, len: *mut usize) -> c_int
        = cm => getpeer(ep, address, len);
    /// fi_listen(3).
    fi_listen(pep: *mut fid_pep,) -> c_int = cm => listen(pep);
    /// fi_connect(3).
    fi_connect(ep: *mut fid_ep, address: *const c_void, param: *const c_void, len: usize) -> c_int
        = cm => connect(ep, address, param, len);
    /// fi_accept(3).
    fi_accept(ep: *mut fid_ep, param: *const c_void, len: usize) -> c_int = cm => accept(ep, param, len);
    /// fi_reject(3).
    fi_reject(pep: *mut fid_pep, handle: *mut fid, param: *const c_void, len: usize) -> c_int
        = cm => reject(pep, handle, param, len);
    /// fi_shutdown(3).
    fi_shutdown(ep: *mut fid_ep, flags: u64) -> c_int = cm => shutdown(ep, flags);

    /// fi_av_insert(3): how many were inserted, or a negative errno.
    fi_av_insert(
        av: *mut fid_av, address: *const c_void, count: usize, into: *mut fi_addr_t, flags: u64, context: *mut c_void,
    ) -> c_int
        = ops => insert(av, address, count, into, flags, context);

    /// fi_av_remove(3).
    fi_av_remove(av: *mut fid_av, addresses: *mut fi_addr_t, count: usize, flags: u64) -> c_int
        = ops => remove(av, addresses, count, flags);

    /// fi_eq_read(3): bytes, or a negative errno.
    fi_eq_read(eq: *mut fid_eq, event: *mut u32, buf: *mut c_void, len: usize, flags: u64) -> isize
        = ops => read(eq, event, buf, len, flags);
    /// fi_eq_readerr(3): bytes, or a negative errno.
    fi_eq_readerr(eq: *mut fid_eq, entry: *mut fi_eq_err_entry, flags: u64) -> isize
        = ops => readerr(eq, entry, flags);
    /// fi_cq_read(3): entries, or a negative errno.
    fi_cq_read(cq: *mut fid_cq, buf: *mut c_void, count: usize) -> isize = ops => read(cq, buf, count);
    /// fi_cq_readerr(3): entries, or a negative errno.
    fi_cq_readerr(cq: *mut fid_cq, entry: *mut fi_cq_err_entry, flags: u64) -> isize
        = ops => readerr(cq, entry, flags);

    /// fi_cancel(3): 0 or a negative errno.
    fi_cancel(ep: *mut fid_ep, context: *mut c_void) -> isize = ops => cancel(&raw mut (*ep).fid, context);

    /// fi_recv(3): 0 or a negative errno.
    fi_recv(
        ep: *mut fid_ep, buf: *mut c_void, len: usize, desc: *mut c_void, from: fi_addr_t, context: *mut c_void,
    ) -> isize
        = msg => recv(ep, buf, len, desc, from, context);
    /// fi_send(3): 0 or a negative errno.
    fi_send(
        ep: *mut fid_ep, buf: *const c_void, len: usize, desc: *mut c_void, to: fi_addr_t, context: *mut c_void,
    ) -> isize
        = msg => send(ep, buf, len, desc, to, context);
    /// fi_sendmsg(3): 0 or a negative errno.
    fi_sendmsg(ep: *mut fid_ep, msg: *const fi_msg, flags: u64) -> isize = msg => sendmsg(ep, msg, flags);
    /// fi_inject(3): 0 or a negative errno.
    fi_inject(ep: *mut fid_ep, buf: *const c_void, len: usize, to: fi_addr_t) -> isize
        = msg => inject(ep, buf, len, to);
    /// fi_read(3): 0 or a negative errno.
    fi_read(
        ep: *mut fid_ep, buf: *mut c_void, len: usize, desc: *mut c_void, from: fi_addr_t, address: u64, key: u64,
        context: *mut c_void,
    ) -> isize
        = rma => read(ep, buf, len, desc, from, address, key, context);
}

/// fi_enable(3).
///
/// # Safety
/// The endpoint is alive and bound to what it needs.
pub unsafe fn fi_enable(ep: *mut fid_ep) -> c_int {
    // SAFETY: the caller's promise is what the call asks for.
    unsafe { fi_control(&raw mut (*ep).fid, FI_ENABLE as c_int, std::ptr::null_mut()) }
}

/// fi_control(3) with FI_GETWAIT, of a queue that waits by FI_WAIT_FD: its descriptor.
///
/// # Safety
/// The queue is alive and was opened with FI_WAIT_FD.
pub unsafe fn fi_getwait(queue: *mut fid, fd: &mut c_int) -> c_int {
    // SAFETY: of such a queue the argument is an int.
    unsafe { fi_control(queue, FI_GETWAIT as c_int, std::ptr::from_mut(fd).cast()) }
}

/// fi_control(3) with FI_BACKLOG.
///
/// # Safety
/// The endpoint is alive.
pub unsafe fn fi_backlog(pep: *mut fid_pep, mut backlog: c_int) -> c_int {
    // SAFETY: the argument is an int.
    unsafe { fi_control(&raw mut (*pep).fid, FI_BACKLOG as c_int, (&raw mut backlog).cast()) }
}

/// fi_getopt(3) with FI_OPT_CM_DATA_SIZE: how many bytes go along with a connection request.
///
/// # Safety
/// The endpoint is alive.
pub unsafe fn fi_cm_data_size(ep: *mut fid_ep, size: &mut usize) -> c_int {
    let mut len = size_of::<usize>();
    // SAFETY: the option is a size_t.
    unsafe {
        match (*(*ep).ops).getopt {
            Some(call) => call(
                &raw mut (*ep).fid,
                FI_OPT_ENDPOINT as c_int,
                FI_OPT_CM_DATA_SIZE as c_int,
                std::ptr::from_mut(size).cast(),
                &mut len,
            ),
            None => LACKING,
        }
    }
}

/// fi_cq_strerror(3): the provider's own words for an errno of its own. May be null.
///
/// # Safety
/// The queue is alive; `data` is what fi_cq_readerr(3) gave along; `buf` has room for `len`.
pub unsafe fn fi_cq_strerror(
    cq: *mut fid_cq,
    errno: c_int,
    data: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> *const c_char {
    // SAFETY: the caller's promise is what the call asks for.
    unsafe {
        match (*(*cq).ops).strerror {
            Some(call) => call(cq, errno, data, buf, len),
            None => std::ptr::null(),
        }
    }
}

/// fi_eq_strerror(3), as above.
///
/// # Safety
/// The queue is alive; `data` is what fi_eq_readerr(3) gave along; `buf` has room for `len`.
pub unsafe fn fi_eq_strerror(
    eq: *mut fid_eq,
    errno: c_int,
    data: *const c_void,
    buf: *mut c_char,
    len: usize,
) -> *const c_char {
    // SAFETY: the caller's promise is what the call asks for.
    unsafe {
        match (*(*eq).ops).strerror {
            Some(call) => call(eq, errno, data, buf, len),
            None => std::ptr::null(),
        }
    }
}
