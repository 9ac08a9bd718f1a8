//! The forms in which the programs for MySQL and MariaDB get an address.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    engine::{Address, Client, Variables},
    quote,
};

/// mysql and mariadb, go-sql-driver, Connector/J (MariaDB's connector reads the same after `jdbc:mariadb`), PyMySQL.
pub(super) const CLIENT: Client = Client {
    program: "mysql",
    localhost: "127.0.0.1",
    port: 3306,
    // Of which libmysqlclient makes a socket.
    at_socket: |_| Some(("localhost", 3306)),
    uri_socket: Some("socket"),
    sqlalchemy_socket: Some("unix_socket"),
    command: mysql,
    go: dsn,
    uri_scheme: "mysql",
    // Read by mysqlsh and dj-database-url.
    uri_tls: |ca| ca.map(|ca| ("ssl-ca", ca.into())).into_iter().collect(),
    jdbc_scheme: "mysql",
    // It reads certificates from a keystore, not from a file.
    jdbc_tls: |ca| vec![("sslMode", if ca.is_some() { "REQUIRED" } else { "DISABLED" }.into())],
    sqlalchemy_scheme: "mysql+pymysql",
    sqlalchemy_database: "database",
    sqlalchemy_tls: |ca| ca.map(|ca| ("ssl_ca", ca.into())).into_iter().collect(),
    variables: Variables {
        host: "MYSQL_HOST",
        port: "MYSQL_TCP_PORT",
        socket: Some("MYSQL_UNIX_PORT"),
        user: None,
        database: None,
        password: "MYSQL_PWD",
        tls: |_| Vec::new(),
        misleading: &[],
    },
    datagrip: ["MYSQL", "mysql.8", "com.mysql.cj.jdbc.Driver"],
    dbeaver: ["mysql", "mysql8"],
    sqltools: ["MySQL", "mysqlOptions"],
    sqltools_options: |ca| match ca {
        Some(ca) => json!({ "authProtocol": "default", "enableSsl": "Enabled", "ssl": { "ca": ca } }),
        None => json!({ "authProtocol": "default", "enableSsl": "Disabled" }),
    },
};

/// With options that MySQL's and MariaDB's client both know.
fn mysql(address: &Address<'_>) -> String {
    let mut command = match address.socket {
        Some(path) => format!("mysql -S {}", quote::shell(path)),
        None => format!("mysql -h {} -P {}", quote::shell(address.host), address.port),
    };
    if let Some(user) = address.user {
        let _ = write!(command, " -u {}", quote::shell(user));
    }
    if let Some(database) = address.database {
        // A bare name that begins with a dash would be an option.
        let option = if database.starts_with('-') { "-D " } else { "" };
        let _ = write!(command, " {option}{}", quote::shell(database));
    }
    command
}

/// For go-sql-driver/mysql, whose form ends the user at the first colon and has no escape for one.
fn dsn(address: &Address<'_>) -> Result<String, &'static str> {
    let user = address.user.unwrap_or_default();
    if user.contains(':') {
        return Err("a DSN of go-sql-driver");
    }
    let at = if user.is_empty() { "" } else { "@" };
    let database = address.database.map(quote::percent).unwrap_or_default();
    // A certificate has to be registered in the program.
    let tls = if address.ca.is_some() { "skip-verify" } else { "false" };
    let place = match address.socket {
        Some(path) if path.contains(['(', ')']) => return Err("a DSN of go-sql-driver"),
        Some(path) => format!("unix({path})"),
        None => format!("tcp({})", address.authority()),
    };
    Ok(format!("{user}{at}{place}/{database}?tls={tls}"))
}
