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
    command: mysql,
    go: dsn,
    uri_scheme: "mysql",
    uri_query: "",
    jdbc_scheme: "mysql",
    jdbc_no_tls: ("sslMode", "DISABLED"),
    sqlalchemy_scheme: "mysql+pymysql",
    sqlalchemy_database: "database",
    sqlalchemy_no_tls: None,
    variables: Variables {
        host: "MYSQL_HOST",
        port: "MYSQL_TCP_PORT",
        user: None,
        database: None,
        fixed: &[],
        misleading: &[],
    },
    datagrip: ["MYSQL", "mysql.8", "com.mysql.cj.jdbc.Driver"],
    dbeaver: ["mysql", "mysql8"],
    sqltools: ["MySQL", "mysqlOptions"],
    sqltools_options: || json!({ "authProtocol": "default", "enableSsl": "Disabled" }),
};

/// With options that MySQL's and MariaDB's client both know.
fn mysql(address: &Address<'_>) -> String {
    let mut command = format!("mysql -h {} -P {}", quote::shell(address.host), address.port);
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
    Ok(format!("{user}{at}tcp({})/{database}?tls=false", address.authority()))
}
