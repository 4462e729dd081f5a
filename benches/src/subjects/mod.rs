//! What the micro-benches measure, written once for both of them. Measures nothing itself.
//!
//! A run of a subject is [`OPERATIONS`] operations, so that what surrounds them does not show.

mod codec;
mod frame;
mod matcher;
mod pipe;

/// Operations in one run of any subject.
pub const OPERATIONS: u64 = 1000;

/// Something to measure, with all that it needs to run again and again.
pub trait Work {
    /// Gets ready for one run. Not measured.
    fn prepare(&mut self) {}
    /// [`OPERATIONS`] operations. Measured. Panics if they do not do what they are measured for.
    fn run(&mut self);
}

/// One case of a subject.
pub struct Case {
    /// What is measured.
    pub subject: &'static str,
    /// How.
    pub case: &'static str,
    /// Makes it, which may take seconds.
    pub make: fn() -> Box<dyn Work>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.subject, self.case)
    }
}

/// Hands every case to a macro: its subject, its name, and what makes it.
#[macro_export]
macro_rules! with_cases {
    ($apply:ident) => {
        $apply! {
            codec {
                encode_64_b: codec::encode;
                decode_64_b: codec::decode;
                large_header: codec::large_header;
            }
            matcher {
                hit_1k: || matcher::hit(1_000);
                miss_1k: || matcher::miss(1_000);
                hit_100k: || matcher::hit(100_000);
                miss_100k: || matcher::miss(100_000);
                hit_1m: || matcher::hit(1_000_000);
                miss_1m: || matcher::miss(1_000_000);
            }
            pipe {
                one_by_one: || pipe::batches(1);
                batches_of_10: || pipe::batches(10);
                batches_of_500: || pipe::batches(500);
            }
            frame {
                inline: frame::inline;
                pool_slot: frame::pool_slot;
                clone_inline: frame::clone_inline;
                clone_slot: frame::clone_slot;
                drop_inline: frame::drop_inline;
                drop_slot: frame::drop_slot;
            }
        }
    };
}

macro_rules! cases {
    ($($subject:ident { $($case:ident: $make:expr;)+ })+) => {
        /// Every case.
        pub const CASES: &[Case] =
            &[$($(Case { subject: stringify!($subject), case: stringify!($case), make: $make },)+)+];
    };
}

with_cases!(cases);

/// One case, warm: it has run twice, so that a run allocates nothing, and is ready for the next.
///
/// # Panics
/// There is no such case.
#[must_use]
pub fn warm(subject: &str, case: &str) -> Box<dyn Work> {
    let found = CASES.iter().find(|each| each.subject == subject && each.case == case);
    let mut work = (found.expect("CASES has it").make)();
    for _ in 0..2 {
        work.prepare();
        work.run();
    }
    work.prepare();
    work
}
