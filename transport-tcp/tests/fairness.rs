//! That a link whose peer never stops does not keep the others waiting.

mod host;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use host::{Host, greeting};
use transport_core::{Completion, Grant, LinkId};

/// What the engine asks for in one turn.
const BUDGET: usize = 128;

const PEERS: usize = 6;

/// A peer that has always more to say: its system holds as much as it takes.
struct Talker {
    stream: TcpStream,
    link: LinkId,
    /// Of the frame that the system took a piece of.
    taken: usize,
    heard: usize,
}

impl Talker {
    fn new(host: &mut Host, address: std::net::SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&greeting()).unwrap();
        let link = host.up();
        stream.read_exact(&mut [0; 64]).unwrap();
        stream.set_nonblocking(true).unwrap();
        host.driver.grant(link, Grant::Unlimited);
        Self { stream, link, taken: 0, heard: 0 }
    }

    fn talk(&mut self, frames: &[u8], frame: usize) {
        loop {
            match self.stream.write(&frames[self.taken..]) {
                Ok(taken) => self.taken = (self.taken + taken) % frame,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn peers_that_never_stop_are_heard_alike() {
    for size in [64, 200] {
        let mut frame = vec![0, size];
        frame.resize(2 + usize::from(size), b'x');
        let frames = frame.repeat((256 << 10) / frame.len() + 1);
        let mut host = Host::new();
        host.budget = BUDGET;
        let address = host.listen();
        let mut talkers: Vec<Talker> = (0..PEERS).map(|_| Talker::new(&mut host, address)).collect();
        // Some reads of each, which are of a quarter of a MiB.
        let enough = PEERS * (1 << 20) / frame.len();
        let mut heard = 0;
        while heard < enough {
            talkers.iter_mut().for_each(|talker| talker.talk(&frames, frame.len()));
            for completion in host.poll() {
                let Completion::Received { link, .. } = completion else { continue };
                talkers.iter_mut().find(|talker| talker.link == link).unwrap().heard += 1;
                heard += 1;
            }
        }
        let shares: Vec<usize> = talkers.iter().map(|talker| talker.heard * PEERS * 100 / heard).collect();
        assert!(shares.iter().all(|share| *share > 50), "{size} bytes: of 100 each, {shares:?}");
    }
}
