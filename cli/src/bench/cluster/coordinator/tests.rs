//! The coordinator among simulated ranks: no traffic, no clock but the test's.

use std::collections::{BTreeSet, VecDeque};

use super::*;
use crate::bench::cluster::environment::Environment;
use crate::bench::cluster::options::tests::options;
use crate::bench::cluster::protocol::{FlowFound, Kind};

/// What a simulated rank does instead of what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quirk {
    /// Never comes.
    Absent,
    /// Its connection ends in this phase of its second step, or the next that gets there.
    Dies(Phase),
    /// It says nothing from this phase of its second step on.
    Hangs(Phase),
    /// Says of its second step that it failed.
    Fails,
    OldVersion,
    OtherBuild,
    OtherJob,
    OtherCount,
    OtherOptions,
    Lacks(&'static str),
}

/// A world of simulated ranks and a coordinator.
struct World {
    coordinator: Coordinator,
    now: Instant,
    quirks: BTreeMap<u32, Quirk>,
    tasks: BTreeMap<u32, (u32, Task)>,
    silent: BTreeSet<u32>,
    dead: BTreeSet<u32>,
    records: Vec<Record>,
    goodbyes: BTreeSet<u32>,
    orders: usize,
    /// Flows of each step, as its ranks were told.
    flows: BTreeMap<u32, BTreeSet<Flow>>,
    environment: Environment,
}

fn party(ranks: u32) -> Party {
    Party { version: "1".to_owned(), sources: 1, ranks, job: Some("7".to_owned()) }
}

impl World {
    fn new(arguments: &[&str], ranks: u32, quirks: &[(u32, Quirk)]) -> Self {
        let now = Instant::now();
        let coordinator = Coordinator::new(options(arguments).unwrap(), party(ranks), now).unwrap();
        let quirks = quirks.iter().copied().collect();
        Self {
            coordinator,
            now,
            quirks,
            tasks: BTreeMap::new(),
            silent: BTreeSet::new(),
            dead: BTreeSet::new(),
            records: Vec::new(),
            goodbyes: BTreeSet::new(),
            orders: 0,
            flows: BTreeMap::new(),
            environment: Environment::of_this_host(),
        }
    }

    fn hello(&self, rank: u32) -> Say {
        let quirk = self.quirks.get(&rank);
        let mut told = serde_json::to_value(&self.coordinator.options).unwrap();
        if quirk == Some(&Quirk::OtherOptions) {
            told["sizes"] = serde_json::json!([7]);
        }
        let mut party = self.coordinator.party.clone();
        match quirk {
            Some(Quirk::OldVersion) => party.version = "0".to_owned(),
            Some(Quirk::OtherBuild) => party.sources ^= 1,
            Some(Quirk::OtherJob) => party.job = Some("8".to_owned()),
            Some(Quirk::OtherCount) => party.ranks += 1,
            _ => {}
        }
        let lacks = match quirk {
            Some(Quirk::Lacks(scheme)) => {
                BTreeMap::from([((*scheme).to_owned(), "no such device".to_owned())])
            }
            _ => BTreeMap::new(),
        };
        Say::Hello(Box::new(Hello {
            party,
            host: format!("n{rank}"),
            pid: 1,
            options: told,
            lacks,
            environment: self.environment.clone(),
        }))
    }

