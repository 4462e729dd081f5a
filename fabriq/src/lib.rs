//! ZeroMQ sockets over the fastest wire that each endpoint URL names.
