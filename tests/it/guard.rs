//! The production guard on real servers: what a slip of the hand cannot do, and what the DBA sees.

use mysql_async::{ChangeUserOpts, Conn, Error, prelude::Queryable};

use crate::support::{
    driver::within,
    gate::{GateOptions, sandbox},
    refusal::Wire,
    servers::{Engine, PgServer, Server},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_postgresql_writes_nothing_by_accident_and_says_who_is_there() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox)
        .argument("--read-only")
        .flag("--statement-timeout", "700ms")
        .flag("--label", "PRODUCTION")
        .start()
        .await;
    gate.says("PRODUCTION] listening on localhost:").await;
    gate.says(", verify-full, read only)").await;

    let refused = gate.psql("create table guard_written (id int)").await;
    assert!(refused.stderr.contains("cannot execute CREATE TABLE in a read-only transaction"), "{}", refused.stderr);
    let slow = gate.psql("select pg_sleep(60)").await;
    assert!(slow.stderr.contains("canceling statement due to statement timeout"), "{}", slow.stderr);
    assert_eq!(gate.query("show statement_timeout").await, "700ms");
    // Whatever a client asks for at its start, however it writes that.
    for options in [
        "-c default_transaction_read_only=off",
        "-cDEFAULT_TRANSACTION_READ_ONLY=off",
        "--default-transaction-read-only=off",
        "--Default_Transaction_Read_Only=off",
        r"-e -c default_\transaction_read\_only=off -c statement_timeout=0",
    ] {
        for more in [&[("options", options)][..], &[("options", options), ("DEFAULT_TRANSACTION_READ_ONLY", "off")]] {
            let mut wire = Wire::connect(gate.port).await.start(more).await;
            wire.until(b'Z').await;
            for (setting, value) in [("default_transaction_read_only", "on"), ("statement_timeout", "700ms")] {
                let query = format!("show {setting}\0");
                let length = u32::try_from(query.len() + 4).expect("short").to_be_bytes();
                wire.send(&[b"Q", &length[..], query.as_bytes()].concat()).await;
                let row = wire.until(b'D').await;
                assert!(row.ends_with(value.as_bytes()), "{more:?}: {}", row.escape_ascii());
                wire.until(b'Z').await;
            }
        }
    }
    // The guard does not replace permissions: a client can lift it on purpose.
    assert_eq!(gate.query("begin read write; select 1; commit").await, "BEGIN\n1\nCOMMIT");

    let name = gate.query("select application_name from pg_stat_activity where pid = pg_backend_pid()").await;
    let arn = sandbox.sessions()[0].owner_arn.clone();
    let who =
        arn.rsplit(':').next().expect("a resource").trim_start_matches("assumed-role/").trim_start_matches("user/");
    assert_eq!(name, format!("psql ({who})"));
}

/// MariaDB and MySQL, with a driver that can reset and change its user.
async fn a_guarded_mysql_writes_nothing(engine: Engine) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    let sandbox = sandbox(server).await;
    let gate =
        GateOptions::new(server, &sandbox).argument("--read-only").flag("--statement-timeout", "700ms").start().await;
    let mut connection = within("connect", Conn::new(gate.door().for_mysql_async())).await.expect("ok");
    for round in ["after the login", "after a reset", "after a change of user", "after another reset"] {
        let error = within("write", connection.query_drop("create table guard_written (id int)")).await;
        let error = error.expect_err(round);
        let Error::Server(error) = error else { panic!("{round}: {error}") };
        assert_eq!((error.code, error.state.as_str()), (1792, "25006"), "{round}: {}", error.message);
        let limit = if engine == Engine::MariaDb {
            "select cast(@@session.max_statement_time * 1000 as unsigned)"
        } else {
            "select @@session.max_execution_time"
        };
        let limit: Option<u64> = within("limit", connection.query_first(limit)).await.expect("ok");
        assert_eq!(limit, Some(700), "{engine:?} {round}");
        if round == "after a reset" {
            within("change", connection.change_user(ChangeUserOpts::default())).await.expect("ok");
        } else {
            assert!(within("reset", connection.reset()).await.expect("ok"), "{engine:?} has COM_RESET_CONNECTION");
        }
    }
    // The session's own variables are gone all the same.
    within("mark", connection.query_drop("set @mark = 1")).await.expect("ok");
    assert!(within("reset", connection.reset()).await.expect("ok"));
    let mark: Option<Option<u64>> = within("mark", connection.query_first("select @mark")).await.expect("ok");
    assert_eq!(mark, Some(None));

    let who: Option<String> = within(
        "who",
        connection.query_first(
            "select attr_value from performance_schema.session_account_connect_attrs \
             where attr_name = '_rdsgate_principal' and processlist_id = connection_id()",
        ),
    )
    .await
    .expect("ok");
    if let Some(who) = who {
        assert!(sandbox.sessions()[0].owner_arn.ends_with(&who), "{who}");
    } else {
        assert_eq!(engine, Engine::MariaDb, "its performance schema is off unless it is asked for");
    }
    within("end", connection.disconnect()).await.expect("ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mariadb_writes_nothing_by_accident() {
    a_guarded_mysql_writes_nothing(Engine::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guarded_mysql_writes_nothing_by_accident() {
    a_guarded_mysql_writes_nothing(Engine::MySql).await;
}
