//! The simulated RDMA fabric under the conformance suite, and what the suite cannot see: credit, keys, faults.

use fabriq_testkit::media::Fabric;

fabriq_testkit::conformance!(fabric, Fabric::new(1), skipped = 2);
fabriq_testkit::conformance_ciphered!(ciphered, Fabric::new(3), skipped = 3);
fabriq_testkit::conformance_faulty!(faulty, Fabric::new(5), seed = 5, skipped = 3);
