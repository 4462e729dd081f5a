//! PUSH and PULL: a pipeline. What is pushed goes to one of the pullers in turn, and waits while all are full.

use fabriq::{Error, SocketType};

const NUMBERS: u64 = 100_000;

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let pull = context.socket(SocketType::Pull)?;
    let endpoint = pull.bind(&url)?;

    std::thread::scope(|scope| {
        // Two sources into one sink; each waits when the sink falls behind, and nothing is lost.
        for half in [0..NUMBERS / 2, NUMBERS / 2..NUMBERS] {
            let push = context.socket(SocketType::Push)?;
            push.connect(endpoint.as_str())?;
            scope.spawn(move || {
                for number in half {
                    push.send(&number.to_le_bytes()).expect("the context has ended");
                }
                // Closing the socket goes on delivering what is queued.
            });
        }
        let mut sum = 0;
        for _ in 0..NUMBERS {
            let message = pull.recv()?;
            sum += message.body().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        println!("{NUMBERS} numbers, sum {sum}");
        Ok(())
    })
}