    /// What a rank answers to an order, if it does.
    fn answer(&mut self, rank: u32, order: Order) -> Option<Input> {
        let (phase, say) = match order {
            Order::Prepare(task) => {
                let step = task.step;
                for traffic in &task.traffics {
                    assert!(traffic.flows.iter().all(|flow| flow.from == rank || flow.to == rank));
                    self.flows.entry(step).or_default().extend(&traffic.flows);
                }
                let count = self.tasks.get(&rank).map_or(0, |task| task.0);
                let endpoints = vec![vec![format!("tcp://n{rank}:{step}")]; task.traffics.len()];
                self.tasks.insert(rank, (count + 1, *task));
                (Phase::Binding, Say::Bound { step, endpoints })
            }
            Order::Connect { step, endpoints } => {
                for flow in self.tasks[&rank].1.traffics[0].flows.iter() {
                    assert_eq!(endpoints[0][&flow.to], [format!("tcp://n{}:{step}", flow.to)]);
                }
                (Phase::Connecting, Say::Connected { step })
            }
            Order::Start { step } => (Phase::Warming, Say::Steady { step }),
            Order::Measure { step } => (Phase::Measuring, Say::Measured { step }),
            Order::Stop { step } => (Phase::Stopping, Say::Found { step, found: Box::new(self.found(rank)) }),
            Order::Abort { step } => (Phase::Aborting, Say::Aborted { step }),
            Order::Bye => {
                assert!(self.goodbyes.insert(rank), "two goodbyes to rank {rank}");
                return None;
            }
            Order::Welcome | Order::Refused { .. } | Order::Finish { .. } | Order::Nothing => return None,
        };
        let is_second = self.tasks.get(&rank).is_some_and(|task| task.0 >= 2);
        match self.quirks.get(&rank) {
            Some(Quirk::Dies(at)) if is_second && *at == phase => {
                self.dead.insert(rank);
                return Some(Input::LinkDown);
            }
            Some(Quirk::Hangs(at)) if is_second && *at == phase => {
                self.silent.insert(rank);
            }
            Some(Quirk::Fails) if self.tasks[&rank].0 == 2 && phase == Phase::Warming => {
                let step = self.tasks[&rank].1.step;
                return Some(Input::Said(
                    rank,
                    Say::Failed { step, why: "no memory".to_owned(), corrupt: false },
                ));
            }
            _ => {}
        }
        (!self.silent.contains(&rank)).then_some(Input::Said(rank, say))
    }

    fn found(&self, rank: u32) -> Found {
        let traffic = &self.tasks[&rank].1.traffics[0];
        let measures =
            |flow: &&Flow| if traffic.kind.is_latency() { flow.from == rank } else { flow.to == rank };
        let flows = traffic.flows.iter().filter(measures).map(|flow| FlowFound {
            from: flow.from,
            to: (traffic.kind != Kind::Pool).then_some(flow.to),
            messages: 10,
            seconds: 1.0,
            latencies: if traffic.kind.is_latency() { vec![(1000, 10)] } else { Vec::new() },
            ..FlowFound::default()
        });
        Found { flows: flows.collect(), verified: 10, steady: true, ..Found::default() }
    }

    /// Runs to the end, the time passing only while all wait.
    fn run(mut self) -> Self {
        let ranks = self.coordinator.members.len() as u32;
        let mut inputs: VecDeque<Input> = (0..ranks)
            .filter(|rank| self.quirks.get(rank) != Some(&Quirk::Absent))
            .map(|rank| Input::Said(rank, self.hello(rank)))
            .collect();
        while !self.coordinator.is_over() {
            match inputs.pop_front() {
                Some(input) => self.coordinator.handle(self.now, input),
                None => {
                    self.now = self.coordinator.deadline().expect("it waits for something");
                    self.coordinator.tick(self.now);
                }
            }
            loop {
                let outputs = self.coordinator.outputs();
                if outputs.is_empty() {
                    break;
                }
                for output in outputs {
                    match output {
                        Output::Order(rank, _) if self.dead.contains(&rank) => {
                            self.coordinator.handle(self.now, Input::Gone(rank));
                        }
                        Output::Order(rank, order) => {
                            self.orders += 1;
                            inputs.extend(self.answer(rank, order));
                        }
                        Output::Record(record) => self.records.push(record),
                        Output::Begin { .. } | Output::Now { .. } => {}
                    }
                }
            }
        }
        assert!(matches!(self.records.last(), Some(Record::End(_))));
        self
    }

    fn faults(&self) -> Vec<(Option<u32>, String)> {
        let faults = self.records.iter().filter_map(|record| match record {
            Record::Fault(fault) => Some((fault.rank, fault.why.clone())),
            _ => None,
        });
        faults.collect()
    }

