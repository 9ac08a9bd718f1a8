//! sqlx through the gate, on MariaDB and MySQL: logins, both protocols, a pool, big results, errors.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::{
    Connection, Error, Executor, MySqlConnection, Row,
    mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions, MySqlSslMode},
};

use crate::support::{
    driver::within,
    gate::{Gate, GateOptions, sandbox},
    servers::{Engine, Server},
};

/// Bytes of the one large result.
const BULK: usize = 5 << 20;

/// How to connect: no password, no TLS, nothing but the address and a name.
fn options(gate: &Gate) -> MySqlConnectOptions {
    let door = gate.door();
    let options = MySqlConnectOptions::new().host(door.host).port(door.port).username(door.user);
    options.database(door.database).ssl_mode(MySqlSslMode::Disabled)
}

/// The server's own number and state.
fn code(error: &Error) -> (u16, String) {
    let Error::Database(error) = error else { panic!("the server says nothing of it: {error}") };
    let error = error.downcast_ref::<MySqlDatabaseError>();
    (error.number(), error.code().unwrap_or_default().to_owned())
}

/// The user of this connection as the server sees it, and its number.
async fn identity(connection: &mut MySqlConnection) -> (String, u64) {
    let sql = "select substring_index(current_user(), '@', 1), connection_id()";
    within("the user", sqlx::query_as(sql).fetch_one(connection)).await.expect("a row")
}

async fn sqlx_is_content(engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).without("--user").start().await;
    let connected = within("connect", MySqlConnection::connect_with(&options(&gate))).await;
    let mut connection = connected.unwrap_or_else(|error| panic!("{error}\n{}", gate.log()));
    let (user, number) = identity(&mut connection).await;
    assert_eq!(user, "app_user");

    // Text protocol: rows, a null, more than one result of one call.
    let sql = "select 1, 'ä' union all select 2, null; select 3, 'drei'";
    let rows: Vec<(i64, Option<String>)> = {
        let rows = within("text", connection.fetch_all(sqlx::raw_sql(sql))).await.expect("ok");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    assert_eq!(rows, [(1, Some("ä".to_owned())), (2, None), (3, Some("drei".to_owned()))]);

    // Binary protocol: one statement, prepared once and kept, with parameters of all lengths.
    for n in 0..200_i64 {
        let bytes = n.to_be_bytes().repeat(usize::try_from(n).expect("positive") * 8);
        let query = sqlx::query_as::<_, (i64, Vec<u8>)>("select ? * 2, ?").bind(n).bind(&bytes);
        let row = within("prepared", query.fetch_one(&mut connection)).await.expect("ok");
        assert_eq!(row, (n * 2, bytes));
    }
    assert!(connection.cached_statements_size() > 0);
    within("clear", connection.clear_cached_statements()).await.expect("ok");

    // A transaction given up and one kept.
    let sql = "create temporary table kept (id int primary key, text text)";
    within("table", sqlx::raw_sql(sql).execute(&mut connection)).await.expect("ok");
    for keep in [false, true] {
        let mut transaction = within("begin", connection.begin()).await.expect("ok");
        for n in 0..50 {
            let insert = sqlx::query("insert into kept values (?, ?)").bind(n).bind(format!("row {n}"));
            within("insert", insert.execute(&mut *transaction)).await.expect("ok");
        }
        let end = async { if keep { transaction.commit().await } else { transaction.rollback().await } };
        within("end", end).await.expect("ok");
        let count = sqlx::query_scalar::<_, i64>("select count(*) from kept").fetch_one(&mut connection);
        assert_eq!(within("count", count).await.expect("ok"), if keep { 50 } else { 0 });
    }

    // Results of some megabytes: one value by both protocols, and many rows as they come.
    let big = "select repeat(convert('x' using latin1), 5242880)";
    let text = within("bulk, text", connection.fetch_one(sqlx::raw_sql(big))).await.expect("ok").get::<Vec<u8>, _>(0);
    let binary = within("bulk, binary", sqlx::query_scalar(big).fetch_one(&mut connection)).await;
    for value in [text, binary.expect("ok")] {
        assert!(value.len() == BULK && value.iter().all(|byte| *byte == b'x'), "{} bytes", value.len());
    }
    let sql = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000) \
               select a.i * 1000 + b.i, repeat('y', 50) from n a, n b where b.i <= 50";
    let mut rows = sqlx::query(sql).fetch(&mut connection);
    let mut count = 0;
    while let Some(row) = within("a row", rows.try_next()).await.expect("ok") {
        assert_eq!(row.get::<String, _>(1).len(), 50);
        count += 1;
    }
    drop(rows);
    assert_eq!(count, 50_000);

    // Errors keep the server's code and state, and leave the connection usable.
    for (sql, number, state) in [
        ("selec", 1064, "42000"),
        ("select * from nowhere", 1146, "42S02"),
        ("insert into kept values (1, '')", 1062, "23000"),
    ] {
        let error = within(sql, sqlx::raw_sql(sql).execute(&mut connection)).await.expect_err("wrong");
        assert_eq!(code(&error), (number, state.to_owned()), "{sql}");
        let error = within(sql, sqlx::query(sql).execute(&mut connection)).await.expect_err("wrong");
        assert_eq!(code(&error), (number, state.to_owned()), "{sql}, prepared");
    }
    assert_eq!(identity(&mut connection).await, (user, number));
    within("ping", connection.ping()).await.expect("ok");
    within("close", connection.close()).await.expect("ok");

    // Refused at the login, and with a password that is not asked for.
    for (options, expected) in [
        (options(&gate).database("mysql"), (1044, "42000")),
        (options(&gate).username("nobody").password("hush"), (1045, "28000")),
    ] {
        let error = within("refused", MySqlConnection::connect_with(&options)).await.expect_err("refused");
        assert_eq!(code(&error), (expected.0, expected.1.to_owned()));
    }

    // A pool: never more than its connections, each used again.
    let pool = MySqlPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_mins(1));
    let pool = within("pool", pool.connect_with(options(&gate).password("whatever"))).await.expect("ok");
    let asked = futures_util::future::join_all((0..40_i64).map(async |n| {
        let sql = "select connection_id(), ?, sleep(0.01)";
        sqlx::query_as::<_, (u64, i64, i32)>(sql).bind(n).fetch_one(&pool).await.map(|row| (row.0, row.1))
    }));
    let answers = within("forty queries", asked).await.into_iter().collect::<Result<Vec<_>, _>>().expect("ok");
    assert!(answers.iter().enumerate().all(|(n, (_, back))| usize::try_from(*back).ok() == Some(n)), "{answers:?}");
    let connections: std::collections::BTreeSet<u64> = answers.iter().map(|(id, _)| *id).collect();
    assert!((1..=4).contains(&connections.len()), "{connections:?}");
    within("the pool's end", pool.close()).await;

    assert_eq!(sandbox.violations(), Vec::<String>::new());
    assert_eq!(sandbox.sessions().len(), 1, "all its connections shared one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlx_is_content_on_mariadb() {
    sqlx_is_content(Engine::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlx_is_content_on_mysql() {
    sqlx_is_content(Engine::MySql).await;
}
