//! Measures the driver alone: two drivers in two threads over loopback, beside plain sockets. Prints figures, checks
//! nothing. `cargo run --release --example pump [solo|push|pong|large|all|BYTES] [seconds]`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use transport_core::{
    Close, Completion, Driver, DriverEnv, Endpoint, Flow, Frame, FramePool, Grant, Hello, Identity, LinkId,
    LinkLimits, Open, Part, Role, Transport, Tuning, Wake,
};

#[derive(Debug)]
struct NoWake;
impl Wake for NoWake {
    fn wake(&self) {}
}

struct End {
    driver: Box<dyn Driver>,
    link: LinkId,
    out: Vec<Completion>,
}

fn open(url: &str, role: Role) -> Open {
    Open {
        endpoint: Endpoint::parse(url).unwrap(),
        role,
        flow: Flow::Duplex,
        hello: Hello::NULL,
        identity: Identity::default(),
        limits: LinkLimits::default(),
        tuning: Tuning::default(),
        listener: None,
    }
}

fn driver() -> Box<dyn Driver> {
    let env = DriverEnv { receive_pool: FramePool::new(256 << 20), wake: Arc::new(NoWake), context: 1 };
    fabriq_transport_tcp::TcpTransport::new().driver(env).unwrap()
}

fn pair() -> (End, End) {
    let (mut a, mut b) = (driver(), driver());
    a.open(open("tcp://127.0.0.1:*", Role::Bind)).unwrap();
    let mut out = Vec::new();
    a.poll(Instant::now(), &mut out, 100);
    let Some(Completion::Bound { endpoint, .. }) = out.pop() else { panic!("not bound") };
    b.open(open(endpoint.as_str(), Role::Connect)).unwrap();
    let (mut up_a, mut up_b) = (None, None);
    while up_a.is_none() || up_b.is_none() {
        for (driver, up) in [(&mut a, &mut up_a), (&mut b, &mut up_b)] {
            driver.poll(Instant::now(), &mut out, 100);
            for completion in out.drain(..) {
                if let Completion::Up { link, .. } = completion {
                    *up = Some(link);
                    driver.grant(link, Grant::Unlimited);
                }
            }
        }
    }
    let end =
        |driver, link: Option<LinkId>| End { driver, link: link.unwrap(), out: Vec::with_capacity(8192) };
    (end(a, up_a), end(b, up_b))
}

impl End {
    fn poll(&mut self) {
        self.out.clear();
        self.driver.poll(Instant::now(), &mut self.out, 1024);
    }
    fn receive(&mut self) -> (usize, usize) {
        self.poll();
        let (mut parts, mut bytes) = (0, 0);
        for completion in &self.out {
            if let Completion::Received { part, .. } = completion {
                parts += 1;
                bytes += part.body.len();
            }
        }
        (parts, bytes)
    }
}

fn cpu_ns() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn push(len: usize, seconds: f64) {
    let (mut a, mut b) = pair();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let receiver = thread::spawn(move || {
        let (start, cpu) = (Instant::now(), cpu_ns());
        let (mut parts, mut bytes) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            let (p, n) = a.receive();
            parts += p;
            bytes += n;
        }
        (parts, bytes, start.elapsed(), cpu_ns() - cpu)
    });
    let body = vec![7u8; len];
    let (start, cpu, mut posted) = (Instant::now(), cpu_ns(), 0u64);
    let large = Frame::copy_from_slice(&body);
    while start.elapsed().as_secs_f64() < seconds {
        for _ in 0..b.driver.room(b.link).min(1000) {
            let frame = if len <= 70 { Frame::copy_from_slice(&body) } else { large.clone() };
            b.driver.post_send(b.link, Part::last(frame)).unwrap();
            posted += 1;
        }
        b.driver.flush();
        b.poll();
    }
    let cpu = cpu_ns() - cpu;
    stop.store(true, Ordering::Relaxed);
    let (parts, bytes, time, receiver_cpu) = receiver.join().unwrap();
    println!(
        "push {len:8} B: {:8.3} M parts/s {:8.1} MB/s; CPU ns/part: sender {:.1} receiver {:.1}",
        parts as f64 / time.as_secs_f64() / 1e6,
        bytes as f64 / time.as_secs_f64() / 1e6,
        cpu as f64 / posted as f64,
        receiver_cpu as f64 / parts as f64,
    );
    b.driver.close_link(b.link, Close::Abort);
}