    fn steps(&self) -> Vec<&Step> {
        let steps = self.records.iter().filter_map(|record| match record {
            Record::Step(step) => Some(&**step),
            _ => None,
        });
        steps.collect()
    }
}

const ALL: [&str; 4] = ["--size", "64", "--no-baseline", "--only=latency"];

#[test]
fn all_is_measured_when_all_goes_well() {
    let world = World::new(&["--size", "64"], 4, &[]).run();
    assert_eq!(world.faults(), []);
    // Pair twice and its raw loops, matrix 3 + 6, ring 2, incast 2, fan-out 2, all-to-all 2, pool 1.
    assert_eq!(world.steps().len(), 4 + 9 + 2 + 2 + 2 + 2 + 1);
    assert_eq!(world.goodbyes, BTreeSet::from([0, 1, 2, 3]));
    let total = &world.steps()[world.steps().len() - 1].total;
    assert_eq!(total.latency.as_ref().unwrap().p50_us, 1.0);
}

#[test]
fn a_rank_that_dies_or_hangs_in_any_phase_is_named_and_the_rest_is_measured_without_it() {
    let phases = [Phase::Binding, Phase::Connecting, Phase::Warming, Phase::Measuring, Phase::Stopping];
    for phase in phases {
        for quirk in [Quirk::Dies(phase), Quirk::Hangs(phase)] {
            let world = World::new(&ALL, 4, &[(2, quirk)]).run();
            let faults = world.faults();
            assert_eq!(faults.len(), 1, "{quirk:?}: {faults:?}");
            assert_eq!(faults[0].0, Some(2), "{quirk:?}");
            assert!(faults[0].1.contains("rank 2 on n2"), "{quirk:?}: {faults:?}");
            // The pair and six rounds, one of which was repeated without rank 2's flow; then one of each.
            let topologies: Vec<_> = world.steps().iter().map(|step| step.item.topology.name()).collect();
            for topology in ["pair", "matrix", "ring", "incast", "all-to-all", "pool"] {
                assert!(topologies.contains(&topology), "{quirk:?}: no {topology} in {topologies:?}");
            }
            let last = world.steps().len() - 1;
            assert!(world.steps()[last].flows.iter().all(|flow| flow.from != 2 && flow.to != Some(2)));
            let told: BTreeSet<u32> = match quirk {
                Quirk::Dies(_) => [0, 1, 3].into(),
                // It may wake up.
                _ => [0, 1, 2, 3].into(),
            };
            assert_eq!(world.goodbyes, told, "{quirk:?}");
        }
    }
}

#[test]
fn a_step_that_fails_with_every_rank_alive_is_told_and_not_repeated() {
    let world = World::new(&ALL, 4, &[(1, Quirk::Fails)]).run();
    let faults = world.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].0.is_none() && faults[0].1.contains("rank 1 (n1): no memory"), "{faults:?}");
    // All but the one.
    assert_eq!(world.steps().len(), World::new(&ALL, 4, &[]).run().steps().len() - 1);
}

#[test]
fn ranks_that_disagree_or_do_not_come_are_named_and_the_others_go_on() {
    for (quirk, part) in [
        (Quirk::Absent, "did not come within 60 s"),
        (Quirk::OldVersion, "its version is 0, and that of rank 0 is 1"),
        (Quirk::OtherBuild, "it is another build of 1 than rank 0: copy one program"),
        (Quirk::OtherJob, "it is of job 8, and rank 0 is of job 7"),
        (
            Quirk::OtherCount,
            "its run has 5 ranks, and that of rank 0 has 4: give every rank the same --ranks",
        ),
        (Quirk::OtherOptions, "its `sizes` is [7], and that of rank 0 is [64]"),
    ] {
        let world = World::new(&ALL, 4, &[(3, quirk)]).run();
        let faults = world.faults();
        assert!(faults.len() == 1 && faults[0].0 == Some(3) && faults[0].1.contains(part), "{faults:?}");
        assert!(!world.tasks.contains_key(&3) && world.tasks.len() == 3);
        assert_eq!(world.coordinator.verdict().refused, quirk != Quirk::Absent);
    }
}

