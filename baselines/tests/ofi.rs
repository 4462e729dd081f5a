//! Raw libfabric between two threads: every run, on the providers that every host has. Needs libfabric (`ci/install`), and fails
//! without. Says nothing about speed.

use std::ops::ControlFlow;
use std::thread;
use std::time::Duration;

use fabriq_baselines::ofi::{Link, Place};
use fabriq_baselines::{Error, Link as _, Run, Traffic, Wait};
use transport_core::Frame;

/// Runs one end on a thread of its own, and the other here.
fn run<T>(
    provider: &str,
    run: Run,
    listening: impl FnOnce(Link) -> fabriq_baselines::Result<T>,
    dialling: impl FnOnce(Link) + Send,
) -> fabriq_baselines::Result<T> {
    let any: Place = format!("127.0.0.1:0?provider={provider}").parse().unwrap();
    let (listener, at) = Link::listen(&any).unwrap();
    assert_ne!(at.meeting.port(), 0);
    thread::scope(|scope| {
        scope.spawn(|| match Link::connect(&at, &run) {
            Ok(link) => dialling(link),
            // The other end says so, too, and is what is looked at.
            Err(error) => assert!(matches!(error, Error::NoDescriptor(_)), "{error}"),
        });
        listening(Link::accept(&listener, &run)?)
    })
}

fn body(number: u64, bytes: usize) -> Frame {
    let mut body = vec![number as u8; bytes];
    body[..8].copy_from_slice(&number.to_le_bytes());
    Frame::from(body)
}

fn ping_pong(provider: &str, wait: Wait) {
    for bytes in [8, 64, 5000, 100_000] {
        let trips = Run { traffic: Traffic::PingPong, bytes, wait };
        let outcome = run(
            provider,
            trips,
            |link| link.echo(),
            |mut link| {
                for number in 0..50 {
                    let sent = body(number, bytes);
                    link.ping(&sent, |got| assert!(got == &sent[..], "{number} of {bytes} B")).unwrap();
                }
                link.close().unwrap();
            },
        );
        outcome.unwrap();
    }
}

fn stream(provider: &str, wait: Wait) {
    // The longest is READ.
    for bytes in [64, 5000, 100_000] {
        let frames: Vec<_> = (0..7).map(|number| body(number, bytes)).collect();
        let stream = Run { traffic: Traffic::Stream, bytes, wait };
        let mut count = 0_u64;
        let sink = |link: Link| {
            link.sink(|got| {
                assert!(got == &body(count % 7, bytes)[..], "{count} of {bytes} B");
                count += 1;
                if count == 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        run(provider, stream, sink, |link| link.source(&frames, Duration::from_millis(50)).unwrap()).unwrap();
        assert!(count > 0, "{bytes}");
    }
}

macro_rules! on {
    ($($module:ident $provider:literal)*) => {$(
        mod $module {
            use super::*;
            #[test]
            fn what_is_pinged_comes_back() {
                ping_pong($provider, Wait::Polled);
            }
            #[test]
            fn a_stream_arrives_in_order() {
                stream($provider, Wait::Polled);
            }
        }
    )*};
}
on! { tcp "tcp" tcp_rxm "tcp;ofi_rxm" net "net&endpoint=rdm" net_connected "net&endpoint=msg" shm "shm" }

#[test]
fn ends_that_sleep_are_woken() {
    for provider in ["tcp", "tcp;ofi_rxm", "net&endpoint=rdm"] {
        ping_pong(provider, Wait::Asleep);
        stream(provider, Wait::Asleep);
    }
}

#[test]
fn a_provider_without_a_descriptor_says_so_to_who_would_sleep() {
    let trips = Run { traffic: Traffic::PingPong, bytes: 8, wait: Wait::Asleep };
    let error = run("shm", trips, |_| Ok(()), |_| ()).unwrap_err();
    assert!(matches!(&error, Error::NoDescriptor(name) if name == "shm"), "{error}");
}

#[test]
fn a_provider_that_nobody_has_is_named() {
    let error = Link::listen(&"127.0.0.1:0?provider=nobodys".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("provider=nobodys") && error.contains("fabriq info"), "{error}");
}

#[test]
fn a_peer_that_leaves_in_the_middle_is_noticed() {
    for provider in ["tcp", "tcp;ofi_rxm", "net&endpoint=rdm", "shm"] {
        let trips = Run { traffic: Traffic::PingPong, bytes: 64, wait: Wait::Polled };
        let outcome = run(
            provider,
            trips,
            |link| link.echo(),
            |mut link| {
                link.ping(&body(1, 64), |_| ()).unwrap();
                drop(link);
            },
        );
        outcome.unwrap_err();
    }
}

/// Programs of Debian's packages libfabric-bin and ucx-utils, which ci/install installs.
#[test]
fn the_fields_own_tools_give_figures() {
    for provider in ["tcp", "shm"] {
        let place: Place = format!("127.0.0.1:0?provider={provider}").parse().unwrap();
        let measure = fabriq_baselines::fi_pingpong::Measure { place, bytes: 64, count: 20 };
        assert!(measure.run(|_| ()).unwrap() > 0.0, "{provider}");
    }
    use fabriq_baselines::ucx_perftest::{Measure, Wire};
    for (wire, is_stream) in
        [(Wire::LoopbackTcp, false), (Wire::LoopbackTcp, true), (Wire::SharedMemory, false)]
    {
        let at = [127, 0, 0, 1].into();
        let figures = Measure { wire, is_stream, at, bytes: 64, count: 100 }.run(|_| ()).unwrap();
        assert!(figures.messages_per_s > 0.0, "{wire:?}");
    }
}
