//! Which user and which database a client gets: those that it names, or the configured ones.
//!
//! A client that was told no user sends the name of the operating system's user, and a PostgreSQL client that was told no
//! database sends the name of its user. On the wire this looks like a choice, so the rule is: these names give way to the
//! configured ones, and the client is told; every other name was asked for and is used, or refused with the reason.

use super::{error::Error, os_user};
use crate::{
    listen::access::User,
    postgres::Notice,
    target::{Engine, Target},
};

/// What libmysqlclient sends when it finds no name at all, and what it sends on Windows (`read_user_name`).
const MYSQL_DEFAULTS: [&[u8]; 2] = [b"UNKNOWN_USER", b"ODBC"];

/// What a client sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    /// The user; MySQL's clients may leave it empty.
    pub(super) user: &'a [u8],
    /// The database; empty when it sent none.
    pub(super) database: &'a [u8],
}

/// What a client gets in the place of what it sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Configured<'a> {
    /// The configured user; `None` leaves the client's.
    pub(super) user: Option<&'a str>,
    /// The configured database; `None` leaves the client's.
    pub(super) database: Option<&'a str>,
}

impl<'a> Configured<'a> {
    /// What `target` has in the place of what `client` sent.
    ///
    /// # Errors
    /// [`Error::PinnedUser`].
    pub(super) fn for_client(target: &'a Target, sent: Named<'_>, client: User) -> Result<Self, Error> {
        let is_default = |name: &[u8]| {
            name.is_empty()
                || target.engine == Engine::Mysql && MYSQL_DEFAULTS.contains(&name)
                || os_user::is_default(name, client)
        };
        Self::choose(target, sent, is_default)
    }

    fn choose(target: &'a Target, sent: Named<'_>, is_default: impl Fn(&[u8]) -> bool) -> Result<Self, Error> {
        let user = match target.user.as_deref() {
            Some(user) if user.as_bytes() == sent.user => None,
            Some(user) if is_default(sent.user) => Some(user),
            Some(user) if target.guard.pin_user => {
                let asked = String::from_utf8_lossy(sent.user).into_owned();
                return Err(Error::PinnedUser { asked, user: user.to_owned() });
            }
            None | Some(_) => None,
        };
        // Only PostgreSQL's clients make a database of the user's name.
        let unnamed = sent.database.is_empty() || target.engine == Engine::Postgres && sent.database == sent.user;
        // Without a configured one, what the server would take that is told none: the name of the user.
        let own = user.filter(|_| target.engine == Engine::Postgres && !sent.database.is_empty());
        let configured = target.database.as_deref().or(own);
        let database = configured.filter(|database| unnamed && database.as_bytes() != sent.database);
        Ok(Self { user, database })
    }

    /// What to say to the client, when a name that it sent has given way; `None` when none has.
    pub(super) fn notice(&self, sent: Named<'_>) -> Option<Notice> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let (user, database) = (self.replaced_user(sent), self.replaced_database(sent));
        let now = |what: &str, name: Option<&str>| name.map(|name| format!("{what} \"{name}\""));
        let connected = [now("as user", user), now("to database", database)].into_iter().flatten().collect::<Vec<_>>();
        if connected.is_empty() {
            return None;
        }
        let sent_user = format!(
            "The client sent user \"{}\", the name of the operating system's user, which clients send when they are told no user.",
            text(sent.user)
        );
        let sent_database = format!(
            "The client sent database \"{}\", the name of its user, which clients send when they are told no database.",
            text(sent.database)
        );
        let detail = [user.map(|_| sent_user), database.map(|_| sent_database)];
        let hint = match (user, database) {
            (Some(_), _) => {
                "Name the user and the database that you want, or set them in the configuration of rdsgate."
            }
            (None, _) => {
                "Name the database that you want. One with the name of its user can only be set in the configuration of rdsgate."
            }
        };
        Some(Notice {
            message: format!("rdsgate connected you {}, as configured", connected.join(" ")),
            detail: detail.into_iter().flatten().collect::<Vec<_>>().join("\n"),
            hint: hint.into(),
        })
    }

