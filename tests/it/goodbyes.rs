//! Clients that give up before they have begun: nothing is said to them, as PostgreSQL and MySQL say nothing.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    driver::within,
    gate::{Gate, sandbox},
    refusal::startup,
    servers::{Engine, PgServer, Server},
};

/// Sends this, and what comes back up to the end.
async fn answer(gate: &Gate, sent: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
    client.write_all(sent).await.expect("rdsgate reads");
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = within("the end", client.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn terminate_before_the_startup_and_while_it_is_served_is_answered_by_silence() {
    const TERMINATE: &[u8] = b"X\0\0\0\x04";
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;
    assert_eq!(answer(&gate, TERMINATE).await, b"");
    assert_eq!(answer(&gate, &[TERMINATE, &startup(&[])].concat()).await, b"");
    assert_eq!(sandbox.sessions().len(), 0, "nothing was done for them");

    sandbox.hold_dials(true);
    let mut client = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
    client.write_all(&startup(&[])).await.expect("rdsgate reads");
    within("a session", sandbox.until(|sessions| sessions.iter().any(|session| session.ready))).await;
    client.write_all(TERMINATE).await.expect("rdsgate reads");
    let mut said = Vec::new();
    let _ = within("the end", client.read_to_end(&mut said)).await;
    assert_eq!(said, b"");
    assert!(gate.until(|log| log.contains("the client left while it was being connected")).await);
    sandbox.hold_dials(false);
    assert_eq!(gate.query("select 1").await, "1");
    assert!(!gate.log().contains("connection refused"), "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn com_quit_in_place_of_a_login_is_answered_by_silence() {
    const QUIT: &[u8] = &[1, 0, 0, 0, 1];
    for engine in [Engine::MariaDb, Engine::MySql] {
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let sandbox = sandbox(server).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut client = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
        let mut greeting = [0; 4];
        within("the greeting", client.read_exact(&mut greeting)).await.expect("it comes");
        let mut rest = vec![0; usize::from(greeting[0])];
        client.read_exact(&mut rest).await.expect("it is whole");
        client.write_all(QUIT).await.expect("rdsgate reads");
        let mut said = Vec::new();
        let _ = within("the end", client.read_to_end(&mut said)).await;
        assert_eq!(said, b"", "{engine:?}");
        let log = gate.log();
        assert!(!log.contains("connection refused") && !log.contains("it insists on TLS"), "{engine:?}: {log}");
    }
}
