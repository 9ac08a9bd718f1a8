//! A driver in Rust through the gate, on MariaDB and MySQL: logins, both protocols, a pool, users that change.

use mysql_async::{ChangeUserOpts, Conn, Error, Opts, Pool, PoolConstraints, PoolOpts, prelude::Queryable};

use crate::support::{
    driver::within,
    gate::{GateOptions, sandbox},
    servers::{Engine, Server},
};

/// Bytes of the one large result.
const BULK: usize = 5 << 20;

/// The server's own number and words.
fn code(error: &Error) -> (u16, &str) {
    let Error::Server(error) = error else { panic!("the server says nothing of it: {error}") };
    (error.code, &error.state)
}

/// The text before `@`: who the server takes this connection for.
async fn user(connection: &mut Conn) -> String {
    let user = within("the user", connection.query_first("select substring_index(current_user(), '@', 1)")).await;
    user.expect("ok").expect("a row")
}

/// A session variable that a reset clears.
async fn mark(connection: &mut Conn) -> Option<u64> {
    within("the mark", connection.query_first("select @mark")).await.expect("ok").expect("a row")
}

async fn mysql_async_is_content(engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    // It changes to another user: who one is must be left to it.
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    let connected = within("connect", Conn::new(gate.door().for_mysql_async())).await;
    let mut connection = connected.unwrap_or_else(|error| panic!("{error}\n{}", gate.log()));
    assert_eq!(user(&mut connection).await, "app_user");

    // Text protocol: rows, a null, more than one result of one call.
    let rows: Vec<(i64, Option<String>)> =
        within("text", connection.query("select 1, 'ä' union all select 2, null")).await.expect("ok");
    assert_eq!(rows, [(1, Some("ä".to_owned())), (2, None)]);
    let mut results = within("two", connection.query_iter("select 3; select 'vier'")).await.expect("ok");
    assert_eq!(within("the first", results.collect::<i64>()).await.expect("ok"), [3]);
    assert_eq!(within("the second", results.collect::<String>()).await.expect("ok"), ["vier"]);
    drop(results);

    // Binary protocol: one statement prepared once, with parameters of all lengths; the largest takes the long form.
    let statement = within("prepare", connection.prep("select ? * 2, ?")).await.expect("ok");
    for n in 0..200_i64 {
        let bytes = n.to_be_bytes().repeat(usize::try_from(n).expect("positive") * 8);
        let row = within("prepared", connection.exec_first(&statement, (n, &bytes))).await.expect("ok");
        assert_eq!(row, Some((n * 2, bytes)));
    }
    within("close", connection.close(statement)).await.expect("ok");
    within("table", connection.query_drop("create temporary table kept (id int primary key, text text)"))
        .await
        .expect("ok");
    let rows = (0..50).map(|n| (n, format!("row {n}")));
    within("batch", connection.exec_batch("insert into kept values (?, ?)", rows)).await.expect("ok");
    let count = within("count", connection.query_first("select count(*) from kept")).await.expect("ok");
    assert_eq!(count, Some(50));

    // One result of some megabytes, by both protocols.
    let sql = format!("select repeat('x', {BULK})");
    for text in [
        within("bulk, text", connection.query_first::<Vec<u8>, _>(&sql)).await,
        within("bulk, binary", connection.exec_first(&sql, ())).await,
    ] {
        let text = text.expect("ok").expect("a row");
        assert!(text.len() == BULK && text.iter().all(|byte| *byte == b'x'), "{} bytes", text.len());
    }

    // Errors keep the server's code and state, and leave the connection usable.
    for (sql, expected) in [
        ("selec", (1064, "42000")),
        ("select * from nowhere", (1146, "42S02")),
        ("insert into kept values (1, '')", (1062, "23000")),
    ] {
        let error = within(sql, connection.query_drop(sql)).await.expect_err("wrong");
        assert_eq!(code(&error), expected, "{sql}");
        let error = within(sql, connection.exec_drop(sql, ())).await.expect_err("wrong");
        assert_eq!(code(&error), expected, "{sql}, prepared");
    }
    assert_eq!(user(&mut connection).await, "app_user");

    // Another user on the same connection, and one that there is not.
    let number = connection.id();
    within("mark", connection.query_drop("set @mark = 1")).await.expect("ok");
    let to = |user: &str| ChangeUserOpts::default().with_user(Some(user.to_owned()));
    within("change user", connection.change_user(to("readonly"))).await.expect("ok");
    assert_eq!((user(&mut connection).await.as_str(), mark(&mut connection).await), ("readonly", None));
    let now = within("the number", connection.query_first("select connection_id()")).await.expect("ok");
    assert_eq!(now, Some(number), "it is the same database connection");
    let refused = within("refused", connection.change_user(to("nobody"))).await.expect_err("nobody");
    assert_eq!(code(&refused), (1045, "28000"));

    // A pool of one connection, which is reset each time it is given back.
    let one = PoolConstraints::new(1, 1).expect("one is no more than one");
    let pool =
        Pool::new(Opts::from(gate.door().for_mysql_async().pool_opts(PoolOpts::default().with_constraints(one))));
    let mut numbers = Vec::new();
    for _ in 0..4 {
        let mut pooled = within("pooled", pool.get_conn()).await.expect("ok");
        assert_eq!((user(&mut pooled).await.as_str(), mark(&mut pooled).await), ("app_user", None));
        within("mark", pooled.query_drop("set @mark = 1")).await.expect("ok");
        numbers.push(pooled.id());
    }
    numbers.dedup();
    assert_eq!(numbers.len(), 1, "it was reset, not replaced");
    within("the pool's end", pool.disconnect()).await.expect("ok");

    assert_eq!(sandbox.violations(), Vec::<String>::new());
    assert_eq!(sandbox.sessions().len(), 1, "all its connections shared one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_async_is_content_on_mariadb() {
    mysql_async_is_content(Engine::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_async_is_content_on_mysql() {
    mysql_async_is_content(Engine::MySql).await;
}
