//! inproc:// for fabriq: messages between sockets of one context, moved and never copied.
