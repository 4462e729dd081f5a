//! tcp:// for fabriq: byte streams that carry ZMTP 3.1 frames.
