//! PUB and SUB: every subscriber gets what it has subscribed to. The publisher is an XPUB, which also hears of
//! subscriptions, so that it need not guess when to begin.

use fabriq::{Error, Message, SocketType};

/// The first part is what subscribers choose by.
fn news(topic: &str, text: &str) -> Message {
    let mut message = Message::new(topic);
    message.push_back(text);
    message
}

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let publisher = context.socket(SocketType::Xpub)?;
    let endpoint = publisher.bind(&url)?;

    std::thread::scope(|scope| {
        let subscribers: Vec<_> = ["weather.", "sport."]
            .into_iter()
            .map(|topic| {
                let (context, endpoint) = (&context, &endpoint);
                scope.spawn(move || -> Result<Vec<String>, Error> {
                    let subscriber = context.socket(SocketType::Sub)?;
                    subscriber.subscribe(topic)?;
                    subscriber.connect(endpoint.as_str())?;
                    let mut heard = Vec::new();
                    loop {
                        let message = subscriber.recv()?;
                        match &message.body()[..] {
                            b"end" => return Ok(heard),
                            news => heard.push(format!("{topic} {}", String::from_utf8_lossy(news))),
                        }
                    }
                })
            })
            .collect();
        for _ in &subscribers {
            // A byte 1 and the topic.
            publisher.recv()?;
        }
        for (topic, text) in [("weather.berlin", "rain"), ("stocks.x", "down"), ("sport.chess", "draw")] {
            publisher.send(news(topic, text))?;
        }
        for topic in ["weather.", "sport."] {
            publisher.send(news(topic, "end"))?;
        }
        for subscriber in subscribers {
            for line in subscriber.join().expect("a subscriber panicked")? {
                println!("{line}");
            }
        }
        Ok(())
    })
}
