//! A file sent from where it is mapped: its pages are never copied into a buffer of ours, and the map stays until the
//! last message has been sent. Run with a file and a URL.

use std::fs::File;
use std::sync::Arc;

use fabriq::{Error, Frame, Message, SocketType};

/// Bytes of one message.
const CHUNK: usize = 256 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    // This program itself is a file that is always there.
    let path = arguments.next().map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let url = arguments.next().unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let pull = context.socket(SocketType::Pull)?;
    let push = context.socket(SocketType::Push)?;
    push.connect(pull.bind(&url)?.as_str())?;

    let file = File::open(&path)?;
    // SAFETY: nobody changes or cuts the file while it is mapped; whoever cannot be sure of that must read it instead.
    let map = Arc::new(unsafe { memmap2::Mmap::map(&file) }?);
    let length = map.len();
    let sender = std::thread::spawn(move || -> Result<(), Error> {
        for start in (0..length).step_by(CHUNK) {
            let range = start..length.min(start + CHUNK);
            if let Some(frame) = Frame::from_mmap(map.clone(), range) {
                push.send(frame)?;
            }
        }
        // An empty message ends it.
        Ok(push.send(Message::new(""))?)
    });

    let mut received = Vec::new();
    loop {
        let message = pull.recv()?;
        if message.body().is_empty() {
            break;
        }
        received.extend_from_slice(message.body());
    }
    sender.join().expect("the sender panicked")?;
    println!("{} bytes, the same: {}", received.len(), received == std::fs::read(path)?);
    Ok(())
}
