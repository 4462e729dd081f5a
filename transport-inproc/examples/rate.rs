//! Prints how many parts per second cross an inproc link. A measuring tool, not a test: it checks order and nothing else.
//!
//! `cargo run --release -p fabriq-transport-inproc --example rate`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fabriq_transport_inproc::InprocTransport;
use transport_core::{
    Completion, Driver, DriverEnv, Endpoint, Flow, Frame, FramePool, Grant, Hello, Identity, LinkId,
    LinkLimits, Open, Part, Role, Transport, Tuning, Wake,
};

const ROUND: Duration = Duration::from_millis(300);
const BURST: usize = 256;

#[derive(Debug)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

fn driver(context: u64) -> Box<dyn Driver> {
    let env = DriverEnv { receive_pool: FramePool::new(1 << 20), wake: Arc::new(NoWake), context };
    InprocTransport::new().driver(env).expect("a driver")
}

fn open(driver: &mut dyn Driver, role: Role) {
    let request = Open {
        endpoint: Endpoint::parse("inproc://rate").expect("a valid name"),
        role,
        flow: Flow::Duplex,
        hello: Hello::NULL,
        identity: Identity::default(),
        limits: LinkLimits::default(),
        tuning: Tuning::default(),
        listener: None,
    };
    driver.open(request).expect("opens");
}

fn up(driver: &mut dyn Driver) -> LinkId {
    let mut out = Vec::new();
    driver.poll(Instant::now(), &mut out, 100);
    let up = out.iter().find_map(|said| match said {
        Completion::Up { link, .. } => Some(*link),
        _ => None,
    });
    up.expect("Up")
}

fn send(driver: &mut dyn Driver, link: LinkId, posted: &mut u64) {
    for _ in 0..BURST.min(driver.room(link)) {
        let body = Frame::copy_from_slice(&[*posted as u8; 64]);
        driver.post_send(link, Part::last(body)).expect("there is room");
        *posted += 1;
    }
    driver.flush();
}

fn receive(driver: &mut dyn Driver, now: Instant, out: &mut Vec<Completion>, arrived: &mut u64) {
    driver.poll(now, out, 2 * BURST);
    for said in out.drain(..) {
        if let Completion::Received { part, .. } = said {
            assert_eq!(part.body[0], *arrived as u8);
            *arrived += 1;
        }
    }
}

fn one_thread(same_driver: bool) -> f64 {
    let mut first = driver(1);
    open(&mut *first, Role::Bind);
    let mut second = if same_driver { None } else { Some(driver(1)) };
    open(second.as_deref_mut().unwrap_or(&mut *first), Role::Connect);
    let (from, to);
    if let Some(second) = &mut second {
        to = up(&mut **second);
        from = up(&mut *first);
    } else {
        let mut out = Vec::new();
        first.poll(Instant::now(), &mut out, 100);
        let mut ups = out.iter().filter_map(|said| match said {
            Completion::Up { link, .. } => Some(*link),
            _ => None,
        });
        (from, to) = (ups.next().expect("Up"), ups.next().expect("Up"));
    }
    second.as_deref_mut().unwrap_or(&mut *first).grant(to, Grant::Unlimited);
    let (mut posted, mut arrived, mut out) = (0, 0, Vec::new());
    let mut ignored = Vec::new();
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < ROUND {
        for _ in 0..100 {
            send(&mut *first, from, &mut posted);
            if let Some(second) = &mut second {
                first.poll(start, &mut ignored, BURST);
                ignored.clear();
                receive(&mut **second, start, &mut out, &mut arrived);
            } else {
                receive(&mut *first, start, &mut out, &mut arrived);
            }
        }
    }
    // By the thread's own time, so that other programs on the machine do not count.
    arrived as f64 / (cpu_time() - cpu).as_secs_f64() / 1e6
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn two_threads() -> f64 {
    let (mut first, mut second) = (driver(2), driver(2));
    open(&mut *first, Role::Bind);
    open(&mut *second, Role::Connect);
    let (to, from) = (up(&mut *second), up(&mut *first));
    second.grant(to, Grant::Unlimited);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut posted, mut ignored) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                send(&mut *first, from, &mut posted);
                first.poll(Instant::now(), &mut ignored, BURST);
                ignored.clear();
                if first.room(from) == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let (mut arrived, mut out) = (0, Vec::new());
        let start = Instant::now();
        while start.elapsed() < ROUND {
            let before = arrived;
            receive(&mut *second, start, &mut out, &mut arrived);
            if arrived == before {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        arrived as f64 / start.elapsed().as_secs_f64() / 1e6
    })
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut rates: Vec<_> = (0..5).map(|_| run()).collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

fn main() {
    println!("64 B parts, bursts of {BURST}, median of 5 rounds of {ROUND:?}");
    println!("one thread, one driver    {:6.1} M parts per CPU second", median(|| one_thread(true)));
    println!("one thread, two drivers   {:6.1} M parts per CPU second", median(|| one_thread(false)));
    println!("two threads, two drivers  {:6.1} M parts per second", median(two_threads));
    println!("a Completion is {} bytes", size_of::<Completion>());
}
