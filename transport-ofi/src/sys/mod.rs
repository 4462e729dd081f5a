//! The foreign interface of libfabric, as C has it: types, functions loaded at run time, and the inline functions of
//! the headers. Everything is unsafe and means what its manual page says; `crate::device` is the safe side.
//!
//! ```text
//! bindings/   bindgen's output, checked in; made by transport-ofi/bindings/generate
//! flags       capabilities, modes and flags, as the 64 bits that calls take
//! calls       what the headers have as static inline functions, which call through tables of the provider's
//! library     finds and loads the library, once
//! settings    what it is to read in the environment meanwhile
//! layout      compares all of it with the headers that are installed (test only)
//! ```

mod calls;
mod flags;
mod library;
mod settings;
mod signals;

#[cfg(test)]
mod layout;

// Generated: the style is bindgen's, the names are C's.
#[allow(
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    pub mod ofi;
}

pub use bindings::ofi::*;
pub use calls::*;
pub use flags::*;
pub use library::{API_VERSION, Library, LibraryError, VERSION_MIN, Version};
