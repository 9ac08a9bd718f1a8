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
    /// For the user, if there is one.
    pub user: Option<&'static str>,
    /// For the database, if there is one.
    pub database: Option<&'static str>,
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
        let query = query((self.uri_tls)(address.ca));
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}://{user}{}/{database}{mark}{query}", self.uri_scheme, address.authority())
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
        let query = query(parameter.into_iter().chain((self.sqlalchemy_tls)(address.ca)));
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}://{user}{}/{path}{mark}{query}", self.sqlalchemy_scheme, address.authority())
    }

    /// The environment that the engine's clients read, and DATABASE_URL for the rest.
    pub fn variables(&self, address: &Address<'_>) -> Vec<(&'static str, String)> {
        let Variables { host, port, user, database, tls, misleading: _ } = &self.variables;
        let mut variables = vec![(*host, address.host.to_owned()), (*port, address.port.to_string())];
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
