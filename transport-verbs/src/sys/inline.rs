//! What rdma-core's headers have as static inline functions or macros, and so in no library: the calls of the data
//! path, which go through a table of the device's, and a few compatibility shims. Same names, same meaning.

use std::mem::offset_of;
use std::os::raw::{c_int, c_uint, c_void};

use super::{
    _compat_ibv_port_attr, Verbs, ibv_context, ibv_cq, ibv_mr, ibv_pd, ibv_port_attr, ibv_qp, ibv_recv_wr,
    ibv_send_wr, ibv_srq, ibv_wc,
};

// ibv_poll_cq(3) and its like read these tables without looking: their place must be what the library's is.
const _: () = {
    assert!(size_of::<usize>() == 8, "librdmacm and libibverbs are bound for 64-bit machines only");
    assert!(offset_of!(ibv_context, ops) == 8);
    assert!(offset_of!(ibv_cq, context) == 0);
    assert!(offset_of!(ibv_qp, context) == 0);
    assert!(offset_of!(ibv_srq, context) == 0);
};

/// `ibv_poll_cq(3)`: how many of `wc[..entries]` were filled in, or negative.
///
/// # Safety
/// `cq` is a live completion queue, and `wc` has room for `entries`.
#[inline]
pub unsafe fn ibv_poll_cq(cq: *mut ibv_cq, entries: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: every provider sets the call, and the caller vouches for the arguments.
    unsafe {
        match (*(*cq).context).ops.poll_cq {
            Some(call) => call(cq, entries, wc),
            None => -libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_req_notify_cq(3)`: 0 or an errno.
///
/// # Safety
/// `cq` is a live completion queue with a completion channel.
#[inline]
pub unsafe fn ibv_req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: as in `ibv_poll_cq`.
    unsafe {
        match (*(*cq).context).ops.req_notify_cq {
            Some(call) => call(cq, solicited_only),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_send(3)`: 0 or an errno, and then the first request that was not posted in `bad`.
///
/// # Safety
/// `qp` is a live queue pair; `wr` heads a list of requests whose memory stays as it is until they complete, but for
/// what is posted inline.
#[inline]
pub unsafe fn ibv_post_send(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad: *mut *mut ibv_send_wr) -> c_int {
    // SAFETY: as in `ibv_poll_cq`.
    unsafe {
        match (*(*qp).context).ops.post_send {
            Some(call) => call(qp, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_recv(3)`: 0 or an errno, and then the first request that was not posted in `bad`.
///
/// # Safety
/// `qp` is a live queue pair without a shared receive queue; `wr` heads a list of requests whose memory nobody touches
/// until they complete.
#[inline]
pub unsafe fn ibv_post_recv(qp: *mut ibv_qp, wr: *mut ibv_recv_wr, bad: *mut *mut ibv_recv_wr) -> c_int {
    // SAFETY: as in `ibv_poll_cq`.
    unsafe {
        match (*(*qp).context).ops.post_recv {
            Some(call) => call(qp, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// `ibv_post_srq_recv(3)`: 0 or an errno, and then the first request that was not posted in `bad`.
///
/// # Safety
/// `srq` is a live shared receive queue; `wr` as for `ibv_post_recv`.
#[inline]
pub unsafe fn ibv_post_srq_recv(
    srq: *mut ibv_srq,
    wr: *mut ibv_recv_wr,
    bad: *mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: as in `ibv_poll_cq`.
    unsafe {
        match (*(*srq).context).ops.post_srq_recv {
            Some(call) => call(srq, wr, bad),
            None => libc::EOPNOTSUPP,
        }
    }
}

/// Access flags that a device may ignore. `ibv_reg_mr` takes them only by way of `ibv_reg_mr_iova2`.
pub const IBV_ACCESS_OPTIONAL_RANGE: c_uint = 0x3ff0_0000;

/// The macro `ibv_reg_mr`: the function of that name, or its successor for flags that it does not know.
///
/// # Safety
/// `pd` is live and `start..start + len` is mapped.
pub unsafe fn reg_mr(
    verbs: &Verbs,
    pd: *mut ibv_pd,
    start: *mut c_void,
    len: usize,
    access: c_uint,
) -> *mut ibv_mr {
    // SAFETY: the caller's promise is what both calls ask for.
    unsafe {
        if access & IBV_ACCESS_OPTIONAL_RANGE == 0 {
            verbs.ibv_reg_mr(pd, start, len, access as c_int)
        } else {
            verbs.ibv_reg_mr_iova2(pd, start, len, start as u64, access)
        }
    }
}

/// The start of `struct verbs_context`, the part that surrounds an [`ibv_context`]. It grows at its front, so that
/// every member is found by its distance from the end.
type QueryPort = unsafe extern "C" fn(*mut ibv_context, u8, *mut ibv_port_attr, usize) -> c_int;

/// How far before the `context` inside a `verbs_context` its members stand.
pub const VERBS_CONTEXT_SIZE_BEFORE: usize = 8;
/// As above, for `query_port`.
pub const VERBS_CONTEXT_QUERY_PORT_BEFORE: usize = 320;

/// `abi_compat` of a context that stands in a `verbs_context`.
const VERBS_ABI_IS_EXTENDED: usize = usize::MAX;

/// The macro `ibv_query_port`: the device's own call where it has one, and the exported function, which knows an older
/// `ibv_port_attr`, where not. 0 or an errno.
///
/// # Safety
/// `context` is live.
pub unsafe fn query_port(
    verbs: &Verbs,
    context: *mut ibv_context,
    port: u8,
    attributes: &mut ibv_port_attr,
) -> c_int {
    // SAFETY: a live context whose `abi_compat` says so stands inside a `verbs_context` of at least the members between
    // `sz` and itself; `sz` is the size of the whole, so `query_port` exists if that is large enough.
    unsafe {
        if (*context).abi_compat.addr() == VERBS_ABI_IS_EXTENDED {
            let base = context.cast::<u8>();
            let size = base.sub(VERBS_CONTEXT_SIZE_BEFORE).cast::<usize>().read();
            if size >= VERBS_CONTEXT_QUERY_PORT_BEFORE + size_of::<ibv_context>() {
                let call = base.sub(VERBS_CONTEXT_QUERY_PORT_BEFORE).cast::<Option<QueryPort>>().read();
                if let Some(call) = call {
                    return call(context, port, attributes, size_of::<ibv_port_attr>());
                }
            }
        }
        *attributes = std::mem::zeroed();
        let old = std::ptr::from_mut(attributes).cast::<_compat_ibv_port_attr>();
        verbs.ibv_query_port(context, port, old)
    }
}
