//! `fabriq bench cluster` as processes on the loopback: every topology, and ranks that die, hang, disagree or lack something.
//! Judges that figures are there and verified, not how good they are.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use support::{Finished, Running, fabriq, run};

/// Short, small, and patient enough for a busy machine.
const SHORT: [&str; 8] = ["--size", "64", "--duration", "40ms", "--warmup", "20ms", "--timeout", "20s"];

/// A port that nobody else of these tests has.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below those that the system hands to clients, and unlike those of another run of the tests.
    let process = (std::process::id() % 400) as u16;
    let port = 11_000 + process * 20 + NEXT.fetch_add(1, Ordering::Relaxed);
    std::net::TcpListener::bind(("127.0.0.1", port)).map_or_else(|_| port + 8000, |_| port)
}

fn out(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{name}"))
}

/// A run that has begun: rank 0, and the others.
struct Cluster {
    first: Running,
    others: Vec<Child>,
    out: PathBuf,
}

fn rank(rank: usize, ranks: usize, url: &str, arguments: &[&str]) -> Command {
    let (rank, ranks) = (rank.to_string(), ranks.to_string());
    let place = ["bench", "cluster", "--rank", &rank, "--ranks", &ranks, "--coordinator", url];
    fabriq(&[&place[..], arguments].concat())
}

impl Cluster {
    fn start(name: &str, ranks: usize, arguments: &[&str]) -> Self {
        let same = |_| arguments.to_vec();
        Self::start_each(name, ranks, same)
    }