#[test]
fn a_transport_that_a_host_lacks_is_measured_between_the_others() {
    let arguments = [&ALL[..], &["--transport", "tcp", "--transport", "verbs"]].concat();
    let world = World::new(&arguments, 3, &[(1, Quirk::Lacks("verbs"))]).run();
    let faults = world.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0], (Some(1), "rank 1 (n1) lacks verbs: no such device".to_owned()));
    let of = |scheme: &str| -> BTreeSet<u32> {
        let steps = world.steps().into_iter().filter(|step| step.item.scheme() == scheme);
        steps.flat_map(|step| step.flows.iter().map(|flow| flow.from)).collect()
    };
    assert_eq!((of("tcp"), of("verbs")), ([0, 1, 2].into(), [0, 2].into()));
}

#[test]
fn what_nobody_can_run_is_skipped_with_its_reason() {
    let quirks = [0, 1, 2].map(|rank| (rank, Quirk::Lacks("tcp")));
    let world = World::new(&ALL, 3, &quirks).run();
    let skipped: Vec<_> =
        world.records.iter().filter(|record| matches!(record, Record::Skipped(_))).collect();
    // One for each topology.
    assert_eq!((skipped.len(), world.steps().len()), (7, 0));
    assert_eq!(world.faults().len(), 3);
}

#[test]
fn what_a_window_comes_to_is_shown_while_figures_count() {
    let mut world = World::new(&["--topology", "pair", "--only", "throughput"], 2, &[]);
    let now = world.now;
    let hellos = [0, 1].map(|rank| (rank, world.hello(rank)));
    hellos.into_iter().for_each(|(rank, hello)| world.coordinator.handle(now, Input::Said(rank, hello)));
    let step = 1;
    for say in [
        Say::Bound { step, endpoints: vec![Vec::new()] },
        Say::Connected { step },
        Say::Steady { step },
        Say::Measured { step },
    ] {
        world.coordinator.outputs();
        world.coordinator.handle(now, Input::Said(1, Say::Now { step, figure: 7.0 }));
        let shown = world.coordinator.outputs().contains(&Output::Now { rank: 1, figure: 7.0 });
        assert_eq!(shown, matches!(say, Say::Measured { .. }), "before {say:?}");
        for rank in [0, 1] {
            world.coordinator.handle(now, Input::Said(rank, say.clone()));
        }
    }
    world.coordinator.handle(now, Input::Said(1, Say::Now { step: 1, figure: 7.0 }));
    assert!(
        !world.coordinator.outputs().iter().any(|output| matches!(output, Output::Now { .. })),
        "too late"
    );
}

#[test]
fn an_interrupted_run_ends_the_step_under_way_and_says_goodbye() {
    let mut world = World::new(&ALL, 2, &[]);
    let now = world.now;
    for rank in [0, 1] {
        let hello = world.hello(rank);
        world.coordinator.handle(now, Input::Said(rank, hello));
    }
    world.coordinator.outputs();
    world.coordinator.handle(now, Input::Interrupted("SIGTERM ended it".to_owned()));
    let aborts = |output: &Output| matches!(output, Output::Order(_, Order::Abort { step: 1 }));
    assert_eq!(world.coordinator.outputs().iter().filter(|output| aborts(output)).count(), 2);
    // One of the ranks has got the signal as well, and the other answers.
    let leaving = Say::Leaving { why: "SIGTERM ended it".to_owned() };
    world.coordinator.handle(now, Input::Said(1, leaving));
    world.coordinator.handle(now, Input::Said(1, Say::Aborted { step: 1 }));
    world.coordinator.handle(now, Input::Said(0, Say::Aborted { step: 1 }));
    assert!(world.coordinator.is_over());
    let outputs = world.coordinator.outputs();
    let end = outputs.iter().find_map(|output| match output {
        Output::Record(Record::End(end)) => end.interrupted.clone(),
        _ => None,
    });
    assert_eq!(end.as_deref(), Some("SIGTERM ended it"));
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Order(_, Order::Bye))).count(), 2);
    assert!(world.coordinator.verdict().interrupted && world.coordinator.verdict().faults == 0);
}

