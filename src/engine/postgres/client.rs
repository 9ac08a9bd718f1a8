//! The forms in which the programs for PostgreSQL get an address.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    engine::{Address, Client, Variables},
    quote,
};

/// libpq and psql, pgx and lib/pq, pgjdbc, psycopg.
pub(super) const CLIENT: Client = Client {
    program: "psql",
    localhost: "localhost",
    port: 5432,
    at_socket: directory_and_port,
    uri_socket: None,
    sqlalchemy_socket: None,
    command: psql,
    go: |address| Ok(keyword_values(address)),
    // PostgreSQL, "Connection URIs".
    uri_scheme: "postgresql",
    uri_tls: libpq_tls,
    jdbc_scheme: "postgresql",
    jdbc_tls: libpq_tls,
    sqlalchemy_scheme: "postgresql+psycopg",
    sqlalchemy_database: "dbname",
    sqlalchemy_tls: libpq_tls,
    // PostgreSQL, "Environment Variables".
    variables: Variables {
        host: "PGHOST",
        port: "PGPORT",
        socket: None,
        user: Some("PGUSER"),
        database: Some("PGDATABASE"),
        password: "PGPASSWORD",
        tls: |ca| {
            libpq_tls(ca)
                .into_iter()
                .zip(["PGSSLMODE", "PGSSLROOTCERT"])
                .map(|((_, value), name)| (name, value))
                .collect()
        },
        misleading: &[
            "PGSERVICE",
            "PGHOSTADDR",
            "PGREQUIRESSL",
            "PGSSLROOTCERT",
            "PGSSLNEGOTIATION",
            "PGSSLCERTMODE",
            "PGGSSENCMODE",
            "PGREQUIREAUTH",
            "PGCHANNELBINDING",
        ],
    },
    datagrip: ["POSTGRES", "postgresql", "org.postgresql.Driver"],
    dbeaver: ["postgresql", "postgres-jdbc"],
    sqltools: ["PostgreSQL", "pgOptions"],
    sqltools_options: |ca| json!({ "ssl": ca.map_or(json!(false), |ca| json!({ "ca": ca, "rejectUnauthorized": true })) }),
};

/// libpq takes a host that begins with a slash for the folder of a socket, whose name has the port.
fn directory_and_port(path: &str) -> Option<(&str, u16)> {
    let (folder, name) = path.rsplit_once('/')?;
    let port = name.strip_prefix(".s.PGSQL.")?.parse().ok()?;
    Some((if folder.is_empty() { "/" } else { folder }, port))
}

/// The port stays even when it is psql's own default, which PGPORT may have changed.
fn psql(address: &Address<'_>) -> String {
    let mut command = format!("psql -h {} -p {}", quote::shell(address.host), address.port);
    if let Some(user) = address.user {
        let _ = write!(command, " -U {}", quote::shell(user));
    }
    if let Some(database) = address.database {
        // A bare name that begins with a dash would be an option; one with '=' or a scheme a connection string.
        if database.starts_with('-') || database.contains(['=', ':']) {
            let value = database.replace('\\', r"\\").replace('\'', r"\'");
            let _ = write!(command, " -d {}", quote::shell(&format!("dbname='{value}'")));
        } else {
            let _ = write!(command, " {}", quote::shell(database));
        }
    }
    command
}

/// For pgx and lib/pq.
fn keyword_values(address: &Address<'_>) -> String {
    let mut text = format!("host={} port={}", quote::keyword_value(address.host), address.port);
    for (key, value) in [("user", address.user), ("dbname", address.database)] {
        if let Some(value) = value {
            let _ = write!(text, " {key}={}", quote::keyword_value(value));
        }
    }
    for (key, value) in libpq_tls(address.ca) {
        let _ = write!(text, " {key}={}", quote::keyword_value(&value));
    }
    text
}

/// The parameters of libpq, which pgjdbc and most other drivers have too.
fn libpq_tls(ca: Option<&str>) -> Vec<(&'static str, String)> {
    match ca {
        Some(ca) => vec![("sslmode", "verify-full".into()), ("sslrootcert", ca.into())],
        None => vec![("sslmode", "disable".into())],
    }
}
