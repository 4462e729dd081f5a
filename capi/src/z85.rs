//! Z85, binary data as printable text (RFC 32): zmq_z85_encode and zmq_z85_decode. Four bytes are five digits of base 85.

use std::ffi::{c_char, c_void};

use crate::export;

const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

fn encode(bytes: &[u8]) -> Option<Vec<u8>> {
    let (words, rest) = bytes.as_chunks::<4>();
    let digits = |word: &[u8; 4]| {
        let word = u32::from_be_bytes(*word);
        [85_u32.pow(4), 85_u32.pow(3), 85_u32.pow(2), 85, 1].map(|place| DIGITS[(word / place % 85) as usize])
    };
    rest.is_empty().then(|| words.iter().flat_map(digits).collect())
}

/// `None`: no Z85, or a word that does not fit 32 bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, rest) = text.as_chunks::<5>();
    let mut bytes = Vec::with_capacity(groups.len() * 4);
    for group in groups {
        let mut word = 0_u32;
        for digit in group {
            let value = DIGITS.iter().position(|known| known == digit)?;
            word = word.checked_mul(85)?.checked_add(value as u32)?;
        }
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    rest.is_empty().then_some(bytes)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_z85_encode(text: *mut c_char, data: *const u8, len: usize) -> *mut c_char {
    export(std::ptr::null_mut(), || {
        if !len.is_multiple_of(4) {
            return Err(libc::EINVAL);
        }
        if text.is_null() || (data.is_null() && len > 0) {
            return Err(libc::EFAULT);
        }
        // SAFETY: not NULL unless empty; the caller says that so many bytes are there.
        let bytes = if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, len) } };
        let mut encoded = encode(bytes).ok_or(libc::EINVAL)?;
        encoded.push(0);
        // SAFETY: the caller has room for five characters for each four bytes, and a NUL (zmq_z85_encode(3)).
        unsafe { std::ptr::copy_nonoverlapping(encoded.as_ptr(), text.cast::<u8>(), encoded.len()) };
        Ok(text)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn zmq_z85_decode(data: *mut u8, text: *const c_char) -> *mut u8 {
    export(std::ptr::null_mut(), || {
        if text.is_null() || data.is_null() {
            return Err(libc::EFAULT);
        }
        // SAFETY: a string of the caller's that ends with NUL.
        let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes();
        let decoded = decode(text).ok_or(libc::EINVAL)?;
        // SAFETY: the caller has room for four bytes for each five characters (zmq_z85_decode(3)).
        unsafe {
            std::ptr::copy_nonoverlapping(decoded.as_ptr().cast::<c_void>(), data.cast(), decoded.len())
        };
        Ok(data)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        // RFC 32 section "Test Case".
        let bytes = [0x86, 0x4F, 0xD2, 0x6F, 0xB5, 0x59, 0xF7, 0x5B];
        assert_eq!(encode(&bytes).unwrap(), b"HelloWorld");
        assert_eq!(decode(b"HelloWorld").unwrap(), bytes);
        for word in [0, 1, u32::MAX] {
            assert_eq!(decode(&encode(&word.to_be_bytes()).unwrap()).unwrap(), word.to_be_bytes());
        }
        for (bytes, text) in [(&[0; 3][..], &b"0000"[..]), (&[0; 5], b"####\""), (&[0; 1], b"#####")] {
            assert!(encode(bytes).is_none() && decode(text).is_none());
        }
    }
}
