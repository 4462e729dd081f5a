//! The simulated byte stream under the conformance suite, and what the suite cannot see: every split, garbage, resets.

use fabriq_testkit::media::Stream;

fabriq_testkit::conformance!(stream, Stream::new(1), skipped = 2);
fabriq_testkit::conformance!(small_buffers, Stream::with_buffer(2, 3001), skipped = 2);
fabriq_testkit::conformance_ciphered!(ciphered, Stream::new(3), skipped = 3);
fabriq_testkit::conformance_faulty!(faulty, Stream::new(4), seed = 4, skipped = 3);
