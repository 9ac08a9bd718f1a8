//! How a client on this machine connects to a target: its local address, and that in every form that clients read.
//!
//! Names of users and databases may hold any character; each form escapes them by its own reader's rules. A form tells the client to
//! verify the listener's certificate, or not to ask for TLS where the listener has none.

pub mod ide;

use std::{net::IpAddr, path::Path};

use safe_display::printable;

use crate::{
    engine::{self, Client},
    target::{Address, ListenAddress, Local, LocalTls, LocalTlsMode, Target},
};

/// A target and where it is on this machine: at the first of its addresses.
#[derive(Debug, Clone, Copy)]
pub struct Connection<'a> {
    /// The target.
    pub target: &'a Target,
    /// The local host, a name or an IP address; for a unix socket the word that leads programs to it.
    pub host: &'a str,
    /// The local port; 0 before the system has chosen one.
    pub port: u16,
    /// The path of the unix socket, where it is one.
    pub socket: Option<&'a str>,
    /// Host and port of the first TCP address.
    tcp: Option<(&'a str, u16)>,
}

/// A name that a form has no way to write.
#[derive(Debug, thiserror::Error)]
#[error("{what} {name:?} cannot be written as {form}")]
pub struct Unwritable {
    /// `the user`, `the database`, `the host`, `the unix socket` or `the engine`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The form that cannot hold it.
    pub form: &'static str,
}

impl Unwritable {
    /// The remedy, where there is one beside another name.
    pub fn hint(&self) -> Option<&'static str> {
        let is_socket = self.what == SOCKET;
        is_socket.then_some("give the target a TCP address too: listen = [\"unix\", \"localhost:PORT\"]")
    }
}

/// A [`Unwritable::what`].
const SOCKET: &str = "the unix socket";

impl<'a> Connection<'a> {
    /// Whether the system has yet to choose its port.
    pub fn is_any_port(&self) -> bool {
        self.socket.is_none() && self.port == 0
    }

    /// The configured addresses, or those that are really bound, if they are.
    pub fn new(target: &'a Target, bound: &'a [Local]) -> Self {
        let client = target.engine.facts().client;
        let named = |ip: Option<IpAddr>| {
            let has_ip = |listen: &&ListenAddress| ip.is_none_or(|ip| listen.is_at(ip));
            let listen = target.listen.iter().filter_map(Address::tcp).find(has_ip).or(target.tcp());
            match listen.map_or("localhost", |listen| listen.host.as_str()) {
                // Not every program tries both addresses.
                "localhost" | "0.0.0.0" | "::" => client.map_or("127.0.0.1", |client| client.localhost),
                host => host,
            }
        };
        let configured = || target.tcp().map(|listen| (named(None), listen.port));
        let tcp = match bound.iter().find_map(Local::tcp) {
            Some(bound) => Some((named(Some(bound.ip())), bound.port())),
            None => configured().filter(|_| bound.is_empty()),
        };
        let addresses = (bound.first(), target.listen.first());
        let first = if let (Some(Local::Unix(path)), _) | (None, Some(Address::Unix(path))) = addresses {
            path.to_str()
        } else {
            None
        };
        let at = |path| client.map_or(Some((path, 0)), |client| (client.at_socket)(path));
        let by_tcp = || (tcp.unwrap_or(("localhost", 0)), None);
        let at_socket = first.and_then(|path| Some((at(path)?, Some(path))));
        let ((host, port), socket) = at_socket.unwrap_or_else(by_tcp);
        Self { target, host, port, socket, tcp }
    }

    /// The connection by TCP, for a form that has no words for a unix socket.
    ///
    /// # Errors
    /// The target listens on unix sockets alone.
    pub fn by_tcp(&self, form: &'static str) -> Result<Self, Unwritable> {
        match (self.socket, self.tcp) {
            (None, _) => Ok(*self),
            (Some(_), Some((host, port))) => Ok(Self { host, port, socket: None, ..*self }),
            (Some(path), None) => Err(Unwritable { what: SOCKET, name: path.into(), form }),
        }
    }

    /// Whether its names can be written in a form that people copy and programs read line by line.
    ///
    /// # Errors
    /// A name has control characters, or what else changes how a terminal shows a line.
    pub fn must_be_printable(&self, form: &'static str) -> Result<(), Unwritable> {
        let names = [("the user", self.user()), ("the database", self.database()), ("the host", Some(self.host))];
        let mut names = names.into_iter().chain([(SOCKET, self.socket)]);
        match names.find(|(_, name)| name.is_some_and(|name| name.contains(printable::controls))) {
            Some((what, name)) => Err(Unwritable { what, name: name.unwrap_or_default().into(), form }),
            None => Ok(()),
        }
    }

