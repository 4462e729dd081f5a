//! The sockets of fabriq: patterns, ZMTP sessions and the engine. Sees transports only through the seam.
