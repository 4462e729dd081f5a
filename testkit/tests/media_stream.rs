//! The simulated byte stream under the conformance suite, and what the suite cannot see: every split, garbage, resets.

use fabriq_testkit::media::Stream;

fabriq_testkit::conformance!(stream, Stream::new(1), skipped = 0);