    fn address(&self) -> engine::Address<'a> {
        engine::Address {
            host: self.host,
            port: self.port,
            socket: self.socket,
            user: self.user(),
            database: self.database(),
            ca: self.ca(),
        }
    }

    /// The file of the certificate that proves the listener; `None` for one without TLS, as a unix socket is for programs.
    pub fn ca(&self) -> Option<&'a str> {
        let LocalTls { mode, certificate, .. } = &self.target.local_tls;
        let is_used = *mode != LocalTlsMode::Off && self.socket.is_none();
        certificate.as_deref().filter(|_| is_used).and_then(Path::to_str)
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

    /// `host:port`, an IPv6 address in brackets; `unix:` and the path of a unix socket.
    pub fn authority(&self) -> String {
        match self.socket {
            Some(path) => format!("unix:{path}"),
            None => self.address().authority(),
        }
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
            None if self.socket.is_some() => self.authority(),
            None => format!("tcp://{}", self.authority()),
        }
    }

    /// For JDBC.
    ///
    /// # Errors
    /// There is no database, or no TCP address.
    pub fn jdbc(&self) -> Result<String, Unwritable> {
        const FORM: &str = "a JDBC URL";
        Ok(self.of_database(FORM)?.jdbc(&self.by_tcp(FORM)?.address()))
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
    /// `FORWARD_PORT`, or `FORWARD_SOCKET`, which no program reads by itself.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        match self.client() {
            Some(client) => client.variables(&self.address()),
            None if self.socket.is_some() => vec![("FORWARD_SOCKET", self.host.to_owned())],
            None => vec![("FORWARD_HOST", self.host.to_owned()), ("FORWARD_PORT", self.port.to_string())],
        }
    }

    /// The variable from which clients of this engine take a password; `None` without a database.
    pub fn password_variable(&self) -> Option<&'static str> {
        self.client().map(|client| client.variables.password)
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
            listen: vec![Address::Tcp(value::listen(listen).unwrap())],
            socket: crate::target::SocketAccess::PRIVATE,
            allow_users: Vec::new(),
            local_password_file: None,
            local_tls: LocalTls::default(),
            max_connections: None,
            reuse: None,
            max_logins_per_second: 180,
        }
    }

    /// Every form of one connection.
    fn forms(engine: Engine, user: Option<&str>, database: Option<&str>, listen: &str) -> Vec<String> {
        let target = target(engine, user, database, listen);
        let connection = Connection::new(&target, &[]);
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
            let connection = Connection::new(&target, &[]);
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
        let variables = Connection::new(&target, &[]).variables();
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
        let bound = [Local::Tcp("127.0.0.1:49152".parse().unwrap())];
        let connection = Connection::new(&target, &bound);
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
            Connection::new(&target, &[]).variables(),
            [
                ("MYSQL_HOST", "127.0.0.1".to_owned()),
                ("MYSQL_TCP_PORT", "3307".into()),
                ("DATABASE_URL", "mysql://app@127.0.0.1:3307/shop".into()),
            ]
        );
    }

    #[test]
    fn unix_socket_is_named_as_each_program_names_one() {
        let socket = |engine, path: &str| {
            let mut target = target(engine, Some("app"), Some("shop"), "5433");
            target.listen.insert(0, Address::Unix(path.into()));
            target
        };
        let postgres = socket(Engine::Postgres, "/run/a b/.s.PGSQL.5432");
        let connection = Connection::new(&postgres, &[]);
        assert_eq!(connection.command().unwrap(), "psql -h '/run/a b' -p 5432 -U app shop");
        assert_eq!(connection.uri(), "postgresql://app@/shop?host=%2Frun%2Fa%20b&sslmode=disable");
        assert_eq!(
            connection.sqlalchemy().unwrap(),
            "postgresql+psycopg://app@/shop?host=%2Frun%2Fa%20b&sslmode=disable"
        );
        assert_eq!(connection.go().unwrap(), "host='/run/a b' port=5432 user=app dbname=shop sslmode=disable");
        assert_eq!(connection.variables()[..2], [("PGHOST", "/run/a b".into()), ("PGPORT", "5432".to_owned())]);
        assert_eq!(connection.jdbc().unwrap(), "jdbc:postgresql://localhost:5433/shop?user=app&sslmode=disable");
        let other_port = socket(Engine::Postgres, "/run/.s.PGSQL.5433");
        let uri = Connection::new(&other_port, &[]).uri();
        assert_eq!(uri, "postgresql://app@/shop?host=%2Frun&port=5433&sslmode=disable");

        let mysql = socket(Engine::Mysql, "/run/mysql.sock");
        let connection = Connection::new(&mysql, &[]);
        assert_eq!(connection.command().unwrap(), "mysql -S /run/mysql.sock -u app shop");
        assert_eq!(connection.uri(), "mysql://app@localhost/shop?socket=%2Frun%2Fmysql.sock");
        let sqlalchemy = connection.sqlalchemy().unwrap();
        assert_eq!(sqlalchemy, "mysql+pymysql://app@localhost/shop?unix_socket=%2Frun%2Fmysql.sock");
        assert_eq!(connection.go().unwrap(), "app@unix(/run/mysql.sock)/shop?tls=false");
        let variables = [("MYSQL_HOST", "localhost".to_owned()), ("MYSQL_UNIX_PORT", "/run/mysql.sock".into())];
        assert_eq!(connection.variables()[..2], variables);

        let mut tcp = socket(Engine::Tcp, "/run/tcp.sock");
        tcp.listen.truncate(1);
        let connection = Connection::new(&tcp, &[]);
        assert_eq!(
            (connection.uri(), connection.authority()),
            ("unix:/run/tcp.sock".into(), "unix:/run/tcp.sock".into())
        );
        assert_eq!(connection.variables(), [("FORWARD_SOCKET", "/run/tcp.sock".to_owned())]);
        let mut alone = mysql;
        alone.listen.truncate(1);
        let unwritable = Connection::new(&alone, &[]).jdbc().unwrap_err().to_string();
        assert_eq!(unwritable, r#"the unix socket "/run/mysql.sock" cannot be written as a JDBC URL"#);
    }
}
