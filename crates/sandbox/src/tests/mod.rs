//! The sandbox against foreign code: the real SDK for the APIs, and a tiny client of its own for the data channel.

mod api;
mod channel;
mod client;
mod front;

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Identity, Options, Sandbox};

const HOST: &str = "db.c1abcdefghij.us-east-1.rds.amazonaws.com";
const BASTION: &str = "i-0123456789abcdef0";

/// Nothing in these tests takes longer, unless it hangs.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it hangs")
}

/// A server that handles each connection so; it ends with the runtime.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    handle: impl Fn(TcpStream) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(handle(socket));
        }
    });
    address
}

/// Sends back what it gets.
async fn echo_server() -> SocketAddr {
    serve(async |mut socket: TcpStream| {
        let (mut read, mut write) = socket.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}
