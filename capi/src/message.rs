//! zmq_msg_*: messages of one part in the 64 bytes that C sets aside for them. Sends and receives through `socket.rs`.

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use fabriq::Frame;

use crate::{Result, export, text};

/// What every living message begins with; anything else is no message (EFAULT).
const LIVE: u32 = 0x6d73_6721;
const INLINE: usize = 40;
/// Frames up to this size hold their bytes themselves, so their address changes when they move.
const FRAME_INLINE: usize = Frame::INLINE_MAX;

const MORE: c_int = 1;
const SRCFD: c_int = 2;
const SHARED: c_int = 3;

/// zmq_msg_t.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Msg {
    live: u32,
    more: bool,
    shared: bool,
    /// `Peer-Address`, where it is known.
    peer: Option<Box<CString>>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    Writable(Vec<u8>),
    /// Larger than FRAME_INLINE.
    Shared(Box<Frame>),
}

/// The memory that a caller passes for a message, which may hold anything yet.
pub type RawMsg = MaybeUninit<Msg>;

const _: () = assert!(size_of::<Msg>() <= 64 && align_of::<Msg>() <= 8);

pub type FreeFn = unsafe extern "C" fn(data: *mut c_void, hint: *mut c_void);

impl Msg {
    fn empty() -> Self {
        Self {
            live: LIVE,
            more: false,
            shared: false,
            peer: None,
            content: Content::Inline { len: 0, bytes: [0; INLINE] },
        }
    }

    /// A received part. Small ones are copied, so that the application may write to them.
    pub(crate) fn received(frame: Frame, more: bool) -> Self {
        let content = match frame.len() {
            len @ ..=INLINE => {
                let mut bytes = [0; INLINE];
                bytes[..len].copy_from_slice(&frame);
                Content::Inline { len: len as u8, bytes }
            }
            ..=FRAME_INLINE => Content::Writable(frame.to_vec()),
            _ => Content::Shared(Box::new(frame)),
        };
        Self { live: LIVE, more, shared: false, peer: None, content }
    }

    /// The same, from the peer at that address.
    pub(crate) fn with_peer(mut self, address: Option<CString>) -> Self {
        self.peer = address.map(Box::new);
        self
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Content::Writable(bytes) => bytes,
            Content::Shared(frame) => frame,
        }
    }

    /// The part to send. The message stays as it is, and its bytes where they are.
    pub(crate) fn frame(&mut self) -> Frame {
        if let Content::Writable(bytes) = &mut self.content
            && bytes.len() > FRAME_INLINE
        {
            self.content = Content::Shared(Box::new(std::mem::take(bytes).into()));
        }
        match &self.content {
            Content::Shared(frame) => Frame::clone(frame),
            _ => Frame::copy_from_slice(self.bytes()),
        }
    }
}

/// Writes a message where C keeps it. What was there is not dropped.
pub(crate) unsafe fn put(at: *mut RawMsg, msg: Msg) -> Result<()> {
    if at.is_null() {
        return Err(libc::EFAULT);
    }
    // SAFETY: not NULL; the caller of the export passes 64 bytes aligned to 8 for a message.
    unsafe { at.write(MaybeUninit::new(msg)) };
    Ok(())
}

/// The living message at `at`.
pub(crate) unsafe fn live<'a>(at: *mut RawMsg) -> Result<&'a mut Msg> {
    if at.is_null() {
        return Err(libc::EFAULT);
    }
    // SAFETY: not NULL; the first four bytes of a message are initialised by zmq_msg_init*, and what they say is looked
    // at before anything else.
    let word = unsafe { at.cast::<u32>().read_volatile() };
    if word != LIVE {
        return Err(libc::EFAULT);
    }
    // SAFETY: LIVE was written by `put` with the whole message, and close takes it away; C passes a message to one call
    // at a time.
    Ok(unsafe { &mut *at.cast::<Msg>() })
}

