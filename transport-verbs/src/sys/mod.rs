//! The foreign interface of libibverbs and librdmacm, as C has it: types, functions loaded at run time, and the inline
//! functions of the headers. Everything is unsafe and means what its manual page says; `crate::device` is the safe
//! side.
//!
//! ```text
//! bindings/   bindgen's output, checked in; made by transport-verbs/bindings/generate
//! libraries   finds and loads both libraries, once
//! inline      what the headers have as static inline functions or macros
//! layout      compares the types with the headers that are installed (test only)
//! ```

mod inline;
mod libraries;

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
    pub mod cm;
    pub mod verbs;
}

pub use bindings::cm::*;
pub use bindings::verbs::*;
pub use inline::*;
pub use libraries::{Libraries, LibraryError};