    /// The user, if the client had sent another.
    pub(super) fn replaced_user(&self, sent: Named<'_>) -> Option<&'a str> {
        self.user.filter(|_| !sent.user.is_empty())
    }

    /// The database, if the client had sent another.
    pub(super) fn replaced_database(&self, sent: Named<'_>) -> Option<&'a str> {
        self.database.filter(|_| !sent.database.is_empty())
    }
}

/// Whether a client that set `client_min_messages` to this wants notices. NOTICE is the default; a value that the server
/// does not know ends the connection anyway.
pub(super) fn wants_notices(client_min_messages: Option<&[u8]>) -> bool {
    let quiet = [&b"warning"[..], b"error", b"fatal", b"panic"];
    !client_min_messages.is_some_and(|level| quiet.iter().any(|quiet| level.eq_ignore_ascii_case(quiet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{
        Compress, Endpoint, Guard, Host, Identity, Isolation, ListenAddress, Route, SessionSettings, default_pooling,
    };

    fn target(engine: Engine, user: Option<&str>, database: Option<&str>, pin_user: bool) -> Target {
        let host: Host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".parse().unwrap();
        Target {
            name: "orders".into(),
            engine,
            pooling: default_pooling(Isolation::Shared, &host),
            alias: None,
            endpoint: Endpoint { host, port: engine.default_port() },
            region: "eu-central-1".parse().unwrap(),
            user: user.map(str::to_owned),
            database: database.map(str::to_owned),
            route: Route::Direct,
            identity: Identity::default(),
            session: SessionSettings::default(),
            ca_file: None,
            compress: Compress::Auto,
            guard: Guard { pin_user, ..Guard::default() },
            listen: ListenAddress { host: "localhost".into(), addresses: Vec::new(), port: 5432 },
        }
    }

    fn named<'a>(user: &'a str, database: &'a str) -> Named<'a> {
        Named { user: user.as_bytes(), database: database.as_bytes() }
    }

    /// What a client of the user `ada` gets: its user and its database, or the error.
    fn gets(target: &Target, user: &str, database: &str) -> Result<(String, String), String> {
        let sent = named(user, database);
        let configured = Configured::choose(target, sent, |name| name.is_empty() || name == b"ada");
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
            // MySQL's clients name a database only when they are told one.
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
    fn a_client_is_told_what_has_given_way() {
        let target = target(Engine::Postgres, Some("app"), Some("orders"), false);
        let notice = |user, database| {
            let sent = named(user, database);
            Configured::choose(&target, sent, |name| name == b"ada").unwrap().notice(sent)
        };
        let both = notice("ada", "ada").unwrap();
        assert_eq!(both.message, "rdsgate connected you as user \"app\" to database \"orders\", as configured");
        assert_eq!(both.detail.lines().count(), 2, "{}", both.detail);
        let database = notice("readonly", "readonly").unwrap();
        assert_eq!(database.message, "rdsgate connected you to database \"orders\", as configured");
        assert!(database.detail.contains("The client sent database \"readonly\""), "{}", database.detail);
        assert!(database.hint.contains("can only be set in the configuration"), "{}", database.hint);
        for (user, database) in [("app", "orders"), ("app", ""), ("readonly", "other")] {
            assert_eq!(notice(user, database), None, "{user} {database}");
        }
    }

    #[test]
    fn a_client_that_wants_no_notices_gets_none() {
        for (level, wanted) in [
            (None, true),
            (Some("notice"), true),
            (Some("debug1"), true),
            (Some("Warning"), false),
            (Some("error"), false),
        ] {
            assert_eq!(wants_notices(level.map(str::as_bytes)), wanted, "{level:?}");
        }
    }
}
