//! What a client sees on the data channel.

use super::{
    client::{Client, Event},
    *,
};
use crate::{
    sandbox::Ended,
    tunnel::{
        smux::frame::Command,
        ssm::payload::{Flag, PayloadType},
    },
};

async fn sandbox(options: Options, database: SocketAddr) -> Sandbox {
    Sandbox::start(options.database(HOST, 5432, database)).await.unwrap()
}

#[tokio::test]
async fn bytes_reach_the_database_and_come_back() {
    soon(async {
        let sandbox = sandbox(Options::default(), echo_server().await).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        client.frame(Command::Psh, 3, b"hello").await;
        assert_eq!(client.read(3, 5).await, "hello");
        client.flag(Flag::TerminateSession).await;
        assert_eq!(client.closed().await, "");
        assert_eq!(sandbox.sessions()[0].ended, Some(Ended::ByFlag));
        assert_eq!(sandbox.violations(), Vec::<String>::new());
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_refused_dial_is_flag_3_and_then_fin() {
    soon(async {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let sandbox = sandbox(Options::default(), nobody).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        let flag = client
            .until(|event| match event {
                Event::Message(_, PayloadType::Flag, payload) => Some(payload),
                Event::Message(_, PayloadType::Output, _) => panic!("FIN before the flag"),
                _ => None,
            })
            .await;
        assert_eq!(Flag::decode(&flag), Some(Flag::ConnectToPortError));
        client.fin(3).await;
    })
    .await;
}
