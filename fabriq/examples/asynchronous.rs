//! Futures on tokio: a server that answers many clients as they come, in one thread. fabriq brings no runtime; any executor
//! will do.

use fabriq::{Error, SocketType};

const CLIENTS: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1).unwrap_or("tcp://127.0.0.1:*".to_owned());
    let context = fabriq::context()?;
    let server = context.socket(SocketType::Rep)?;
    let endpoint = server.bind(&url)?;

    let serve = async {
        loop {
            let request = server.recv_async().await?;
            let answer: String = String::from_utf8_lossy(request.body()).chars().rev().collect();
            server.send_async(answer).await?;
        }
    };
    let clients = async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let (context, endpoint) = (context.clone(), endpoint.clone());
            tasks.spawn(async move {
                let client = context.socket(SocketType::Req)?;
                client.connect(endpoint.as_str())?;
                client.send_async(format!("client {number}")).await?;
                Ok::<_, Error>(client.recv_async().await?.body().len())
            });
        }
        let mut bytes = 0;
        while let Some(done) = tasks.join_next().await {
            bytes += done.expect("a task panicked")?;
        }
        println!("{CLIENTS} answers, {bytes} bytes");
        Ok(())
    };
    tokio::select! {
        // Dropping the other future loses nothing.
        failed = serve => failed,
        done = clients => done,
    }
}
