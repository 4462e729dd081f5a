//! A pool of workers of unlike speed: each asks for work when it is free, so that a slow one never holds up what a fast one
//! could do. (PUSH would deal the same number to each.)

use std::time::Duration;

use fabriq::{Error, SocketType};

const TASKS: u32 = 40;

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let boss = context.socket(SocketType::Rep)?;
    let endpoint = boss.bind(&url)?;

    std::thread::scope(|scope| {
        for pause in [1, 3, 9].map(Duration::from_millis) {
            let worker = context.socket(SocketType::Req)?;
            worker.connect(endpoint.as_str())?;
            scope.spawn(move || -> Result<(), Error> {
                let mut result = String::new();
                loop {
                    // Asking for the next task brings the result of the one before.
                    worker.send(result)?;
                    let task = worker.recv()?;
                    let Ok(number) = String::from_utf8_lossy(task.body()).parse::<u32>() else {
                        return Ok(());
                    };
                    std::thread::sleep(pause); // the work
                    result = (number * number).to_string();
                }
            });
        }
        let (mut next, mut dismissed, mut sum, mut done) = (1, 0, 0, 0);
        while dismissed < 3 {
            if let Ok(result) = String::from_utf8_lossy(boss.recv()?.body()).parse::<u32>() {
                sum += result;
                done += 1;
            }
            if next <= TASKS {
                boss.send(next.to_string())?;
                next += 1;
            } else {
                boss.send("")?;
                dismissed += 1;
            }
        }
        println!("{done} tasks by 3 workers, sum of squares {sum}");
        Ok(())
    })
}
