//! REQ and REP: a client asks, a server answers, in turn. Run with a URL to choose the transport.

use fabriq::{Error, SocketType};

fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let server = context.socket(SocketType::Rep)?;
    let endpoint = server.bind(&url)?;
    // Until this program ends.
    std::thread::spawn(move || -> Result<(), Error> {
        loop {
            let question = server.recv()?;
            server.send(String::from_utf8_lossy(question.body()).to_uppercase())?;
        }
    });

    let client = context.socket(SocketType::Req)?;
    client.connect(endpoint.as_str())?;
    for question in ["hello", "is anybody there?"] {
        client.send(question)?;
        let answer = client.recv()?;
        println!("{question} -> {}", String::from_utf8_lossy(answer.body()));
    }
    Ok(())
}
