//! The user and the database that a client gets: those that it names, or the configured ones.
//!
//! A client without a configured user sends the name of the operating system's user, and a PostgreSQL client without a database
//! sends the name of its user. On the wire this looks like a choice, so the rule is: these names give way to the configured
//! ones, and the client gets a notice; every other name was requested and is used, or refused with the reason.

use super::{error::Error, os_user};
use crate::{
    engine::{Names, Replaced},
    listen::access::User,
    target::Target,
};

/// The names that a client gets in the place of those that it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Configured<'a> {
    /// The configured user; `None` leaves the client's.
    pub(super) user: Option<&'a str>,
    /// The configured database; `None` leaves the client's.
    pub(super) database: Option<&'a str>,
}

impl<'a> Configured<'a> {
    /// The names of `target` in the place of those that `client` sent.
    ///
    /// `only_user` is the user whom the login is for, where it is for one only.
    ///
    /// # Errors
    /// [`Error::PinnedUser`].
    pub(super) fn for_client(
        target: &'a Target,
        only_user: Option<&'a str>,
        sent: Names<'_>,
        client: User,
    ) -> Result<Self, Error> {
        let is_default = |name: &[u8]| {
            name.is_empty() || target.engine.facts().default_users.contains(&name) || os_user::is_default(name, client)
        };
        Self::choose(target, only_user, sent, is_default)
    }

