//! The programs and drivers that connect to the databases of an engine, and the form in which each gets the address.
//!
//! Each is configured for the listener's TLS: to verify its certificate where there is one, as far as the form can say so, and not to
//! request TLS where there is none.

use serde_json::Value;

use crate::quote;

/// Where a program connects to on this machine, and as whom. Names may hold any character; each form escapes them by the rules
/// of its reader.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// A name or an IP address.
    pub host: &'a str,
    /// The port of the listener.
    pub port: u16,
    /// The path of the unix socket, where it is one. `host` and `port` are then what [`Client::at_socket`] makes of it.
    pub socket: Option<&'a str>,
    /// The configured user.
    pub user: Option<&'a str>,
    /// The configured database.
    pub database: Option<&'a str>,
    /// The file of the certificate that proves the listener; `None` for one without TLS.
    pub ca: Option<&'a str>,
}

/// Settings of a form for TLS with a certificate in this file, or for none.
pub type TlsSettings = fn(ca: Option<&str>) -> Vec<(&'static str, String)>;

impl Address<'_> {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The forms in which the programs for one engine get an address.
#[derive(Debug)]
pub struct Client {
    /// The command-line client, which is also the subcommand that runs it.
    pub program: &'static str,
    /// The host to write for `localhost`, which some clients take for a unix socket.
    pub localhost: &'static str,
    /// The port that programs take by default.
    pub port: u16,
    /// Host and port that lead to the unix socket at a path; `None` for a path that the programs cannot be led to.
    pub at_socket: fn(&str) -> Option<(&str, u16)>,
    /// The parameter of a URI that holds the path of a unix socket. `None` where the socket is a host.
    pub uri_socket: Option<&'static str>,
    /// The same of a URL of SQLAlchemy.
    pub sqlalchemy_socket: Option<&'static str>,
    /// The command for a shell that opens a prompt.
    pub command: fn(&Address<'_>) -> String,
    /// The connection string of the engine's drivers for Go; the form's name where it cannot hold the user.
    pub go: fn(&Address<'_>) -> Result<String, &'static str>,
    /// Before `://` in the URI that most programs take as DATABASE_URL.
    pub uri_scheme: &'static str,
    /// The parameters of that URI for TLS.
    pub uri_tls: TlsSettings,
    /// Behind `jdbc:`.
    pub jdbc_scheme: &'static str,
    /// The JDBC driver's properties for TLS.
    pub jdbc_tls: TlsSettings,
    /// SQLAlchemy's dialect and driver.
    pub sqlalchemy_scheme: &'static str,
    /// The driver's parameter for a database that a URL's path cannot hold in all versions.
    pub sqlalchemy_database: &'static str,
    /// The driver's parameters for TLS.
    pub sqlalchemy_tls: TlsSettings,
    /// The environment.
    pub variables: Variables,
    /// JetBrains' names for the engine, the driver and the driver's class.
    pub datagrip: [&'static str; 3],
    /// DBeaver's names for the provider and the driver.
    pub dbeaver: [&'static str; 2],
    /// SQLTools' name for the driver and for the key of its options.
    pub sqltools: [&'static str; 2],
    /// Those options, which are about TLS.
    pub sqltools_options: fn(ca: Option<&str>) -> Value,
}

/// The environment variables that the clients of an engine read.
#[derive(Debug)]
pub struct Variables {
    /// For the host.
    pub host: &'static str,
    /// For the port.
    pub port: &'static str,
    /// For the path of a unix socket, in the place of the port, where the socket is not a host.
    pub socket: Option<&'static str>,
    /// For the user, if there is one.
    pub user: Option<&'static str>,
    /// For the database, if there is one.
    pub database: Option<&'static str>,
    /// For the password.
    pub password: &'static str,
    /// For TLS.
    pub tls: TlsSettings,
    /// Those that would lead past the proxy, or demand from it what only the database has. They must not be set.
    pub misleading: &'static [&'static str],
}

impl Client {
    /// The form that most programs take as DATABASE_URL.
    pub fn uri(&self, address: &Address<'_>) -> String {
        let user = address.user.map(|user| format!("{}@", quote::percent(user))).unwrap_or_default();
        let database = address.database.map(quote::percent).unwrap_or_default();
        let (authority, socket) = self.place(address, self.uri_socket);
        let query = query(socket.into_iter().chain((self.uri_tls)(address.ca)));
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}://{user}{authority}/{database}{mark}{query}", self.uri_scheme)
    }

    /// For JDBC.
    pub fn jdbc(&self, address: &Address<'_>) -> String {
        let tls = query((self.jdbc_tls)(address.ca));
        let database = address.database.map(quote::percent).unwrap_or_default();
        let user = address.user.map(|user| format!("user={}&", quote::percent(user))).unwrap_or_default();
        format!("jdbc:{}://{}/{database}?{user}{tls}", self.jdbc_scheme, address.authority())
    }

    /// For SQLAlchemy. Not every version decodes the database of a URL, so one that has something to decode goes to the driver
    /// as a parameter.
    pub fn sqlalchemy(&self, address: &Address<'_>) -> String {
        let user = address.user.map(|user| format!("{}@", quote::percent(user))).unwrap_or_default();
        let database = address.database.unwrap_or_default();
        let encoded = quote::percent(database);
        let is_path = encoded == database;
        let parameter = (!is_path).then(|| (self.sqlalchemy_database, database.to_owned()));
        let path = if is_path { encoded } else { String::new() };
        let (authority, socket) = self.place(address, self.sqlalchemy_socket);
        let query = query(parameter.into_iter().chain(socket).chain((self.sqlalchemy_tls)(address.ca)));
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}://{user}{authority}/{path}{mark}{query}", self.sqlalchemy_scheme)
    }

    /// The authority of a URL, and the parameters that lead to a unix socket: its path in `parameter`, or its host and port.
    fn place(&self, address: &Address<'_>, parameter: Option<&'static str>) -> (String, Vec<(&'static str, String)>) {
        match (address.socket, parameter) {
            (None, _) => (address.authority(), Vec::new()),
            (Some(path), Some(parameter)) => ("localhost".into(), vec![(parameter, path.to_owned())]),
            (Some(_), None) => {
                // Not every reader takes a port behind an empty host.
                let port = (address.port != self.port).then(|| ("port", address.port.to_string()));
                (String::new(), [("host", address.host.to_owned())].into_iter().chain(port).collect())
            }
        }
    }

    /// The environment that the engine's clients read, and DATABASE_URL for the rest.
    pub fn variables(&self, address: &Address<'_>) -> Vec<(&'static str, String)> {
        let Variables { host, port, socket, user, database, password: _, tls, misleading: _ } = &self.variables;
        let mut variables = vec![(*host, address.host.to_owned())];
        variables.push(match socket.zip(address.socket) {
            Some((name, path)) => (name, path.to_owned()),
            None => (*port, address.port.to_string()),
        });
        variables.extend(user.zip(address.user).map(|(name, user)| (name, user.to_owned())));
        variables.extend(database.zip(address.database).map(|(name, database)| (name, database.to_owned())));
        variables.extend(tls(address.ca));
        variables.push(("DATABASE_URL", self.uri(address)));
        variables
    }
}

/// Parameters behind the `?` of a URL.
fn query(parameters: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let parameters = parameters.into_iter().map(|(name, value)| format!("{name}={}", quote::percent(&value)));
    parameters.collect::<Vec<_>>().join("&")
}
