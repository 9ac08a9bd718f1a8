//! How a client on this machine connects to a target: its local address, and that in every form that clients read.
//!
//! Names of users and databases may hold any character; each form escapes them by its own reader's rules. A form tells the client to
//! verify the listener's certificate, or not to ask for TLS where the listener has none.

pub mod ide;

use std::{net::SocketAddr, path::Path};

use safe_display::printable;

use crate::{
    engine::{Address, Client},
    target::{LocalTls, LocalTlsMode, Target},
};

/// A target and where it is on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// The target.
    pub target: &'a Target,
    /// The local host, a name or an IP address.
    pub host: &'a str,
    /// The local port; 0 before the system has chosen one.
    pub port: u16,
}

/// A name that a form has no way to write.
#[derive(Debug, thiserror::Error)]
#[error("{what} {name:?} cannot be written as {form}")]
pub struct Unwritable {
    /// `the user`, `the database`, `the host` or `the engine`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The form that cannot hold it.
    pub form: &'static str,
}

impl<'a> Connection<'a> {
    /// The configured host with the port that is really bound, if it is.
    pub fn new(target: &'a Target, bound: Option<SocketAddr>) -> Self {
        let listen = target.tcp();
        let host = match listen.map_or("localhost", |listen| listen.host.as_str()) {
            // Not every program tries both addresses.
            "localhost" => target.engine.facts().client.map_or("127.0.0.1", |client| client.localhost),
            host => host,
        };
        let configured = listen.map_or(0, |listen| listen.port);
        Self { target, host, port: bound.map_or(configured, |address| address.port()) }
    }

    /// Whether its names can be written in a form that people copy and programs read line by line.
    ///
    /// # Errors
    /// A name has control characters, or what else changes how a terminal shows a line.
    pub fn must_be_printable(&self, form: &'static str) -> Result<(), Unwritable> {
        let names = [("the user", self.user()), ("the database", self.database()), ("the host", Some(self.host))];
        match names.into_iter().find(|(_, name)| name.is_some_and(|name| name.contains(printable::controls))) {
            Some((what, name)) => Err(Unwritable { what, name: name.unwrap_or_default().into(), form }),
            None => Ok(()),
        }
    }