#[test]
fn a_signal_to_one_rank_loses_that_rank_and_a_signal_to_all_interrupts_whoever_hears_it_first() {
    for all in [false, true] {
        let mut world = World::new(&ALL, 4, &[]);
        let now = world.now;
        for rank in 0..4 {
            let hello = world.hello(rank);
            world.coordinator.handle(now, Input::Said(rank, hello));
        }
        for rank in if all { 1..4 } else { 1..2 } {
            let leaving = Say::Leaving { why: "SIGTERM ended it".to_owned() };
            world.coordinator.handle(now, Input::Said(rank, leaving));
        }
        world.coordinator.tick(now + LEAVING_GRACE);
        let verdict = world.coordinator.verdict();
        assert_eq!((verdict.interrupted, verdict.faults), (all, usize::from(!all)), "all: {all}");
    }
}

#[test]
fn the_time_limit_leaves_the_rest_and_says_how_much() {
    let arguments = [&ALL[..], &["--limit", "15s"]].concat();
    // One that hangs takes time.
    let world = World::new(&arguments, 3, &[(2, Quirk::Hangs(Phase::Warming))]).run();
    let skipped = world.records.iter().find_map(|record| match record {
        Record::Skipped(skipped) => Some(skipped.why.as_str()),
        _ => None,
    });
    assert!(skipped.is_some_and(|why| why.ends_with("were left when --limit 15 s was over")), "{skipped:?}");
    // The fault is that of rank 2: what a limit leaves out was asked for.
    assert_eq!(world.coordinator.verdict().faults, 1);
}

#[test]
fn a_rank_that_comes_twice_or_late_or_is_none_is_refused() {
    let mut world = World::new(&ALL, 3, &[]);
    let now = world.now;
    let refusal = |world: &mut World, of: u32| {
        let outputs = world.coordinator.outputs();
        outputs.into_iter().find_map(|output| match output {
            Output::Order(rank, Order::Refused { why }) if rank == of => Some(why),
            _ => None,
        })
    };
    let hello = world.hello(1);
    world.coordinator.handle(now, Input::Said(9, hello.clone()));
    assert!(refusal(&mut world, 9).unwrap().contains("there are 3 ranks"));
    world.coordinator.handle(now, Input::Said(1, hello.clone()));
    assert_eq!(refusal(&mut world, 1), None);
    world.coordinator.handle(now, Input::Said(1, hello));
    assert!(refusal(&mut world, 1).unwrap().contains("its connection broke"));
    world.coordinator.handle(now, Input::Said(0, world.hello(0)));
    world.coordinator.tick(now + Duration::from_secs(60));
    world.coordinator.outputs();
    world.coordinator.handle(now, Input::Said(2, world.hello(2)));
    assert!(refusal(&mut world, 2).unwrap().contains("--join"));
}

#[test]
fn a_thousand_ranks_are_led_through_every_topology() {
    let arguments =
        ["--size", "64", "--only", "throughput", "--no-baseline", "--topology", "incast,fan-out,ring"];
    let quirks =
        [(17, Quirk::Dies(Phase::Connecting)), (900, Quirk::Hangs(Phase::Measuring)), (33, Quirk::Absent)];
    let world = World::new(&arguments, 1000, &quirks).run();
    let ranks: BTreeSet<_> = world.faults().into_iter().map(|fault| fault.0.unwrap()).collect();
    assert_eq!(ranks, BTreeSet::from([17, 33, 900]));
    let flows: Vec<_> = world.steps().iter().map(|step| step.flows.len()).collect();
    assert_eq!(flows, [998, 996, 997]);
    let lengths = world.records.iter().map(|record| serde_json::to_string(record).unwrap().len());
    assert!(lengths.max().unwrap() < 600 << 10);
    // What it costs: seven orders to each rank of a step, whatever flows it has.
    assert!(world.orders < 1000 * (2 + 7 * 5), "{}", world.orders);
}