    fn choose(
        target: &'a Target,
        only_user: Option<&'a str>,
        sent: Names<'_>,
        is_default: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, Error> {
        let user = match only_user.or(target.user.as_deref()) {
            Some(user) if user.as_bytes() == sent.user => None,
            Some(user) if is_default(sent.user) => Some(user),
            Some(user) if target.guard.pin_user || only_user.is_some() => {
                let asked = String::from_utf8_lossy(sent.user).into_owned();
                return Err(Error::PinnedUser { asked, user: user.to_owned() });
            }
            None | Some(_) => None,
        };
        let defaults_to_user = target.engine.facts().maintenance_database.is_some();
        let unnamed = sent.database.is_empty() || defaults_to_user && sent.database == sent.user;
        // Without a configured one, the default of the server: the name of the user.
        let own = user.filter(|_| defaults_to_user && !sent.database.is_empty());
        let configured = target.database.as_deref().or(own);
        let database = configured.filter(|database| unnamed && database.as_bytes() != sent.database);
        Ok(Self { user, database })
    }

    /// The names that replace others, which the client had sent.
    pub(super) fn replaced(&self, sent: Names<'_>) -> Replaced<'a> {
        Replaced {
            user: self.user.filter(|_| !sent.user.is_empty()),
            database: self.database.filter(|_| !sent.database.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{
        Auth, Compress, Endpoint, Engine, Guard, Host, Identity, Isolation, Route, SessionSettings, default_pooling,
    };

    fn target(engine: Engine, user: Option<&str>, database: Option<&str>, pin_user: bool) -> Target {
        let host: Host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".parse().unwrap();
        Target {
            name: "orders".into(),
            engine,
            pooling: default_pooling(Isolation::Shared, &host),
            alias: None,
            endpoint: Endpoint { host, port: engine.default_port().unwrap_or(1521) },
            region: "eu-central-1".parse().unwrap(),
            user: user.map(str::to_owned),
            database: database.map(str::to_owned),
            auth: Auth::Iam,
            password: crate::target::PasswordSource::default(),
            route: Route::Direct,
            identity: Identity::default(),
            session: SessionSettings::default(),
            ca_file: None,
            compress: Compress::Auto,
            guard: Guard { pin_user, ..Guard::default() },
            listen: Vec::new(),
            socket: crate::target::SocketAccess::PRIVATE,
            allow_users: Vec::new(),
            max_connections: None,
            reuse: None,
            max_logins_per_second: 180,
            local_password_file: None,
            local_tls: crate::target::LocalTls::default(),
        }
    }

    fn named<'a>(user: &'a str, database: &'a str) -> Names<'a> {
        Names { user: user.as_bytes(), database: database.as_bytes() }
    }

    /// The user and the database of a client of the user `ada`, or the error.
    fn gets(target: &Target, user: &str, database: &str) -> Result<(String, String), String> {
        let sent = named(user, database);
        let configured = Configured::choose(target, None, sent, |name| name.is_empty() || name == b"ada");
        let Configured { user: own, database: base } = configured.map_err(|error| error.to_string())?;
        Ok((own.unwrap_or(user).to_owned(), base.unwrap_or(database).to_owned()))
    }

    #[test]
    fn a_client_gets_what_it_names_and_the_configured_names_where_it_names_nothing() {
        let postgres = target(Engine::Postgres, Some("app"), Some("orders"), false);
        let mysql = target(Engine::Mysql, Some("app"), Some("orders"), false);
        for (target, sent, got) in [
            // psql; psql -U app; -U readonly; -d other; -U readonly -d other.
            (&postgres, ("ada", "ada"), ("app", "orders")),
            (&postgres, ("app", "app"), ("app", "orders")),
            (&postgres, ("readonly", "readonly"), ("readonly", "orders")),
            (&postgres, ("ada", "other"), ("app", "other")),
            (&postgres, ("readonly", "other"), ("readonly", "other")),
            // Drivers that leave the database out, and one that names what is configured.
            (&postgres, ("readonly", ""), ("readonly", "orders")),
            (&postgres, ("app", "orders"), ("app", "orders")),
            // MySQL's clients name a database only if one is configured.
            (&mysql, ("", ""), ("app", "orders")),
            (&mysql, ("ada", "ada"), ("app", "ada")),
            (&mysql, ("readonly", "readonly"), ("readonly", "readonly")),
            (&mysql, ("readonly", ""), ("readonly", "orders")),
        ] {
            let got = Ok((got.0.to_owned(), got.1.to_owned()));
            assert_eq!(gets(target, sent.0, sent.1), got, "{} {sent:?}", target.engine);
        }
        let own = target(Engine::Postgres, Some("app"), None, false);
        assert_eq!(gets(&own, "ada", "ada"), Ok(("app".to_owned(), "app".to_owned())));
        assert_eq!(gets(&own, "ada", "orders"), Ok(("app".to_owned(), "orders".to_owned())));
        assert_eq!(gets(&own, "readonly", "readonly"), Ok(("readonly".to_owned(), "readonly".to_owned())));
        let bare = target(Engine::Postgres, None, None, false);
        assert_eq!(gets(&bare, "ada", "ada"), Ok(("ada".to_owned(), "ada".to_owned())));
    }

    #[test]
    fn a_pinned_user_is_the_only_one() {
        for engine in [Engine::Postgres, Engine::Mysql] {
            let pinned = target(engine, Some("app"), None, true);
            for user in ["app", "ada", ""] {
                assert_eq!(gets(&pinned, user, "x").unwrap().0, "app", "{user}");
            }
            let refused = gets(&pinned, "readonly", "x").unwrap_err();
            assert_eq!(
                refused,
                "this listener serves the database user \"app\" only, and the client asks for \"readonly\""
            );
        }
    }

    #[test]
    fn user_of_a_secret_is_the_only_one() {
        let target = target(Engine::Postgres, None, None, false);
        let user = |sent| {
            let configured = Configured::choose(&target, Some("app"), named(sent, "x"), |name| name == b"ada");
            configured.map(|configured| configured.user.map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(user("ada"), Ok(Some("app".to_owned())));
        assert_eq!(user("app"), Ok(None));
        assert!(user("readonly").unwrap_err().contains("serves the database user \"app\" only"));
    }

    #[test]
    fn a_name_that_was_sent_and_gave_way_is_replaced() {
        let target = target(Engine::Postgres, Some("app"), Some("orders"), false);
        for (sent, user, database) in [
            (("ada", "ada"), Some("app"), Some("orders")),
            (("readonly", "readonly"), None, Some("orders")),
            (("app", "orders"), None, None),
            (("app", ""), None, None),
            (("readonly", "other"), None, None),
        ] {
            let names = named(sent.0, sent.1);
            let replaced = Configured::choose(&target, None, names, |name| name == b"ada").unwrap().replaced(names);
            assert_eq!(replaced, Replaced { user, database }, "{sent:?}");
        }
    }
}
