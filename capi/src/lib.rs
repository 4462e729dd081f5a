//! A private C ABI on fabriq, so that the test programs of libzmq judge its semantics. Not a supported interface yet.
