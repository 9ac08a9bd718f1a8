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
    command: psql,
    go: |address| Ok(keyword_values(address)),
    // PostgreSQL, "Connection URIs".
    uri_scheme: "postgresql",
    uri_query: "?sslmode=disable",
    jdbc_scheme: "postgresql",
    jdbc_no_tls: ("sslmode", "disable"),
    sqlalchemy_scheme: "postgresql+psycopg",
    sqlalchemy_database: "dbname",
    sqlalchemy_no_tls: Some("sslmode=disable"),
    // PostgreSQL, "Environment Variables".
    variables: Variables {
        host: "PGHOST",
        port: "PGPORT",
        user: Some("PGUSER"),
        database: Some("PGDATABASE"),
        fixed: &[("PGSSLMODE", "disable")],
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
    sqltools_options: || json!({ "ssl": false }),
};

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
    let mut text = format!("host={} port={}", address.host, address.port);
    for (key, value) in [("user", address.user), ("dbname", address.database)] {
        if let Some(value) = value {
            let _ = write!(text, " {key}={}", quote::keyword_value(value));
        }
    }
    text + " sslmode=disable"
}
