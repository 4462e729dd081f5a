//! DEALER and ROUTER: requests and replies without taking turns. The DEALER asks as much as it likes; the ROUTER answers in
//! any order, and says to whom by the routing id in front of each message.

use fabriq::{Error, Frame, Message, SocketType};

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let router = context.socket(SocketType::Router)?;
    let endpoint = router.bind(&url)?;

    let mut dealers = Vec::new();
    for name in ["anna", "bert"] {
        let dealer = context.socket(SocketType::Dealer)?;
        // Without a name of its own it would get one of five bytes.
        dealer.set_options(|options| options.routing_id = Frame::from(name))?;
        dealer.connect(endpoint.as_str())?;
        for number in 1..=3 {
            dealer.send(format!("{number}"))?;
        }
        dealers.push((name, dealer));
    }

    let mut requests = Vec::new();
    while requests.len() < 6 {
        let mut request = router.recv()?;
        if let Some(id) = request.pop_front() {
            requests.push((id, String::from_utf8_lossy(request.body()).into_owned()));
        }
    }
    // Last come, first served.
    requests.sort_by(|a, b| b.1.cmp(&a.1));
    for (id, number) in requests {
        let mut reply = Message::new(format!("answer to {number}"));
        reply.push_front(id);
        router.send(reply)?;
    }

    for (name, dealer) in &dealers {
        for _ in 0..3 {
            println!("{name}: {}", String::from_utf8_lossy(dealer.recv()?.body()));
        }
    }
    Ok(())
}
