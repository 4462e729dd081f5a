//! The promises of the seam as a list of properties, and the macro that makes a test of each. Decides what applies to
//! a subject by its capabilities alone.

mod endings;
mod follow;
mod links;
mod memory;
mod traffic;
mod wakeups;

use transport_core::{Capabilities, Delivery, Flow, Topology};

use crate::subject::Subject;
use crate::world::capabilities;

/// What decides whether a property applies.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What a duplex socket, or a sender, is offered.
    pub capabilities: Capabilities,
    /// Whether the subject knows an address where nobody listens.
    pub nobody: bool,
    /// Whether drivers may be on threads of their own.
    pub threaded: bool,
}

impl Shape {
    fn of(subject: &dyn Subject) -> Self {
        let capabilities = capabilities(&*subject.transport(), &subject.fresh());
        Self { capabilities, nobody: subject.nobody().is_some(), threaded: subject.threaded() }
    }
}

/// What a property needs before it applies; the text is why it is skipped otherwise.
type Need = fn(&Shape) -> Result<(), &'static str>;

fn duplex(shape: &Shape) -> Result<(), &'static str> {
    (shape.capabilities.flow == Flow::Duplex).then_some(()).ok_or("parts travel one way only")
}
fn unicast(shape: &Shape) -> Result<(), &'static str> {
    (shape.capabilities.topology == Topology::Unicast).then_some(()).ok_or("one link stands for many peers")
}
fn reliable(shape: &Shape) -> Result<(), &'static str> {
    (shape.capabilities.delivery == Delivery::Reliable).then_some(()).ok_or("parts may go missing")
}
fn gaps(shape: &Shape) -> Result<(), &'static str> {
    (shape.capabilities.delivery == Delivery::GapReported).then_some(()).ok_or("parts never go missing")
}
fn pushback(shape: &Shape) -> Result<(), &'static str> {
    shape.capabilities.pushback.then_some(()).ok_or("a receiver cannot slow the sender down")
}
fn nobody(shape: &Shape) -> Result<(), &'static str> {
    shape.nobody.then_some(()).ok_or("there is no address that answers no")
}
fn threaded(shape: &Shape) -> Result<(), &'static str> {
    shape.threaded.then_some(()).ok_or("its clock is invented, so no thread can sleep on it")
}

/// One promise of the seam.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Its name, which is that of its test.
    pub name: &'static str,
    needs: &'static [Need],
    run: fn(&dyn Subject),
}

impl Property {
    /// Why it does not apply to a subject, if so.
    fn skipped(&self, shape: &Shape, subject: &dyn Subject) -> Option<&'static str> {
        let exempt = subject.exempt().into_iter().find(|(name, _)| *name == self.name).map(|(_, why)| why);
        exempt.or_else(|| self.needs.iter().find_map(|need| need(shape).err()))
    }
}

macro_rules! properties {
    ($($module:ident :: $name:ident [$($need:ident)*];)*) => {
        /// Every property, in the order in which they build on each other.
        pub const PROPERTIES: &[Property] = &[
            $(Property { name: stringify!($name), needs: &[$($need),*], run: $module::$name },)*
        ];
    };
}

properties! {
    links::up_precedes_traffic [];
    links::exactly_one_down [];
    links::hello_and_identity_reach_the_peer [duplex];
    links::wildcard_bind_reports_its_real_port [];
    links::address_in_use [unicast];
    links::connection_refused_is_a_completion [nobody];
    links::stale_ids_are_closed [];
    links::close_open_keeps_links [];
    links::close_open_silences_an_open [];
    links::two_links_do_not_mix [duplex unicast reliable];
    links::both_ends_in_one_driver [duplex];
    links::dropping_a_driver_ends_its_links [unicast];
    links::part_max_is_enforced [duplex unicast reliable];
    traffic::sent_is_cumulative_and_complete [];
    traffic::fifo_per_link [];
    traffic::multipart_is_atomic [];
    traffic::empty_and_huge_messages [];
    traffic::a_refused_send_returns_its_message [pushback];
    traffic::writable_follows_refusal [pushback reliable];
    traffic::writable_follows_a_room_of_zero [pushback reliable];
    traffic::grant_bounds_delivery [pushback reliable];
    traffic::a_grant_smaller_than_a_multipart_does_not_deadlock [pushback reliable];
    traffic::commands_pass_a_full_pipe [duplex pushback reliable];
    traffic::slow_consumer [pushback reliable];
    traffic::budget_is_respected [];
    traffic::a_flush_needs_no_poll [duplex reliable];
    traffic::gap_counts_are_exact [gaps];
    endings::returned_only_for_what_the_device_never_saw [];
    endings::abort_at_every_step [];
    endings::drain_at_every_step [];
    endings::a_drain_delivers_a_full_pipe [pushback reliable];
    endings::a_drain_gives_up_in_time [pushback];
    endings::an_ending_that_both_sides_want [unicast];
    endings::a_peer_that_reads_nothing_can_still_be_left [pushback];
    memory::pool_slots_return_to_zero [];
    memory::both_pools_pinned_still_progress [duplex reliable];
    memory::no_allocation_per_message_when_warm [reliable];
    memory::one_frame_may_be_under_way_many_times [];
    memory::copies_are_counted_once_and_never_forgotten [];
    wakeups::an_idle_driver_lets_its_caller_sleep [];
    wakeups::no_lost_wakeup_between_arm_and_sleep [duplex reliable threaded];
}

