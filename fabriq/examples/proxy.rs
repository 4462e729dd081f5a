//! A proxy between two transports: clients come over one, workers over the other, and neither knows. Run with the two
//! URLs to bind, as in `proxy tcp://*:5555 verbs://10.0.0.1:5556`.

use fabriq::{Error, Proxy, SocketType};

fn main() -> Result<(), Error> {
    let mut urls = std::env::args().skip(1);
    let front = urls.next().unwrap_or("tcp://127.0.0.1:*".to_owned());
    let back = urls.next().unwrap_or("inproc://workers".to_owned());
    let context = fabriq::context()?;
    let frontend = context.socket(SocketType::Router)?;
    let backend = context.socket(SocketType::Dealer)?;
    let (for_clients, for_workers) = (frontend.bind(&front)?, backend.bind(&back)?);

    let proxy = Proxy::new(&frontend, &backend);
    std::thread::scope(|scope| {
        // Until the context ends.
        scope.spawn(|| proxy.run());

        let worker = context.socket(SocketType::Rep)?;
        worker.connect(for_workers.as_str())?;
        scope.spawn(move || {
            while let Ok(request) = worker.recv() {
                if worker.send(request).is_err() {
                    break;
                }
            }
        });

        let client = context.socket(SocketType::Req)?;
        client.connect(for_clients.as_str())?;
        let asked = (1..=1000).try_for_each(|number| {
            client.send(format!("request {number}"))?;
            client.recv().map(drop)
        });
        context.shutdown();
        asked?;
        let seen = proxy.statistics();
        let schemes = [for_clients.scheme(), for_workers.scheme()].join(" to ");
        println!(
            "{schemes}: {} requests, {} replies",
            seen.backend.messages_sent, seen.frontend.messages_sent
        );
        Ok(())
    })
}