    fn address(&self) -> Address<'a> {
        Address { host: self.host, port: self.port, user: self.user(), database: self.database(), ca: self.ca() }
    }

    /// The file of the certificate that proves the listener; `None` for one without TLS.
    pub fn ca(&self) -> Option<&'a str> {
        let LocalTls { mode, certificate, .. } = &self.target.local_tls;
        certificate.as_deref().filter(|_| *mode != LocalTlsMode::Off).and_then(Path::to_str)
    }

    fn client(&self) -> Option<&'static Client> {
        self.target.engine.facts().client
    }

    /// The client, for a form that only a database has.
    fn of_database(&self, form: &'static str) -> Result<&'static Client, Unwritable> {
        let unwritable = || Unwritable { what: "the engine", name: self.target.engine.to_string(), form };
        self.client().ok_or_else(unwritable)
    }

    fn user(&self) -> Option<&'a str> {
        self.target.user.as_deref()
    }

    fn database(&self) -> Option<&'a str> {
        self.target.database.as_deref()
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        self.address().authority()
    }

    /// The command-line client of the engine; `None` where any program may be the client.
    pub fn program(&self) -> Option<&'static str> {
        self.client().map(|client| client.program)
    }

    /// The command for a shell that opens a prompt, where there is a client for it.
    pub fn command(&self) -> Option<String> {
        self.client().map(|client| (client.command)(&self.address()))
    }

    /// The URL that most programs take as DATABASE_URL; without a protocol `tcp://` and the address.
    pub fn uri(&self) -> String {
        match self.client() {
            Some(client) => client.uri(&self.address()),
            None => format!("tcp://{}", self.authority()),
        }
    }

    /// For JDBC.
    ///
    /// # Errors
    /// There is no database.
    pub fn jdbc(&self) -> Result<String, Unwritable> {
        Ok(self.of_database("a JDBC URL")?.jdbc(&self.address()))
    }

    /// For SQLAlchemy with psycopg or PyMySQL.
    ///
    /// # Errors
    /// There is no database.
    pub fn sqlalchemy(&self) -> Result<String, Unwritable> {
        Ok(self.of_database("a URL of SQLAlchemy")?.sqlalchemy(&self.address()))
    }

    /// For pgx and lib/pq, and for go-sql-driver/mysql.
    ///
    /// # Errors
    /// The form cannot hold the user, or there is no database.
    pub fn go(&self) -> Result<String, Unwritable> {
        let unwritable = |form| Unwritable { what: "the user", name: self.user().unwrap_or_default().into(), form };
        (self.of_database("a connection string for Go")?.go)(&self.address()).map_err(unwritable)
    }

    /// The environment that clients of this engine read, and DATABASE_URL for the rest. Without a database `FORWARD_HOST` and
    /// `FORWARD_PORT`, which no program reads by itself.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        match self.client() {
            Some(client) => client.variables(&self.address()),
            None => vec![("FORWARD_HOST", self.host.to_owned()), ("FORWARD_PORT", self.port.to_string())],
        }
    }

    /// The variables that must not be there, beside those of [`Connection::variables`].
    pub fn misleading(&self) -> &'static [&'static str] {
        self.client().map_or(&[], |client| client.variables.misleading)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        config::value,
        target::{
            Compress, Endpoint, Engine, Guard, Host, Identity, Isolation, Route, SessionSettings, default_pooling,
        },
    };

    pub(crate) fn target(engine: Engine, user: Option<&str>, database: Option<&str>, listen: &str) -> Target {
        let host: Host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".parse().unwrap();
        Target {
            name: "orders".into(),
            engine,
            pooling: default_pooling(Isolation::Shared, &host),
            endpoint: Endpoint { host, port: engine.default_port().unwrap_or(1521) },
            region: "eu-central-1".parse().unwrap(),
            user: user.map(str::to_owned),
            database: database.map(str::to_owned),
            auth: crate::target::Auth::Iam,
            password: crate::target::PasswordSource::default(),
            route: Route::Ssm("i-0123456789abcdef0".parse().unwrap()),
            identity: Identity::default(),
            alias: None,
            session: SessionSettings::default(),
            ca_file: None,
            compress: Compress::Auto,
            guard: Guard::default(),
            listen: value::listen_list(listen).unwrap(),
            allow_users: Vec::new(),
            local_password_file: None,
            local_tls: LocalTls::default(),
        }
    }

    /// Every form of one connection.
    fn forms(engine: Engine, user: Option<&str>, database: Option<&str>, listen: &str) -> Vec<String> {
        let target = target(engine, user, database, listen);
        let connection = Connection::new(&target, None);
        let go = connection.go().unwrap_or_else(|error| error.to_string());
        vec![
            connection.command().unwrap(),
            connection.uri(),
            connection.jdbc().unwrap(),
            connection.sqlalchemy().unwrap(),
            go,
        ]
    }

    #[test]
    fn plain_names() {
        assert_eq!(
            forms(Engine::Postgres, Some("app_user"), Some("orders_db"), "5432"),
            [
                "psql -h localhost -p 5432 -U app_user orders_db",
                "postgresql://app_user@localhost:5432/orders_db?sslmode=disable",
                "jdbc:postgresql://localhost:5432/orders_db?user=app_user&sslmode=disable",
                "postgresql+psycopg://app_user@localhost:5432/orders_db?sslmode=disable",
                "host=localhost port=5432 user=app_user dbname=orders_db sslmode=disable",
            ]
        );
        assert_eq!(
            forms(Engine::Mysql, Some("app_user"), Some("orders_db"), "3306"),
            [
                "mysql -h 127.0.0.1 -P 3306 -u app_user orders_db",
                "mysql://app_user@127.0.0.1:3306/orders_db",
                "jdbc:mysql://127.0.0.1:3306/orders_db?user=app_user&sslMode=DISABLED",
                "mysql+pymysql://app_user@127.0.0.1:3306/orders_db",
                "app_user@tcp(127.0.0.1:3306)/orders_db?tls=false",
            ]
        );
    }

    fn tls(certificate: &str) -> LocalTls {
        LocalTls { mode: LocalTlsMode::Require, certificate: Some(certificate.into()), ..LocalTls::default() }
    }

    #[test]
    fn forms_of_a_listener_with_tls_name_its_certificate() {
        let forms = |engine| {
            let mut target = target(engine, Some("app"), Some("db"), "1");
            target.local_tls = tls("/a b/ca.pem");
            let connection = Connection::new(&target, None);
            [connection.uri(), connection.jdbc().unwrap(), connection.sqlalchemy().unwrap(), connection.go().unwrap()]
        };
        assert_eq!(
            forms(Engine::Postgres),
            [
                "postgresql://app@localhost:1/db?sslmode=verify-full&sslrootcert=%2Fa%20b%2Fca.pem",
                "jdbc:postgresql://localhost:1/db?user=app&sslmode=verify-full&sslrootcert=%2Fa%20b%2Fca.pem",
                "postgresql+psycopg://app@localhost:1/db?sslmode=verify-full&sslrootcert=%2Fa%20b%2Fca.pem",
                "host=localhost port=1 user=app dbname=db sslmode=verify-full sslrootcert='/a b/ca.pem'",
            ]
        );
        assert_eq!(
            forms(Engine::Mysql),
            [
                "mysql://app@127.0.0.1:1/db?ssl-ca=%2Fa%20b%2Fca.pem",
                "jdbc:mysql://127.0.0.1:1/db?user=app&sslMode=REQUIRED",
                "mysql+pymysql://app@127.0.0.1:1/db?ssl_ca=%2Fa%20b%2Fca.pem",
                "app@tcp(127.0.0.1:1)/db?tls=skip-verify",
            ]
        );
        let mut target = target(Engine::Postgres, None, None, "1");
        target.local_tls = tls("/ca.pem");
        let variables = Connection::new(&target, None).variables();
        assert!(variables.contains(&("PGSSLMODE", "verify-full".into())), "{variables:?}");
        assert!(variables.contains(&("PGSSLROOTCERT", "/ca.pem".into())), "{variables:?}");
    }

    #[test]
    fn no_names() {
        assert_eq!(
            forms(Engine::Postgres, None, None, "[::1]:5433"),
            [
                "psql -h ::1 -p 5433",
                "postgresql://[::1]:5433/?sslmode=disable",
                "jdbc:postgresql://[::1]:5433/?sslmode=disable",
                "postgresql+psycopg://[::1]:5433/?sslmode=disable",
                "host=::1 port=5433 sslmode=disable",
            ]
        );
        assert_eq!(
            forms(Engine::Mysql, None, None, "[::1]:5433"),
            [
                "mysql -h ::1 -P 5433",
                "mysql://[::1]:5433/",
                "jdbc:mysql://[::1]:5433/?sslMode=DISABLED",
                "mysql+pymysql://[::1]:5433/",
                "tcp([::1]:5433)/?tls=false",
            ]
        );
    }

    #[test]
    fn odd_names() {
        assert_eq!(
            forms(Engine::Postgres, Some("it's me@x:y"), Some("-a=b/c?d &e"), "1"),
            [
                r"psql -h localhost -p 1 -U 'it'\''s me@x:y' -d 'dbname='\''-a=b/c?d &e'\'''",
                "postgresql://it%27s%20me%40x%3Ay@localhost:1/-a%3Db%2Fc%3Fd%20%26e?sslmode=disable",
                "jdbc:postgresql://localhost:1/-a%3Db%2Fc%3Fd%20%26e?user=it%27s%20me%40x%3Ay&sslmode=disable",
                "postgresql+psycopg://it%27s%20me%40x%3Ay@localhost:1/?dbname=-a%3Db%2Fc%3Fd%20%26e&sslmode=disable",
                r"host=localhost port=1 user='it\'s me@x:y' dbname='-a=b/c?d &e' sslmode=disable",
            ]
        );
        assert_eq!(
            forms(Engine::Mysql, Some("it's me@x"), Some("-a/b?c"), "1"),
            [
                r"mysql -h 127.0.0.1 -P 1 -u 'it'\''s me@x' -D '-a/b?c'",
                "mysql://it%27s%20me%40x@127.0.0.1:1/-a%2Fb%3Fc",
                "jdbc:mysql://127.0.0.1:1/-a%2Fb%3Fc?user=it%27s%20me%40x&sslMode=DISABLED",
                "mysql+pymysql://it%27s%20me%40x@127.0.0.1:1/?database=-a%2Fb%3Fc",
                "it's me@x@tcp(127.0.0.1:1)/-a%2Fb%3Fc?tls=false",
            ]
        );
        assert_eq!(
            forms(Engine::Mysql, Some("a:b"), None, "1")[4],
            "the user \"a:b\" cannot be written as a DSN of go-sql-driver"
        );
        assert_eq!(
            forms(Engine::Postgres, Some("a\u{1b}[31m\n"), Some("zoë"), "1")[..2],
            [
                r"psql -h localhost -p 1 -U $'a\033[31m\012' 'zoë'",
                "postgresql://a%1B%5B31m%0A@localhost:1/zo%C3%AB?sslmode=disable",
            ]
        );
    }

    #[test]
    fn the_environment_of_each_engine() {
        let target = target(Engine::Postgres, Some("app user"), None, "localhost:0");
        let connection = Connection::new(&target, Some("127.0.0.1:49152".parse().unwrap()));
        assert_eq!(
            connection.variables(),
            [
                ("PGHOST", "localhost".to_owned()),
                ("PGPORT", "49152".into()),
                ("PGUSER", "app user".into()),
                ("PGSSLMODE", "disable".into()),
                ("DATABASE_URL", "postgresql://app%20user@localhost:49152/?sslmode=disable".into()),
            ]
        );
        let target = self::target(Engine::Mysql, Some("app"), Some("shop"), "3307");
        assert_eq!(
            Connection::new(&target, None).variables(),
            [
                ("MYSQL_HOST", "127.0.0.1".to_owned()),
                ("MYSQL_TCP_PORT", "3307".into()),
                ("DATABASE_URL", "mysql://app@127.0.0.1:3307/shop".into()),
            ]
        );
    }
}