#[test]
fn of_a_million_flows_a_report_keeps_the_worst_and_the_total_of_all() {
    let arguments = ["--size", "64", "--only", "throughput", "--no-baseline", "--topology", "all-to-all"];
    let world = World::new(&arguments, 1000, &[]).run();
    let steps = world.steps();
    let [step] = steps.as_slice() else { panic!("{} steps", steps.len()) };
    let all = 1000 * 999;
    assert_eq!(
        (step.flows.len() + step.flows_left_out, step.total.messages_per_second),
        (all, all as f64 * 10.0)
    );
    assert!(serde_json::to_string(step).unwrap().len() < 1 << 20);
}

#[test]
fn a_matrix_has_every_link_once() {
    let arguments = ["--size", "64", "--only", "throughput", "--no-baseline", "--topology", "matrix"];
    let world = World::new(&arguments, 100, &[]).run();
    assert_eq!((world.steps().len(), world.faults()), (2 * 99, vec![]));
    let links: BTreeSet<_> = world.flows.values().flatten().copied().collect();
    assert_eq!(links.len(), 100 * 99);
}

#[test]
fn steps_that_all_fail_are_given_up() {
    let mut coordinator =
        Coordinator::new(options(&["--topology", "matrix"]).unwrap(), party(20), Instant::now()).unwrap();
    let world = World::new(&[], 20, &[]);
    let now = world.now;
    coordinator.options = world.coordinator.options.clone();
    for rank in 0..20 {
        coordinator.handle(now, Input::Said(rank, world.hello(rank)));
    }
    let mut count = 0;
    while !coordinator.is_over() {
        for output in coordinator.outputs() {
            let Output::Order(rank, order) = output else { continue };
            match order {
                Order::Prepare(task) if rank == 0 => {
                    count += 1;
                    let failed = Say::Failed { step: task.step, why: "no".to_owned(), corrupt: false };
                    coordinator.handle(now, Input::Said(rank, failed));
                }
                Order::Abort { step } => coordinator.handle(now, Input::Said(rank, Say::Aborted { step })),
                _ => {}
            }
        }
    }
    assert_eq!(count, FAILED_STEPS_MAX);
}

#[test]
fn a_number_that_no_rank_has_is_a_fault_told_once_and_its_process_is_sent_home() {
    let mut world = World::new(&ALL, 2, &[]);
    let mut hello = world.hello(2);
    if let Say::Hello(hello) = &mut hello {
        hello.party.ranks = 3;
    }
    for _ in 0..2 {
        world.coordinator.handle(world.now, Input::Said(2, hello.clone()));
        let outputs = world.coordinator.outputs();
        let orders: Vec<_> = outputs.iter().filter(|out| matches!(out, Output::Order(..))).collect();
        assert!(
            matches!(
                orders[..],
                [Output::Order(2, Order::Refused { why }), Output::Order(2, Order::Bye)] if why.contains("--ranks")
            ),
            "{outputs:?}"
        );
        world.records.extend(outputs.into_iter().filter_map(|out| match out {
            Output::Record(record) => Some(record),
            _ => None,
        }));
    }
    let world = world.run();
    let faults = world.faults();
    assert!(
        faults.len() == 1 && faults[0].0 == Some(2) && faults[0].1.contains("its run has 3 ranks"),
        "{faults:?}"
    );
    assert!(world.coordinator.verdict().refused && !world.steps().is_empty());
}

#[test]
fn a_rank_that_has_said_why_it_leaves_is_lost_for_that() {
    let mut world = World::new(&ALL, 3, &[]);
    for rank in [0, 1, 2] {
        let hello = world.hello(rank);
        world.coordinator.handle(world.now, Input::Said(rank, hello));
    }
    world
        .coordinator
        .handle(world.now, Input::Said(2, Say::Leaving { why: "it does not understand".to_owned() }));
    world.coordinator.handle(world.now, Input::Gone(2));
    let outputs = world.coordinator.outputs();
    let fault = outputs.iter().find_map(|output| match output {
        Output::Record(Record::Fault(fault)) => Some(fault.why.as_str()),
        _ => None,
    });
    assert_eq!(fault, Some("rank 2 on n2: it does not understand"));
}
