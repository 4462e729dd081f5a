//! The subjects by wall clock, with criterion. No verdict: compare on one quiet machine only.

use criterion::{Criterion, Throughput};
use fabriq_benches::subjects::{CASES, OPERATIONS};
use std::cell::OnceCell;
use std::time::{Duration, Instant};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for subject in CASES.chunk_by(|a, b| a.subject == b.subject) {
        let mut group = criterion.benchmark_group(subject[0].subject);
        group.throughput(Throughput::Elements(OPERATIONS));
        for case in subject {
            // Made when criterion runs it: a filter may leave it out, and some take a second.
            let mut work = OnceCell::new();
            group.bench_function(case.case, |bencher| {
                work.get_or_init(case.make);
                let work = work.get_mut().expect("just made");
                bencher.iter_custom(|runs| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..runs {
                        work.prepare();
                        let began = Instant::now();
                        work.run();
                        spent += began.elapsed();
                    }
                    spent
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
