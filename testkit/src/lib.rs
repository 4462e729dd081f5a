//! The conformance suite that every fabriq transport instantiates, and simulated media to run it on.
