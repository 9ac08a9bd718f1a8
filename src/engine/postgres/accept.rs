//! Reads the startup of the client: the user to log in as, and the notice for configured names that replace its own.

use database_wire::{
    Error,
    postgres::{Notice, Startup},
};

use crate::engine::{Names, Replaced, Request};

impl Request for Startup {
    fn names(&self) -> Names<'_> {
        let value = |name| self.get(name).unwrap_or_default();
        Names { user: value(b"user"), database: value(b"database") }
    }

    fn set_user(&mut self, user: &str) -> Result<(), Error> {
        Ok(self.set(b"user", user.as_bytes())?)
    }

    fn set_database(&mut self, database: &str) -> Result<(), Error> {
        Ok(self.set(b"database", database.as_bytes())?)
    }
}

/// The notice for a client whose names were replaced; `None` when none was, or when the client does not want notices.
pub(super) fn notice(startup: &Startup, sent: Names<'_>, replaced: Replaced<'_>) -> Option<Notice> {
    if wants_notices(startup.setting("client_min_messages").as_deref()) { told(sent, replaced) } else { None }
}

fn told(sent: Names<'_>, Replaced { user, database }: Replaced<'_>) -> Option<Notice> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let now = |what: &str, name: Option<&str>| name.map(|name| format!("{what} \"{name}\""));
    let connected = [now("as user", user), now("to database", database)].into_iter().flatten().collect::<Vec<_>>();
    if connected.is_empty() {
        return None;
    }
    let sent_user = format!(
        "The client sent user \"{}\", the name of the operating system's user, which clients send when no user is given.",
        text(sent.user)
    );
    let sent_database = format!(
        "The client sent database \"{}\", the name of its user, which clients send when no database is given.",
        text(sent.database)
    );
    let detail = [user.map(|_| sent_user), database.map(|_| sent_database)];
    let hint = match user {
        Some(_) => "Name the user and the database that you want, or set them in the configuration of rdsgate.",
        None => {
            "Name the database that you want. One with the name of its user can only be set in the configuration of rdsgate."
        }
    };
    Some(Notice {
        message: format!("rdsgate connected you {}, as configured", connected.join(" ")),
        detail: detail.into_iter().flatten().collect::<Vec<_>>().join("\n"),
        hint: hint.into(),
    })
}

/// Whether a client that set `client_min_messages` to this wants notices. NOTICE is the default; a value that the server
/// does not know ends the connection anyway.
fn wants_notices(client_min_messages: Option<&[u8]>) -> bool {
    let quiet = [&b"warning"[..], b"error", b"fatal", b"panic"];
    !client_min_messages.is_some_and(|level| quiet.iter().any(|quiet| level.eq_ignore_ascii_case(quiet)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_gets_a_notice_of_replaced_names() {
        let notice = |sent: &str, user, database| {
            let sent = Names { user: sent.as_bytes(), database: sent.as_bytes() };
            told(sent, Replaced { user, database })
        };
        let both = notice("ada", Some("app"), Some("orders")).unwrap();
        assert_eq!(both.message, "rdsgate connected you as user \"app\" to database \"orders\", as configured");
        assert_eq!(both.detail.lines().count(), 2, "{}", both.detail);
        let database = notice("readonly", None, Some("orders")).unwrap();
        assert_eq!(database.message, "rdsgate connected you to database \"orders\", as configured");
        assert!(database.detail.contains("The client sent database \"readonly\""), "{}", database.detail);
        assert!(database.hint.contains("can only be set in the configuration"), "{}", database.hint);
        assert_eq!(notice("app", None, None), None);
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
