//! The programs and drivers that connect to the databases of an engine, and the form in which each gets the address.
//!
//! Encryption ends at the proxy, so each is configured not to request it.

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
}

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
    /// Behind the path of that URI.
    pub uri_query: &'static str,
    /// Behind `jdbc:`.
    pub jdbc_scheme: &'static str,
    /// The JDBC driver's property that turns TLS off.
    pub jdbc_no_tls: (&'static str, &'static str),
    /// SQLAlchemy's dialect and driver.
    pub sqlalchemy_scheme: &'static str,
    /// The driver's parameter for a database that a URL's path cannot hold in all versions.
    pub sqlalchemy_database: &'static str,
    /// The driver's parameter that turns TLS off, if it asks for TLS by itself.
    pub sqlalchemy_no_tls: Option<&'static str>,
    /// The environment.
    pub variables: Variables,
    /// JetBrains' names for the engine, the driver and the driver's class.
    pub datagrip: [&'static str; 3],
    /// DBeaver's names for the provider and the driver.
    pub dbeaver: [&'static str; 2],
    /// SQLTools' name for the driver and for the key of its options.
    pub sqltools: [&'static str; 2],
    /// Those options, which turn TLS off.
    pub sqltools_options: fn() -> Value,
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
    /// With a value that is always the same.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Those that would lead past the proxy, or demand from it what only the database has. They must not be set.
    pub misleading: &'static [&'static str],
}

impl Client {
    /// What most programs take as DATABASE_URL.
    pub fn uri(&self, address: &Address<'_>) -> String {
        let user = address.user.map(|user| format!("{}@", quote::percent(user))).unwrap_or_default();
        let database = address.database.map(quote::percent).unwrap_or_default();
        format!("{}://{user}{}/{database}{}", self.uri_scheme, address.authority(), self.uri_query)
    }

    /// For JDBC.
    pub fn jdbc(&self, address: &Address<'_>) -> String {
        let (property, off) = self.jdbc_no_tls;
        let database = address.database.map(quote::percent).unwrap_or_default();
        let user = address.user.map(|user| format!("user={}&", quote::percent(user))).unwrap_or_default();
        format!("jdbc:{}://{}/{database}?{user}{property}={off}", self.jdbc_scheme, address.authority())
    }

    /// For SQLAlchemy. Not every version decodes the database of a URL, so one that has something to decode goes to the driver
    /// as a parameter.
    pub fn sqlalchemy(&self, address: &Address<'_>) -> String {
        let user = address.user.map(|user| format!("{}@", quote::percent(user))).unwrap_or_default();
        let database = address.database.unwrap_or_default();
        let encoded = quote::percent(database);
        let (path, query) = if encoded == database {
            (encoded, None)
        } else {
            (String::new(), Some(format!("{}={encoded}", self.sqlalchemy_database)))
        };
        let query: Vec<&str> = query.as_deref().into_iter().chain(self.sqlalchemy_no_tls).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{}://{user}{}/{path}{mark}{}", self.sqlalchemy_scheme, address.authority(), query.join("&"))
    }

    /// The environment that the engine's clients read, and DATABASE_URL for the rest.
    pub fn variables(&self, address: &Address<'_>) -> Vec<(&'static str, String)> {
        let Variables { host, port, user, database, fixed, misleading: _ } = &self.variables;
        let mut variables = vec![(*host, address.host.to_owned()), (*port, address.port.to_string())];
        variables.extend(user.zip(address.user).map(|(name, user)| (name, user.to_owned())));
        variables.extend(database.zip(address.database).map(|(name, database)| (name, database.to_owned())));
        variables.extend(fixed.iter().map(|(name, value)| (*name, (*value).to_owned())));
        variables.push(("DATABASE_URL", self.uri(address)));
        variables
    }
}
