//! Benchmarks of fabriq: instruction counts, wall clock, and peers side by side in one run.
