//! The main job: psql on localhost reaches a private PostgreSQL through an SSM session, with no password.

use crate::support::{
    gate::{GateOptions, sandbox},
    servers::PgServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn psql_reaches_a_private_database_without_a_password() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut gate = GateOptions::new(server, &sandbox).usual_sessions().start().await;

    assert_eq!(gate.query("select current_user, current_database()").await, "app_user|appdb");
    assert_eq!(gate.query("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()").await, "t|TLSv1.3");

    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    assert!(sandbox.sessions().iter().all(|session| session.ended.is_some()), "{:?}", sandbox.sessions());
    assert_eq!(sandbox.sessions().len(), 1, "both connections shared one session");
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}