unsafe fn close(at: *mut RawMsg) -> Result<()> {
    // SAFETY: as for the caller.
    let msg = unsafe { live(at) }?;
    let content = std::mem::replace(msg, Msg::empty());
    msg.live = 0;
    drop(content);
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_init(msg: *mut RawMsg) -> c_int {
    // SAFETY: a message of the caller's.
    export(-1, || unsafe { put(msg, Msg::empty()) }.map(|()| 0))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_init_size(msg: *mut RawMsg, size: usize) -> c_int {
    export(-1, || {
        let mut fresh = Msg::empty();
        match &mut fresh.content {
            Content::Inline { len, .. } if size <= INLINE => *len = size as u8,
            content => {
                let mut bytes = Vec::new();
                bytes.try_reserve_exact(size).map_err(|_| libc::ENOMEM)?;
                bytes.resize(size, 0);
                *content = Content::Writable(bytes);
            }
        }
        // SAFETY: a message of the caller's.
        unsafe { put(msg, fresh) }.map(|()| 0)
    })
}

/// `free` may run on any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_init_data(
    msg: *mut RawMsg,
    data: *mut c_void,
    size: usize,
    free: Option<FreeFn>,
    hint: *mut c_void,
) -> c_int {
    export(-1, || {
        let (start, hint_address) = (data.expose_provenance(), hint.expose_provenance());
        let run = move || {
            if let Some(free) = free {
                let data = ptr::with_exposed_provenance_mut(start);
                let hint = ptr::with_exposed_provenance_mut(hint_address);
                // SAFETY: the function that the caller gave, with its own arguments, once.
                unsafe { free(data, hint) }
            }
        };
        // SAFETY: the caller keeps the bytes in place and unchanged until `free` is called.
        let frame = unsafe { Frame::from_raw(data.cast(), size, run) };
        let content = Content::Shared(Box::new(frame));
        // SAFETY: a message of the caller's.
        unsafe { put(msg, Msg { live: LIVE, more: false, shared: free.is_none(), peer: None, content }) }
            .map(|()| 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_close(msg: *mut RawMsg) -> c_int {
    // SAFETY: a message of the caller's.
    export(-1, || unsafe { close(msg) }.map(|()| 0))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_move(to: *mut RawMsg, from: *mut RawMsg) -> c_int {
    export(-1, || {
        // SAFETY: messages of the caller's.
        unsafe { live(to) }?;
        // SAFETY: as above; the reference ends with this statement.
        let taken = std::mem::replace(unsafe { live(from) }?, Msg::empty());
        // SAFETY: as above. If both are the same message, it gets its content back.
        drop(std::mem::replace(unsafe { live(to) }?, taken));
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_copy(to: *mut RawMsg, from: *mut RawMsg) -> c_int {
    export(-1, || {
        // SAFETY: messages of the caller's.
        unsafe { live(to) }?;
        let copy = {
            // SAFETY: as above; the reference ends with this block.
            let from = unsafe { live(from) }?;
            let mut copy = Msg::received(from.frame(), from.more);
            from.shared |= matches!(from.content, Content::Shared(_));
            copy.shared = from.shared;
            copy
        };
        // SAFETY: as above.
        drop(std::mem::replace(unsafe { live(to) }?, copy));
        Ok(0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_data(msg: *mut RawMsg) -> *mut c_void {
    export(ptr::null_mut(), || {
        // SAFETY: a message of the caller's.
        Ok(match &mut unsafe { live(msg) }?.content {
            Content::Inline { bytes, .. } => bytes.as_mut_ptr().cast(),
            Content::Writable(bytes) => bytes.as_mut_ptr().cast(),
            // C has no const here; writing to what is shared is the caller's mistake, in libzmq as well.
            Content::Shared(frame) => frame.as_ptr().cast_mut().cast(),
        })
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_size(msg: *const RawMsg) -> usize {
    // SAFETY: a message of the caller's, only read.
    export(0, || Ok(unsafe { live(msg.cast_mut()) }?.bytes().len()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_more(msg: *const RawMsg) -> c_int {
    // SAFETY: as for the caller.
    unsafe { zmq_msg_get(msg, MORE) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_get(msg: *const RawMsg, property: c_int) -> c_int {
    export(-1, || {
        // SAFETY: a message of the caller's, only read.
        let msg = unsafe { live(msg.cast_mut()) }?;
        match property {
            MORE => Ok(msg.more.into()),
            SHARED => Ok(msg.shared.into()),
            // Which link a message came by is not kept.
            SRCFD => Ok(-1),
            _ => Err(libc::EINVAL),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_set(_: *mut RawMsg, _: c_int, _: c_int) -> c_int {
    // No property can be set.
    export(-1, || Err(libc::EINVAL))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_msg_gets(msg: *const RawMsg, property: *const c_char) -> *const c_char {
    export(ptr::null(), || {
        // SAFETY: a message of the caller's, only read.
        let msg = unsafe { live(msg.cast_mut()) }?;
        // SAFETY: a string of the caller's.
        let property = unsafe { text(property) }?;
        // Of peers no more is kept.
        msg.peer.as_ref().filter(|_| property == "Peer-Address").map(|peer| peer.as_ptr()).ok_or(libc::EINVAL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn raw() -> RawMsg {
        MaybeUninit::zeroed()
    }

    #[test]
    fn sizes_of_every_kind_move_and_copy() {
        for size in [0, 1, INLINE, INLINE + 1, FRAME_INLINE, FRAME_INLINE + 1, 100_000] {
            let (mut a, mut b) = (raw(), raw());
            // SAFETY: a and b are messages, initialised here first and closed last.
            unsafe {
                assert_eq!(zmq_msg_init_size(&mut a, size), 0);
                assert_eq!(zmq_msg_size(&a), size);
                zmq_msg_data(&mut a).cast::<u8>().write_bytes(7, size);
                assert_eq!(zmq_msg_init(&mut b), 0);
                assert_eq!(zmq_msg_copy(&mut b, &mut a), 0);
                for msg in [&mut a, &mut b] {
                    assert_eq!(live(msg).unwrap().bytes(), vec![7; size]);
                }
                assert_eq!(zmq_msg_move(&mut a, &mut b), 0);
                assert_eq!(zmq_msg_move(&mut a, &raw mut a), 0);
                assert_eq!((zmq_msg_size(&a), zmq_msg_size(&b)), (size, 0));
                assert_eq!((zmq_msg_close(&mut a), zmq_msg_close(&mut b)), (0, 0));
                assert_eq!(zmq_msg_close(&mut a), -1);
                assert_eq!(crate::errno::zmq_errno(), libc::EFAULT);
            }
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut none = raw();
        // SAFETY: NULL and zeroes are what this test is about.
        unsafe {
            for msg in [ptr::null_mut(), &raw mut none] {
                assert_eq!(zmq_msg_close(msg), -1);
                assert!(zmq_msg_data(msg).is_null());
                assert_eq!(zmq_msg_size(msg), 0);
                assert_eq!(zmq_msg_more(msg), -1);
                assert_eq!(zmq_msg_move(msg, msg), -1);
                assert_eq!(crate::errno::zmq_errno(), libc::EFAULT);
            }
            assert_eq!(zmq_msg_init(ptr::null_mut()), -1);
            assert_eq!(zmq_msg_init_size(&mut none, usize::MAX), -1);
            assert_eq!(crate::errno::zmq_errno(), libc::ENOMEM);
        }
    }

    #[test]
    fn the_free_function_runs_once_after_the_last_copy() {
        static FREED: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "C" fn free(data: *mut c_void, hint: *mut c_void) {
            assert!(!data.is_null() && hint.is_null());
            FREED.fetch_add(1, Ordering::Relaxed);
        }
        let mut data = *b"some bytes";
        let (mut a, mut b) = (raw(), raw());
        // SAFETY: `data` outlives both messages.
        unsafe {
            zmq_msg_init_data(&mut a, data.as_mut_ptr().cast(), data.len(), Some(free), ptr::null_mut());
            zmq_msg_init(&mut b);
            assert_eq!(zmq_msg_data(&mut a), data.as_mut_ptr().cast());
            zmq_msg_copy(&mut b, &mut a);
            zmq_msg_close(&mut a);
            zmq_msg_close(&mut b);
        }
        assert_eq!(FREED.load(Ordering::Relaxed), 1);
    }
}