/// Both ends in one thread, in turns: nobody spins, so the CPU time is the work, whatever else the host does.
fn solo(len: usize, seconds: f64) {
    let (mut a, mut b) = pair();
    let body = vec![7u8; len];
    let large = Frame::copy_from_slice(&body);
    let batch = if len <= 1024 { 1000 } else { 4 };
    let start = Instant::now();
    let (mut posting, mut flushing, mut receiving, mut parts) = (0, 0, 0, 0u64);
    while start.elapsed().as_secs_f64() < seconds {
        let t0 = cpu_ns();
        for _ in 0..batch {
            let frame = if len <= 70 { Frame::copy_from_slice(&body) } else { large.clone() };
            b.driver.post_send(b.link, Part::last(frame)).unwrap();
        }
        let t1 = cpu_ns();
        b.driver.flush();
        b.poll();
        let t2 = cpu_ns();
        let mut got = 0;
        while got < batch {
            got += a.receive().0;
            if got < batch && len > 1024 {
                b.poll();
            }
        }
        let t3 = cpu_ns();
        posting += t1 - t0;
        flushing += t2 - t1;
        receiving += t3 - t2;
        parts += batch as u64;
    }
    let per = |ns: u64| ns as f64 / parts as f64;
    println!(
        "solo {len:8} B: CPU ns/part: post {:.1} flush {:.1} receive {:.1}",
        per(posting),
        per(flushing),
        per(receiving)
    );
}

fn percentiles(what: &str, mut times: Vec<u64>) {
    times.sort_unstable();
    let at = |q: usize| times[times.len() * q / 100] as f64 / 1e3;
    println!(
        "{what}: p50 {:.2} us p90 {:.2} p99 {:.2} ({} round trips)",
        at(50),
        at(90),
        at(99),
        times.len()
    );
}

fn pong(len: usize, seconds: f64) {
    let (mut a, mut b) = pair();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let echo = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            a.poll();
            let mut any = false;
            for completion in a.out.drain(..) {
                if let Completion::Received { link, part } = completion {
                    a.driver.post_send(link, part).unwrap();
                    any = true;
                }
            }
            if any {
                a.driver.flush();
            }
        }
    });
    let body = Frame::copy_from_slice(&vec![7u8; len]);
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed().as_secs_f64() < seconds {
        let begun = Instant::now();
        b.driver.post_send(b.link, Part::last(body.clone())).unwrap();
        b.driver.flush();
        while b.receive().0 == 0 {}
        times.push(begun.elapsed().as_nanos() as u64);
    }
    stop.store(true, Ordering::Relaxed);
    echo.join().unwrap();
    percentiles(&format!("pong {len:8} B driver"), times);
}

fn raw_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    for s in [&a, &b] {
        s.set_nodelay(true).unwrap();
        s.set_nonblocking(true).unwrap();
    }
    (a, b)
}

fn read_all(stream: &mut TcpStream, buf: &mut [u8], stop: &AtomicBool) -> bool {
    let mut at = 0;
    while at < buf.len() {
        match stream.read(&mut buf[at..]) {
            Ok(0) => return false,
            Ok(n) => at += n,
            Err(_) if stop.load(Ordering::Relaxed) => return false,
            Err(_) => {}
        }
    }
    true
}

fn write_all(stream: &mut TcpStream, buf: &[u8]) {
    let mut at = 0;
    while at < buf.len() {
        if let Ok(n) = stream.write(&buf[at..]) {
            at += n;
        }
    }
}

fn raw_pong(len: usize, seconds: f64) {
    let (mut a, mut b) = raw_pair();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let echo = thread::spawn(move || {
        let mut buf = vec![0; len];
        while read_all(&mut a, &mut buf, &stopped) {
            write_all(&mut a, &buf);
        }
    });
    let mut buf = vec![0; len];
    let (start, mut times) = (Instant::now(), Vec::new());
    let never = AtomicBool::new(false);
    while start.elapsed().as_secs_f64() < seconds {
        let begun = Instant::now();
        write_all(&mut b, &buf);
        read_all(&mut b, &mut buf, &never);
        times.push(begun.elapsed().as_nanos() as u64);
    }
    stop.store(true, Ordering::Relaxed);
    echo.join().unwrap();
    percentiles(&format!("pong {len:8} B raw   "), times);
}

fn raw_push(len: usize, seconds: f64) {
    let (mut a, mut b) = raw_pair();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let receiver = thread::spawn(move || {
        let mut buf = vec![0; len];
        let (start, mut n) = (Instant::now(), 0usize);
        while read_all(&mut a, &mut buf, &stopped) {
            n += len;
        }
        n as f64 / start.elapsed().as_secs_f64() / 1e6
    });
    let buf = vec![0; len];
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        write_all(&mut b, &buf);
    }
    drop(b);
    println!("push {len:8} B: raw {:.1} MB/s", receiver.join().unwrap());
}

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let seconds = std::env::args().nth(2).map_or(1.0, |s| s.parse().unwrap());
    if let Ok(len) = what.parse() {
        return solo(len, seconds);
    }
    if what == "solo" || what == "all" {
        for len in [64, 1024, 65_536, 1 << 20] {
            solo(len, seconds);
        }
    }
    if what == "push" || what == "all" {
        push(64, seconds);
        push(1024, seconds);
    }
    if what == "pong" || what == "all" {
        for len in [64, 1024, 65_536] {
            raw_pong(len, seconds);
            pong(len, seconds);
        }
    }
    if what == "large" || what == "all" {
        for len in [65_536, 1 << 20, 8 << 20] {
            raw_push(len, seconds);
            push(len, seconds);
        }
    }
}