    /// Each rank with arguments of its own.
    fn start_each<'a>(name: &str, ranks: usize, arguments: impl Fn(usize) -> Vec<&'a str>) -> Self {
        let (url, out) = (format!("tcp://127.0.0.1:{}", port()), out(name));
        let others = (1..ranks).map(|other| rank(other, ranks, &url, &arguments(other)).spawn().unwrap());
        let others = others.collect();
        let own = [arguments(0), vec!["--out", out.to_str().unwrap()]].concat();
        let first = Running::spawn(rank(0, ranks, &url, &own));
        Self { first, others, out }
    }

    /// Waits for all; what rank 0 said, the report, and the exit codes of the others.
    fn finish(self) -> (Finished, Value, Vec<Option<i32>>) {
        let first = self.first.finish();
        let others = self.others.into_iter().map(|mut other| other.wait().unwrap().code()).collect();
        let report = std::fs::read_to_string(self.out.with_extension("json")).unwrap();
        let report = serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {first:?}"));
        (first, report, others)
    }

    fn page(name: &str) -> String {
        std::fs::read_to_string(out(name).with_extension("html")).unwrap()
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn faults(report: &Value) -> Vec<String> {
    let faults = report["faults"].as_array().unwrap().iter();
    faults.map(|fault| fault["why"].as_str().unwrap().to_owned()).collect()
}

/// `topology kind`, each once, in the order of measuring.
fn measured(report: &Value) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for step in report["steps"].as_array().unwrap() {
        let name = format!("{} {}", step["topology"].as_str().unwrap(), step["kind"].as_str().unwrap());
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Every figure that a measurement must have is there, and makes sense.
fn assert_figures(report: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("no number: {report}"));
    for step in report["steps"].as_array().unwrap() {
        let total = &step["total"];
        assert!(step["verified"].as_u64() > Some(0) && number(&total["messages_per_second"]) > 0.0, "{step}");
        let is_latency = ["echo", "pool", "survey", "raw_echo"].contains(&step["kind"].as_str().unwrap());
        assert_eq!(total["latency"].is_object(), is_latency, "{step}");
        if is_latency {
            let names = ["min_us", "p50_us", "p90_us", "p99_us", "p99_9_us", "p99_99_us", "max_us"];
            let figures = names.map(|name| number(&total["latency"][name]));
            assert!(figures[0] > 0.0 && figures.is_sorted(), "{step}");
        }
        let is_raw = step["kind"].as_str().unwrap().starts_with("raw");
        for rank in step["ranks"].as_array().unwrap() {
            assert!(is_raw || number(&rank["cpu_seconds"]) > 0.0, "{rank}");
            assert!(is_raw || rank["resident_bytes"].as_u64() > Some(1 << 20), "{rank}");
        }
        if is_raw {
            assert!(number(&total["ratio"]) > 0.0, "{step}");
        } else if step["background"].is_null() {
            assert!(number(&total["cpu_ns_per_message"]) > 0.0, "{step}");
            // Messages so short are copied by every rank that has to do with them.
            assert!(number(&total["copied_per_byte"]) > 0.0, "{step}");
            let ranks = step["ranks"].as_array().unwrap();
            assert!(ranks.iter().any(|rank| rank["copied_bytes"].as_u64() > Some(0)), "{step}");
        }
    }
}

#[test]
fn every_topology_is_measured_and_verified_and_the_files_are_there() {
    let (first, report, others) = Cluster::start("all", 4, &SHORT).finish();
    assert_eq!((faults(&report), &*others), (vec![], &[Some(0); 3][..]), "{first:?}");
    let expected = [
        "pair echo",
        "pair raw_echo",
        "pair stream",
        "pair raw_stream",
        "matrix echo",
        "matrix stream",
        "ring echo",
        "ring stream",
        "incast echo",
        "incast stream",
        "fan-out survey",
        "fan-out publish",
        "all-to-all echo",
        "all-to-all stream",
        "pool pool",
    ];
    assert_eq!(measured(&report), expected);
    assert_figures(&report);
    let flows = |topology: &str, kind: &str| -> usize {
        let steps = report["steps"].as_array().unwrap().iter();
        let steps = steps.filter(|step| step["topology"] == topology && step["kind"] == kind);
        steps.map(|step| step["flows"].as_array().unwrap().len()).sum()
    };
    assert_eq!((flows("matrix", "echo"), flows("matrix", "stream")), (6, 12));
    assert_eq!((flows("ring", "stream"), flows("incast", "stream"), flows("fan-out", "publish")), (4, 3, 3));
    assert_eq!(flows("fan-out", "survey"), 3);
    assert_eq!((flows("all-to-all", "stream"), flows("pool", "pool")), (12, 2));
    assert!(report["end"]["interrupted"].is_null() && report["ranks"].as_array().unwrap().len() == 4);

    let table = first.printed();
    assert!(table.contains("tcp incast throughput, 64 B") && table.contains("messages verified"), "{table}");
    let page = Cluster::page("all");
    for part in [
        "Every link",
        "By message size",
        "Latency distribution",
        "class=\"cell",
        "incast",
        ">CPU/byte<",
        ">copied/byte<",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let csv = std::fs::read_to_string(out("all").with_extension("csv")).unwrap();
    assert!(csv.lines().filter(|line| line.contains(",all-to-all,")).count() > 24, "{csv}");
    let cells: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert!(
        csv.contains(",cpu_ns_per_byte,copied_per_byte,ratio\r\n") && cells.iter().all(|n| *n == cells[0]),
        "{csv}"
    );
    // The page can be made again, and from the lines alone.
    for ending in ["json", "jsonl"] {
        let again = run(&["bench", "report", out("all").with_extension(ending).to_str().unwrap()]).printed();
        assert_eq!(again, page, "{ending}");
    }
    // With itself, nothing is slower; what is no cluster's is refused.
    let json = out("all").with_extension("json");
    let compared = run(&["bench", "compare", json.to_str().unwrap(), json.to_str().unwrap()]).printed();
    assert!(compared.contains("tcp incast latency") && compared.contains("0 are slower"), "{compared}");
    let other = out("all-other.json");
    std::fs::write(&other, "{}").unwrap();
    let said = run(&["bench", "compare", json.to_str().unwrap(), other.to_str().unwrap()]).failed(2);
    assert!(said.contains("compare reports of one kind"), "{said}");
}

#[test]
fn sweeps_and_loads_are_measured() {
    let more =
        ["--parts", "1", "--parts", "4", "--links", "2", "--threads", "2", "--hwm", "10", "--rate", "500"];
    let load = ["--background", "1K", "--topology", "pair,incast,pool,fan-out"];
    let (first, report, _) = Cluster::start("loads", 3, &[&SHORT[..], &more, &load].concat()).finish();
    assert_eq!(faults(&report), Vec::<String>::new(), "{first:?}");
    assert_figures(&report);
    let steps = report["steps"].as_array().unwrap();
    let of = |name: &str, value: u64| {
        steps.iter().filter(|step| step[name].as_f64() == Some(value as f64)).count()
    };
    assert!(of("parts", 4) > 0 && of("threads", 2) == steps.len() && of("hwm", 10) == steps.len());
    assert_eq!((of("rate", 500), of("background", 1024)), (6, 4));
    let background = steps.iter().find(|step| !step["background"].is_null()).unwrap();
    let flows = background["flows"].as_array().unwrap();
    assert!(flows.iter().any(|flow| flow["background"] == true && flow["messages"].as_u64() > Some(0)));
}

#[test]
fn a_fan_out_goes_by_multicast_too_beside_tcp() {
    let [.., a, b] = std::process::id().to_be_bytes();
    let url = format!("epgm://lo;239.195.{a}.{b}:7511?rate_kbit=100000");
    let transports = ["--transport", "tcp", "--transport", &url, "--topology", "fan-out"];
    let (first, report, _) = Cluster::start("multicast", 3, &[&SHORT[..], &transports].concat()).finish();
    assert_eq!(faults(&report), Vec::<String>::new(), "{first:?}");
    let steps = report["steps"].as_array().unwrap();
    let lost: Vec<_> = steps.iter().map(|step| step["total"]["lost"].as_u64()).collect();
    // By multicast nothing comes back, and so there is no latency.
    assert_eq!(lost, [None, None, Some(0)], "{report}");
    assert_figures(&report);
}

/// What a rank does to itself when a line of rank 0's says that this measurement is next.
fn disturb(name: &str, after: &str, how: &str, timeout: &str) -> (Finished, Value, Vec<Option<i32>>) {
    let short =
        ["--size", "64", "--duration", "40ms", "--warmup", "20ms", "--no-baseline", "--timeout", timeout];
    let mut cluster = Cluster::start(name, 4, &short);
    let line = cluster.first.line_with(after);
    signal(&cluster.others[1], how);
    let mut killed = cluster.others.remove(1);
    let (mut first, report, others) = cluster.finish();
    // Whatever it is doing.
    let _ = killed.kill();
    killed.wait().unwrap();
    first.stderr.insert_str(0, &line);
    (first, report, others)
}

#[test]
fn a_rank_that_is_killed_is_named_in_any_topology_and_the_rest_finishes() {
    for (at, after) in
        ["pair throughput", "matrix latency", "ring latency", "incast latency", "fan-out"].iter().enumerate()
    {
        let (first, report, others) = disturb(&format!("killed-{at}"), after, "-KILL", "20s");
        assert_eq!((first.code, &*others), (Some(1), &[Some(0); 2][..]), "{after}: {first:?}");
        let faults = faults(&report);
        assert!(
            faults.len() == 1 && faults[0].contains("rank 2 on ") && faults[0].contains("died"),
            "{after}: {faults:?}"
        );
        assert_eq!(report["faults"][0]["rank"], 2);
        let measured = measured(&report);
        for name in [
            "pair echo",
            "matrix stream",
            "ring stream",
            "incast stream",
            "fan-out publish",
            "all-to-all stream",
            "pool pool",
        ] {
            assert!(measured.iter().any(|all| all == name), "{after}: no {name} in {measured:?}");
        }
        assert_figures(&report);
        let page = Cluster::page(&format!("killed-{at}"));
        assert!(page.contains("Failed: rank 2 on "), "{after}");
    }
}

#[test]
fn a_rank_that_hangs_is_named_and_the_rest_finishes() {
    let (first, report, others) = disturb("hung", "matrix latency", "-STOP", "2s");
    assert_eq!((first.code, &*others), (Some(1), &[Some(0); 2][..]), "{first:?}");
    let named: Vec<_> =
        report["faults"].as_array().unwrap().iter().map(|fault| fault["rank"].as_u64()).collect();
    assert!(named.contains(&Some(2)), "{report}");
    assert!(
        faults(&report).iter().any(|why| why.contains("rank 2 on ") && why.contains("hangs")),
        "{report}"
    );
    assert!(measured(&report).iter().any(|name| name == "pool pool"), "{report}");
}

#[test]
fn ranks_that_disagree_are_named_by_what_they_were_told() {
    let arguments = |rank: usize| {
        let size = if rank == 2 { "128" } else { "64" };
        vec!["--size", size, "--duration", "20ms", "--topology", "incast", "--timeout", "20s"]
    };
    let (first, report, others) = Cluster::start_each("disagree", 3, arguments).finish();
    assert_eq!((first.code, &*others), (Some(2), &[Some(0), Some(2)][..]), "{first:?}");
    let faults = faults(&report);
    assert!(
        faults.len() == 1 && faults[0].contains("its `sizes` is [128], and that of rank 0 is [64]"),
        "{faults:?}"
    );
    assert_eq!(measured(&report), ["incast echo", "incast stream"]);
}

#[test]
fn a_process_whose_number_no_rank_has_is_sent_home_and_named() {
    let (url, name) = (format!("tcp://127.0.0.1:{}", port()), out("stranger"));
    let arguments = [&SHORT[..], &["--topology", "pair", "--only", "latency"]].concat();
    let own = [&arguments[..], &["--out", name.to_str().unwrap()]].concat();
    let first = Running::spawn(rank(0, 2, &url, &own));
    // Rank 0 waits for rank 1 meanwhile.
    let stranger = Finished::from(rank(2, 3, &url, &arguments).output().unwrap());
    assert!(stranger.code == Some(2) && stranger.stderr.contains("--ranks"), "{stranger:?}");
    let mut other = rank(1, 2, &url, &arguments).spawn().unwrap();
    let (first, other) = (first.finish(), other.wait().unwrap());
    assert_eq!((first.code, other.code()), (Some(2), Some(0)), "{first:?}");
    let report = std::fs::read_to_string(name.with_extension("json")).unwrap();
    let faults = faults(&serde_json::from_str(&report).unwrap());
    assert!(faults.len() == 1 && faults[0].starts_with("rank 2 was refused"), "{faults:?}");
}

#[test]
fn a_rank_that_cannot_read_an_order_says_so_to_rank_0_and_on_stderr() {
    let context = fabriq::context().unwrap();
    let router = context.socket(fabriq::SocketType::Router).unwrap();
    let url = router.bind("tcp://127.0.0.1:*").unwrap().to_string();
    let running = Running::spawn(rank(1, 2, &url, &SHORT));
    let hello = router.recv().unwrap();
    let parts = |order: &str| {
        let mark = hello.part(1).unwrap().to_vec();
        fabriq::Message::from_parts([b"rank 1".to_vec(), mark, order.as_bytes().to_vec()]).unwrap()
    };
    router.send(parts("\"Welcome\"")).unwrap();
    router.send(parts("{\"Dance\":1}")).unwrap();
    let said = router.recv().unwrap();
    let said = String::from_utf8_lossy(said.body()).into_owned();
    assert!(said.contains("Leaving") && said.contains("unknown variant `Dance`"), "{said}");
    let finished = running.finish();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("it is another build; copy one program to all hosts"), "{finished:?}");
}

#[test]
fn a_rank_that_does_not_come_is_named_and_the_others_go_on() {
    let url = format!("tcp://127.0.0.1:{}", port());
    let arguments = [&SHORT[..], &["--topology", "pair", "--join", "1s", "--json"]].concat();
    let mut other = rank(1, 3, &url, &arguments).spawn().unwrap();
    let first = Finished::from(rank(0, 3, &url, &arguments).output().unwrap());
    assert!(other.wait().unwrap().success());
    assert_eq!(first.code, Some(1), "{first:?}");
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    let faults = faults(&report);
    assert!(faults.len() == 1 && faults[0].starts_with("rank 2: it did not come within 1 s"), "{faults:?}");
    assert!(measured(&report).contains(&"pair echo".to_owned()), "{report}");
    // Compared with a run to which it came, that is what is said, whatever the figures.
    let mut whole = report.clone();
    whole["faults"] = json!([]);
    let mut came = report["ranks"][1].clone();
    came["rank"] = json!(2);
    whole["ranks"].as_array_mut().unwrap().push(came);
    let write = |name: &str, report: &Value| {
        let path = out(name);
        std::fs::write(&path, report.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (before, after) = (write("whole.json", &whole), write("without-rank-2.json", &report));
    let compared = run(&["bench", "compare", &before, &after]);
    assert_eq!(compared.code, Some(5), "{compared:?}");
    let text = String::from_utf8(compared.stdout).unwrap();
    assert!(text.contains("MISSING rank 2: it did not come") && text.contains("1 is missing"), "{text}");
    run(&["bench", "compare", &after, &before]).printed();
    run(&["bench", "compare", &after, &after]).printed();
}

#[test]
fn a_transport_that_a_host_lacks_is_named_and_the_other_is_measured() {
    // What that rank's host has in the place of the library is none.
    let libraries = out("libraries");
    std::fs::create_dir_all(&libraries).unwrap();
    std::fs::write(libraries.join("libfabric.so.1"), "no library").unwrap();
    let transports =
        ["--transport", "ofi", "--transport", "tcp", "--topology", "pair", "--no-baseline", "--json"];
    let (url, arguments) = (format!("tcp://127.0.0.1:{}", port()), [&SHORT[..], &transports].concat());
    let mut other = rank(1, 2, &url, &arguments);
    let mut other = other.env("LD_LIBRARY_PATH", libraries).spawn().unwrap();
    let first = Finished::from(rank(0, 2, &url, &arguments).output().unwrap());
    assert!(other.wait().unwrap().success() && first.code == Some(1), "{first:?}");
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    let named = faults(&report);
    assert!(named.iter().any(|why| why.starts_with("rank 1 ") && why.contains(" lacks ofi: ")), "{named:?}");
    assert!(report["skipped"][0]["why"].as_str().unwrap().contains("two ranks that have ofi"), "{report}");
    assert_eq!(measured(&report), ["pair echo", "pair stream"]);
}

#[test]
fn ranks_that_are_bound_to_one_processor_are_named_with_the_remedy() {
    let allowed = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let one = allowed.split(['-', ',']).next().unwrap();
    let several = std::thread::available_parallelism().unwrap().get() > 1;
    let arguments = [&SHORT[..], &["--topology", "pair", "--only", "latency", "--no-baseline"]].concat();
    for bound in [true, false] {
        let url = format!("tcp://127.0.0.1:{}", port());
        let [mut first, mut other] = [0, 1].map(|at| {
            let rank = rank(at, 2, &url, &arguments);
            if bound && at == 1 {
                let mut command = Command::new("taskset");
                command.args(["-c", one]).arg(rank.get_program()).args(rank.get_args());
                return command;
            }
            rank
        });
        let mut other = other.stdout(Stdio::null()).spawn().unwrap();
        let first = Finished::from(first.output().unwrap());
        assert!(other.wait().unwrap().success());
        let said = first.printed();
        // A host of one processor has no other for anybody.
        assert_eq!(
            said.contains("Bound to one processor") && said.contains("--bind-to none"),
            bound && several,
            "{said}"
        );
        assert_eq!(said.contains("has it: rank 1 ("), bound && several, "{said}");
    }
}

#[test]
fn raw_libfabric_is_measured_beside_ofi_with_the_same_provider() {
    // With the provider that fabriq chooses, and with one that the URL names.
    let transports = ["--transport", "ofi", "--transport", "ofi://{address}:*?provider=tcp;ofi_rxm"];
    let arguments = [&SHORT[..], &transports, &["--topology", "pair"]].concat();
    let (first, report, _) = Cluster::start("ofi", 2, &arguments).finish();
    assert_eq!(faults(&report), Vec::<String>::new(), "{first:?}");
    assert_eq!(measured(&report), ["pair echo", "pair raw_echo", "pair stream", "pair raw_stream"]);
    assert_figures(&report);
    assert_eq!(report["steps"].as_array().unwrap().len(), 8, "{report}");
}

#[test]
fn signals_keep_what_was_measured() {
    for (at, name) in ["-INT", "-TERM"].into_iter().enumerate() {
        let file = format!("signal-{at}");
        let mut cluster =
            Cluster::start(&file, 3, &["--size", "64", "--duration", "40ms", "--timeout", "20s"]);
        cluster.first.line_with("pair latency");
        // As a launcher does it: to all.
        cluster.others.iter().for_each(|other| signal(other, name));
        signal(&cluster.first.child, name);
        let (first, report, _) = cluster.finish();
        assert_eq!(first.code, Some(1), "{first:?}");
        assert!(measured(&report).contains(&"pair echo".to_owned()), "{report}");
        assert!(!measured(&report).contains(&"pool pool".to_owned()), "{report}");
        let page = Cluster::page(&file);
        assert!(page.contains("interrupted") || page.contains("ended it"), "{page}");
    }
}

#[test]
fn a_second_ctrl_c_waits_for_nobody_and_the_files_are_written() {
    let arguments = ["--size", "64", "--duration", "40ms", "--timeout", "10m"];
    let mut cluster = Cluster::start("hurried", 3, &arguments);
    cluster.first.line_with("pair latency");
    // It will never say that it has given up.
    signal(&cluster.others[0], "-STOP");
    signal(&cluster.first.child, "-INT");
    cluster.first.line_with("Ctrl-C again");
    signal(&cluster.first.child, "-INT");
    let mut hung = cluster.others.remove(0);
    let (first, report, _) = cluster.finish();
    hung.kill().unwrap();
    hung.wait().unwrap();
    assert_eq!(first.code, Some(1), "{first:?}");
    // Nor was it waited for until its connection was taken for lost.
    assert_eq!(faults(&report), Vec::<String>::new(), "{first:?}");
    assert!(report["end"]["interrupted"].as_str().unwrap().contains("Ctrl-C"), "{report}");
    assert!(measured(&report).contains(&"pair echo".to_owned()), "{report}");
    assert!(Cluster::page("hurried").ends_with("</html>\n"));
}

#[test]
fn a_raw_loop_under_way_ends_at_a_signal_and_no_rank_is_said_to_hang() {
    for kind in ["latency", "throughput"] {
        let name = format!("raw-{kind}");
        // Far longer than a rank may be silent.
        let long = ["--size", "64", "--duration", "6s", "--warmup", "0", "--timeout", "2s"];
        let only = ["--topology", "pair", "--only", kind];
        let mut cluster = Cluster::start(&name, 2, &[&long[..], &only].concat());
        cluster.first.line_with(&format!("pair {kind}"));
        let threads = format!("/proc/{}/task", cluster.others[0].id());
        let loops = || {
            let names = std::fs::read_dir(&threads).unwrap().flatten();
            names.into_iter().any(|thread| {
                std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "bench\n")
            })
        };
        while !loops() {
            std::thread::yield_now();
        }
        signal(&cluster.first.child, "-INT");
        let (first, report, others) = cluster.finish();
        assert_eq!((first.code, &*others), (Some(1), &[Some(0)][..]), "{first:?}");
        assert_eq!(faults(&report), Vec::<String>::new(), "{first:?}");
        assert_eq!(report["steps"].as_array().unwrap().len(), 1, "{report}");
    }
}

#[test]
fn rank_0_that_is_killed_ends_the_others_and_leaves_its_lines() {
    // Rank 2 was refused, and waits for the end of the run as the other does.
    let arguments = |rank: usize| {
        let more = if rank == 2 { &["--size", "128"][..] } else { &[] };
        [&SHORT[..], &["--topology", "pair,ring,incast"], more].concat()
    };
    let mut cluster = Cluster::start_each("first-killed", 3, arguments);
    cluster.first.line_with("pair latency");
    cluster.first.child.kill().unwrap();
    let codes = cluster.others.iter_mut().map(|other| other.wait().unwrap().code());
    assert_eq!(codes.collect::<Vec<_>>(), [Some(1), Some(2)]);
    drop(cluster.first);
    let page = run(&["bench", "report", cluster.out.with_extension("jsonl").to_str().unwrap()]).printed();
    assert!(page.contains("This run was cut off") && page.contains("tcp pair latency"), "{page}");
}

#[test]
fn a_full_disk_is_named() {
    let name = out("full");
    let lines = name.with_extension("jsonl");
    let _ = std::fs::remove_file(&lines);
    std::os::unix::fs::symlink("/dev/full", &lines).unwrap();
    let url = format!("tcp://127.0.0.1:{}", port());
    let arguments = [&SHORT[..], &["--topology", "pair", "--join", "1s"]].concat();
    let first = [&arguments[..], &["--out", name.to_str().unwrap()]].concat();
    let first = Finished::from(rank(0, 2, &url, &first).output().unwrap());
    std::fs::remove_file(lines).unwrap();
    // Before anything is measured.
    let said = first.failed(1);
    assert!(said.contains("cluster-full.jsonl") && said.contains("is the disk full?"), "{said}");
}

#[test]
fn a_disk_that_is_full_at_the_end_costs_no_table_and_no_earlier_report() {
    let name = out("full-at-last");
    let (json, new) = (name.with_extension("json"), name.with_extension("json.tmp"));
    std::fs::write(&json, "the last run's").unwrap();
    let _ = std::fs::remove_file(&new);
    std::os::unix::fs::symlink("/dev/full", &new).unwrap();
    let url = format!("tcp://127.0.0.1:{}", port());
    let arguments = [&SHORT[..], &["--topology", "pair", "--only", "latency"]].concat();
    let mut other = rank(1, 2, &url, &arguments).spawn().unwrap();
    let first = [&arguments[..], &["--out", name.to_str().unwrap()]].concat();
    let first = Finished::from(rank(0, 2, &url, &first).output().unwrap());
    assert!(other.wait().unwrap().success() && first.code == Some(1), "{first:?}");
    assert!(String::from_utf8_lossy(&first.stdout).contains("tcp pair latency, 64 B"), "{first:?}");
    let again = format!("bench report {}", name.with_extension("jsonl").display());
    for part in ["cluster-full-at-last.json: ", "is the disk full?", &again] {
        assert!(first.stderr.contains(part), "{part}: {first:?}");
    }
    assert_eq!(std::fs::read_to_string(json).unwrap(), "the last run's");
    // The others were written, and nothing is left of the one that was not.
    assert!(Cluster::page("full-at-last").ends_with("</html>\n") && !new.exists());
    assert!(std::fs::read_to_string(name.with_extension("csv")).unwrap().lines().count() > 1);
}

#[test]
fn a_run_that_cannot_begin_leaves_the_last_report_alone() {
    let name = out("cannot-begin");
    let files = ["json", "jsonl", "csv", "html"].map(|ending| name.with_extension(ending));
    files.iter().for_each(|file| std::fs::write(file, "the last run's").unwrap());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let first = Finished::from(rank(0, 2, &url, &["--out", name.to_str().unwrap()]).output().unwrap());
    assert_ne!(first.code, Some(0), "{first:?}");
    for file in &files {
        assert_eq!(std::fs::read_to_string(file).unwrap(), "the last run's", "{}", file.display());
    }
}

#[test]
fn wrong_use_is_told_with_what_to_do() {
    let fails = |arguments: &[&str], part: &str| {
        let said = run(&[&["bench", "cluster"], arguments].concat()).failed(2);
        assert!(said.contains(part), "{said}");
    };
    let place = ["--rank", "0", "--ranks", "2"];
    fails(&place, "add --coordinator tcp://HOST:PORT");
    fails(&[&place[..], &["--coordinator", "ipc://x"]].concat(), "ranks meet over tcp");
    fails(&["--rank", "2", "--ranks", "2", "--coordinator", "tcp://127.0.0.1:1"], "ranks are 0 to 1");
    fails(&["--size", "8"], "a size is 16 B");
    let help = run(&["bench", "cluster", "--help"]).printed();
    assert!(help.contains("0 all was measured (but for what --limit left out"), "{help}");
    fails(&["--transport", "inproc"], "between ranks there is ipc, tcp");
    fails(&["--transport", "udp://x:1"], "between ranks there is ipc, tcp");
    let url = format!("tcp://127.0.0.1:{}", port());
    let at = [&place[..], &["--coordinator", &url, "--out", "/nowhere/x"]].concat();
    fails(&at, "cannot write /nowhere/x.jsonl");
    for name in ["folder/", "."] {
        let at = [&place[..], &["--coordinator", &url, "--out", name]].concat();
        fails(&at, "name the files in it, as in ");
    }
    // Somebody listens there already.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let said = run(&[&["bench", "cluster"], &place[..], &["--coordinator", &url]].concat());
    assert!(said.code != Some(0) && said.stderr.contains(&url), "{said:?}");
    assert!(said.stderr.contains("another port or address of this host by --coordinator"), "{said:?}");
}
