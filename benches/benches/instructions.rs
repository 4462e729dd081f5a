//! The subjects by count of instructions, with gungraun under callgrind. `ci/instructions` runs it and compares; alone
//! it needs gungraun-runner and valgrind.

// gungraun's macros make public items of these functions.
#![allow(missing_docs)]

use fabriq_benches::subjects::{self, Work};
use fabriq_benches::with_cases;
use gungraun::Callgrind;
use gungraun::prelude::*;

macro_rules! instructions {
    ($($subject:ident { $($case:ident: $make:expr;)+ })+) => {
        $(
            #[library_benchmark]
            $(#[bench::$case(subjects::warm(stringify!($subject), stringify!($case)))])+
            fn $subject(mut work: Box<dyn Work>) -> Box<dyn Work> {
                work.run();
                // Returned, so that its end is not counted.
                work
            }
        )+

        library_benchmark_group!(name = cases, benchmarks = [$($subject),+]);
    };
}

with_cases!(instructions);

main!(
    // Counts of instructions only: a simulated cache is nobody's cache, and takes as long again.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = cases
);