fn find(name: &str) -> &'static Property {
    PROPERTIES
        .iter()
        .find(|property| property.name == name)
        .expect("the macro and the list name the same properties")
}

/// Runs one property, or says why it does not apply. For the macro.
///
/// # Panics
/// When the property does not hold.
pub fn run(name: &str, subject: &dyn Subject) {
    let property = find(name);
    match property.skipped(&Shape::of(subject), subject) {
        Some(why) => println!("skipped {name}: {why}"),
        None => (property.run)(subject),
    }
}

/// Lists what is skipped and checks the counts, so that a suite that silently runs nothing fails. For the macro.
///
/// # Panics
/// When the tests made are not the properties known, or another number than `expected` is skipped.
pub fn account(names: &[&str], subject: &dyn Subject, expected: usize) {
    let known: Vec<_> = PROPERTIES.iter().map(|property| property.name).collect();
    assert_eq!(names, known, "the macro makes other tests than the list has");
    for (name, _) in subject.exempt() {
        assert!(known.contains(&name), "exempt from `{name}`, which is no property");
    }
    let shape = Shape::of(subject);
    let skipped: Vec<_> =
        PROPERTIES.iter().filter_map(|p| Some((p.name, p.skipped(&shape, subject)?))).collect();
    for (name, why) in &skipped {
        println!("skipped {name}: {why}");
    }
    println!("{} of {} properties apply", known.len() - skipped.len(), known.len());
    assert_eq!(
        skipped.len(),
        expected,
        "another number of properties is skipped than expected: {skipped:#?}"
    );
}

/// Makes a module of tests, one per property of the seam, for a [`Subject`]. `skipped` is how many do not apply, by
/// the subject's capabilities and its own exemptions; the test `every_property_is_accounted_for` lists them.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $subject:expr, skipped = $skipped:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the subject may be named by a path")]
            use super::*;
            $crate::conformance_tests! { $subject, $skipped;
                up_precedes_traffic
                exactly_one_down
                hello_and_identity_reach_the_peer
                wildcard_bind_reports_its_real_port
                address_in_use
                connection_refused_is_a_completion
                stale_ids_are_closed
                close_open_keeps_links
                close_open_silences_an_open
                two_links_do_not_mix
                both_ends_in_one_driver
                dropping_a_driver_ends_its_links
                part_max_is_enforced
                sent_is_cumulative_and_complete
                fifo_per_link
                multipart_is_atomic
                empty_and_huge_messages
                a_refused_send_returns_its_message
                writable_follows_refusal
                writable_follows_a_room_of_zero
                grant_bounds_delivery
                a_grant_smaller_than_a_multipart_does_not_deadlock
                commands_pass_a_full_pipe
                slow_consumer
                budget_is_respected
                a_flush_needs_no_poll
                gap_counts_are_exact
                returned_only_for_what_the_device_never_saw
                abort_at_every_step
                drain_at_every_step
                a_drain_delivers_a_full_pipe
                a_drain_gives_up_in_time
                an_ending_that_both_sides_want
                a_peer_that_reads_nothing_can_still_be_left
                pool_slots_return_to_zero
                both_pools_pinned_still_progress
                no_allocation_per_message_when_warm
                one_frame_may_be_under_way_many_times
                copies_are_counted_once_and_never_forgotten
                an_idle_driver_lets_its_caller_sleep
                no_lost_wakeup_between_arm_and_sleep
            }
        }
    };
}

/// Like [`conformance!`], with every part ciphered and every link admitted late. For duplex subjects.
#[macro_export]
macro_rules! conformance_ciphered {
    ($name:ident, $subject:expr, skipped = $skipped:expr) => {
        $crate::conformance!($name, $crate::middleware::CipheredSubject($subject), skipped = $skipped);
    };
}

/// Like [`conformance!`], with refusals, late Writables and tiny polls by a seed.
#[macro_export]
macro_rules! conformance_faulty {
    ($name:ident, $subject:expr, seed = $seed:expr, skipped = $skipped:expr) => {
        $crate::conformance!($name, $crate::middleware::FaultySubject($subject, $seed), skipped = $skipped);
    };
}

/// The inner part of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($subject:expr, $skipped:expr; $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::conformance::run(stringify!($property), &$subject);
            }
        )*
        #[test]
        fn every_property_is_accounted_for() {
            $crate::conformance::account(&[$(stringify!($property)),*], &$subject, $skipped);
        }
    };
}
