//! A stand-in while the scenarios are written: the servers by themselves.

mod support;

use std::process::Command;
use support::servers::{PgOptions, PgServer, Variant};

fn verify_full(server: &PgServer) -> String {
    let conninfo = format!(
        "host={} hostaddr=127.0.0.1 port={} user=legacy_user password=legacypass dbname=appdb sslmode=verify-full sslrootcert={}",
        server.rds_host,
        server.addr.port(),
        server.ca.display()
    );
    let output = Command::new("psql").args([conninfo.as_str(), "-XAtc", "select current_user"]).output().expect("psql");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_server_starts_changes_its_certificate_and_leaves_nothing_behind() {
    let server = PgServer::start(&PgOptions {
        settings: vec![("max_connections".into(), "10".into())],
        certificate: Some(Variant::Expired),
        ..PgOptions::default()
    });
    assert_eq!(server.admin("show max_connections"), "10");
    assert!(verify_full(&server).contains("certificate verify failed"));
    server.certificate(Variant::WrongHost);
    assert!(verify_full(&server).contains("does not match host name"));
    server.certificate(Variant::Good);
    assert_eq!(verify_full(&server), "legacy_user\n");
    let scratch = server.auth_log.parent().expect("in a folder").to_owned();
    let addr = server.addr;
    drop(server);
    assert!(!scratch.exists());
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn servers_stand_side_by_side() {
    let other = PgServer::start(&PgOptions {
        hosts: vec!["second.c1abcdefghij.eu-central-1.rds.amazonaws.com".into()],
        ..PgOptions::default()
    });
    assert_eq!(verify_full(PgServer::shared()), "legacy_user\n");
    assert_eq!(verify_full(&other), "legacy_user\n");
    assert_ne!(other.addr, PgServer::shared().addr);
}

#[test]
fn every_client_is_content_with_a_plain_server() {
    use support::clients::{Client, Door};
    let server = PgServer::start(&PgOptions { trust: true, ..PgOptions::default() });
    let door = Door { host: "127.0.0.1", port: server.addr.port(), database: "appdb", user: "app_user" };
    let clients = [
        Client::Psycopg,
        Client::Asyncpg,
        Client::SqlAlchemy,
        Client::Django,
        Client::Node,
        Client::Java,
        Client::Psql,
        Client::Pgbench,
    ];
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || assert!(client.run(door).len() > 3, "{client:?}"));
        }
    });
    assert!(Client::Psycopg.run_with_row_of(1000, door).contains(&"row of 1000 bytes up".to_owned()));
}
