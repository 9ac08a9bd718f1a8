//! Foreign clients through the gate. What each shows is in `tests/clients`; each is a test so that they run at once.

use std::pin::pin;

use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::{AsyncMessage, SimpleQueryMessage, error::SqlState};

use crate::support::{
    clients::Client,
    driver::{Driver, within},
    gate::{Gate, sandbox},
    servers::PgServer,
};

async fn is_content(client: Client) {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let shown = tokio::task::block_in_place(|| client.run(gate.door()));
    println!("{client:?}: {} things", shown.len());
    assert_eq!(sandbox.violations(), Vec::<String>::new());
    assert_eq!(sandbox.sessions().len(), 1, "all its connections shared one session");
}

macro_rules! clients {
    ($($name:ident: $client:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                is_content(Client::$client).await;
            }
        )+

        #[test]
        fn no_client_is_forgotten() {
            let tested = [$(Client::$client),+];
            assert!(Client::POSTGRES.iter().all(|client| tested.contains(client)));
        }
    };
}

clients! {
    psycopg_is_content: Psycopg,
    asyncpg_is_content: Asyncpg,
    sqlalchemy_with_alembic_is_content: SqlAlchemy,
    django_is_content: Django,
    node_pg_is_content: Node,
    pgjdbc_is_content: Java,
    psql_is_content: Psql,
    pgbench_is_content: Pgbench,
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_is_content() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let mut client = Driver::connected(&gate, "tokio-postgres").await;

    // Simple protocol: more than one statement, and what they say of themselves.
    let simple = within("simple", client.simple_query("select 1 as one; select 'zwei' where false")).await.expect("ok");
    let rows = simple.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count();
    assert_eq!(rows, 1);

    // Extended protocol: prepared, binary, pipelined, with a portal read in parts.
    let statement = within("prepare", client.prepare("select $1::int4 * 2, $2::bytea")).await.expect("ok");
    let numbers = futures_util::future::join_all((0..200_i32).map(|n| {
        let (client, statement) = (&client, &statement);
        async move {
            let bytes = n.to_be_bytes().repeat(100);
            let row = within("pipelined", client.query_one(statement, &[&n, &bytes])).await.expect("ok");
            assert_eq!(row.get::<_, Vec<u8>>(1), bytes);
            row.get::<_, i32>(0)
        }
    }));
    assert_eq!(numbers.await, (0..200).map(|n| n * 2).collect::<Vec<_>>());

    // COPY both ways, and one that the server ends.
    within("create", client.batch_execute("create temp table copied (id int, text text)")).await.expect("ok");
    let mut sink = pin!(client.copy_in("copy copied from stdin").await.expect("ok"));
    for n in 0..1000 {
        let row = bytes::Bytes::from(format!("{n}\trow {n} ä\n"));
        within("row", sink.send(row)).await.expect("ok");
    }
    assert_eq!(within("finish", sink.finish()).await.expect("ok"), 1000);
    let out = within("copy out", client.copy_out("copy copied to stdout")).await.expect("ok");
    let lines: Vec<bytes::Bytes> = within("rows", out.try_collect()).await.expect("ok");
    assert_eq!((lines.len(), &lines[999][..]), (1000, "999\trow 999 ä\n".as_bytes()));
    let mut sink = pin!(client.copy_in("copy copied from stdin").await.expect("ok"));
    within("row", sink.send(bytes::Bytes::from_static(b"not a number\tx\n"))).await.expect("ok");
    let error = within("finish", sink.finish()).await.expect_err("no number");
    assert_eq!(error.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));

    // Errors leave the connection usable; a transaction that failed says so.
    for (sql, state) in [
        ("select 1/0", SqlState::DIVISION_BY_ZERO),
        ("selec", SqlState::SYNTAX_ERROR),
        ("select * from nowhere", SqlState::UNDEFINED_TABLE),
    ] {
        assert_eq!(within(sql, client.query(sql, &[])).await.expect_err("wrong").code(), Some(&state));
        assert_eq!(within(sql, client.batch_execute(sql)).await.expect_err("wrong").code(), Some(&state));
    }
    let aborted = within("aborted", client.batch_execute("begin; select 1/0")).await;
    assert_eq!(aborted.expect_err("wrong").code(), Some(&SqlState::DIVISION_BY_ZERO));
    let refused = within("refused", client.query("select 1", &[])).await.expect_err("wrong");
    assert_eq!(refused.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    within("rollback", client.batch_execute("rollback")).await.expect("ok");

    // LISTEN on one connection, NOTIFY on another.
    // All clients share the database, and a listener receives the notifications of all.
    let channel = format!("news_{}", client.pid().await);
    within("listen", client.batch_execute(&format!("listen {channel}"))).await.expect("ok");
    let other = Driver::connected(&gate, "tokio-postgres, the other").await;
    let payload = "x".repeat(7000);
    within("notify", other.query("select pg_notify($1, $2)", &[&channel, &payload])).await.expect("ok");
    let heard = loop {
        match within("the notification", client.messages.recv()).await.expect("the connection lives") {
            AsyncMessage::Notification(notification) => break notification,
            _notice => {}
        }
    };
    assert_eq!((heard.channel(), heard.payload(), heard.process_id()), (&*channel, &*payload, other.pid().await));
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}
