//! Access to the listener, and the reply to clients that do not speak PostgreSQL.

use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

use crate::support::{
    gate::{Gate, GateOptions, PATIENCE, sandbox},
    refusal::{Refusal, Wire, field, startup},
    servers::PgServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn replication_is_refused_in_clear_words() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    for replication in ["database", "true"] {
        let mut psql = gate.psql_command();
        psql.args(["-d", &format!("dbname=appdb replication={replication}")]);
        let refusal = Refusal::of_psql(psql).await;
        assert!(refusal.message.starts_with("replication connections are not available"), "{refusal:#?}");
        assert!(refusal.hint.contains("with a password"), "{refusal:#?}");
        let by_hand = Wire::connect(gate.port).await.start(&[("replication", replication)]).await.refusal().await;
        assert_eq!(field(&by_hand, 'C'), "0A000");
    }
    assert_eq!(sandbox.sessions().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_want_tls_here_come_to_a_clear_end_and_the_log_says_why() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;

    let mut psql = gate.psql_command();
    psql.args(["-c", "select 1"]).env("PGSSLMODE", "require");
    let output = timeout(PATIENCE, psql.output()).await.expect("psql hangs").expect("psql is installed");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("server does not support SSL, but SSL was required"), "{stderr}");
    assert!(gate.until(|log| log.contains("use sslmode=disable or prefer")).await);

    // The start of a ClientHello, as with sslnegotiation=direct.
    let mut direct = Wire::connect(gate.port).await;
    direct.send(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
    assert_eq!(direct.rest().await, b"");
    assert!(gate.until(|log| log.contains("no sslnegotiation=direct")).await);

    for mode in ["disable", "allow", "prefer"] {
        let mut psql = gate.psql_command();
        psql.args(["-c", "select 1"]).env("PGSSLMODE", mode);
        let output = timeout(PATIENCE, psql.output()).await.expect("psql hangs").expect("psql is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n", "{mode}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_of_another_protocol_is_refused_or_dropped_without_a_session() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = Gate::start(server, &sandbox).await;

    let ssl_request = [0, 0, 0, 8, 4, 210, 22, 47];
    let old = [0, 0, 0, 8, 0, 2, 0, 0];
    let no_terminator = [0, 0, 0, 14, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0, b'x'];
    let no_user = [0, 0, 0, 9, 0, 3, 0, 0, 0];
    for (what, bytes, sqlstate, message) in [
        ("version 2", &old[..], "0A000", "unsupported frontend protocol 2.0"),
        ("no terminator", &no_terminator, "08P01", "invalid startup packet layout"),
        ("no user", &no_user, "28000", "no PostgreSQL user name"),
    ] {
        let mut client = Wire::connect(gate.port).await;
        client.send(bytes).await;
        let told = client.refusal().await;
        assert_eq!(field(&told, 'C'), sqlstate, "{what}: {told:?}");
        assert!(field(&told, 'M').contains(message), "{what}: {told:?}");
    }

    // As PostgreSQL, which writes of an impossible length to its log alone; and goodbyes before the beginning.
    for bytes in [&b"GET "[..], &[0, 1, 0, 0], &[0, 0, 0, 7], b"X\0\0\0\x04"] {
        let mut client = Wire::connect(gate.port).await;
        client.send(bytes).await;
        assert_eq!(client.rest().await, b"", "{bytes:?}");
    }
    assert!(gate.until(|log| log.matches("invalid length of startup packet").count() == 3).await, "{}", gate.log());

    // SSLRequest twice; a StartupMessage of 10,000 bytes is the longest.
    let mut client = Wire::connect(gate.port).await;
    client.send(&ssl_request).await;
    assert_eq!(timeout(PATIENCE, client.0.read_u8()).await.expect("an answer").expect("a byte"), b'N');
    client.send(&ssl_request).await;
    assert!(field(&client.refusal().await, 'M').contains("SSLRequest is sent more than once"));

    // Port probes: gone at once, and with a reset.
    drop(Wire::connect(gate.port).await);
    let probe = TcpStream::connect(("127.0.0.1", gate.port)).await.expect("rdsgate listens");
    probe.set_zero_linger().expect("a socket");
    drop(probe);
    assert!(
        gate.until(|log| log.matches("port probe").count() + log.matches("the client has gone").count() == 3).await
    );

    assert_eq!(sandbox.calls().len(), 0, "{:?}", sandbox.calls());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_say_too_little_do_not_keep_others_waiting_and_are_let_go() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).flag("--connect-timeout", "8s").start().await;
    let mut slow = Wire::connect(gate.port).await;
    slow.send(&startup(&[])[..9]).await;
    let silent = Wire::connect(gate.port).await;
    assert_eq!(gate.query("select 1").await, "1");
    for client in [slow, silent] {
        let told = client.refusal().await;
        assert_eq!(field(&told, 'M'), "no connection within 8s (--connect-timeout)", "{told:?}");
        assert!(field(&told, 'D').contains("Stage: client startup."), "{told:?}");
    }
}
