//! What a target's [`Guard`] and the IAM principal come to in the words of each protocol. Pure.
//!
//! It keeps a slip of the hand from writing, and tells the DBA who is there. It is no permission: a client that means to can
//! set another value.

use crate::{
    aws::Principal,
    postgres::{self, Startup},
    target::Guard,
};

/// The longest that PostgreSQL keeps of an application_name, in bytes (NAMEDATALEN - 1).
const MAX_APPLICATION_NAME: usize = 63;
/// What a long principal leaves of the client's own name.
const LEAST_OF_CLIENT: usize = 20;
/// The connection attribute with the principal; names of programs' own begin with an underscore.
pub const ATTRIBUTE: &str = "_rdsgate_principal";

/// The startup with the guard's parameters, which win over the client's, and the principal in its application_name: in the
/// place of a name when the client has none, behind it where the target is guarded.
///
/// # Errors
/// Never for what is set here; [`Startup::set`] has them.
pub fn startup(startup: &Startup, guard: &Guard, principal: Option<&Principal>) -> Result<Startup, postgres::Error> {
    let mut startup = startup.clone();
    if guard.read_only {
        startup.set_setting("default_transaction_read_only", b"on")?;
    }
    if let Some(limit) = guard.statement_timeout {
        startup.set_setting("statement_timeout", limit.as_millis().to_string().as_bytes())?;
    }
    if let Some(principal) = principal {
        let own = startup.setting("application_name").unwrap_or_default();
        let own = String::from_utf8_lossy(&own).into_owned();
        // People look for programs by their names, too.
        if own.is_empty() || *guard != Guard::default() {
            startup.set_setting("application_name", application_name(&own, principal.short()).as_bytes())?;
        }
    }
    Ok(startup)
}

/// `psql (Developer/alice)`, in at most 63 bytes: of a long principal the end stays, of a long name the beginning.
fn application_name(own: &str, principal: &str) -> String {
    let own = if own.is_empty() { "rdsgate" } else { own };
    // The server writes a question mark for every byte that is not printable ASCII (before PostgreSQL 16; later \x…).
    let principal: String = principal.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    let around = " ()".len();
    let room = MAX_APPLICATION_NAME - around - own.len().min(LEAST_OF_CLIENT);
    let principal = principal.get(principal.len().saturating_sub(room)..).unwrap_or_default();
    let mut end = own.len().min(MAX_APPLICATION_NAME - around - principal.len());
    while !own.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ({principal})", own.get(..end).unwrap_or_default())
}

/// The statements that guard a MySQL session, in order; none where there is nothing to guard.
///
/// `SET SESSION TRANSACTION READ ONLY` is known to every server that has such transactions (MySQL 5.6.5, MariaDB 10.0),
/// while the variable's name depends on the version: `tx_read_only` until MySQL 8.0.3, `transaction_read_only` since
/// MySQL 5.7.20 and MariaDB 11.1.
pub fn statements(guard: &Guard, mariadb: bool) -> Vec<String> {
    let read_only = guard.read_only.then(|| "SET SESSION TRANSACTION READ ONLY".to_owned());
    let timeout = guard.statement_timeout.map(|limit| {
        if mariadb {
            format!("SET SESSION max_statement_time={}", limit.as_secs_f64())
        } else {
            format!("SET SESSION max_execution_time={}", limit.as_millis())
        }
    });
    read_only.into_iter().chain(timeout).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::postgres::ProtocolVersion;

    fn principal(arn: &str) -> Principal {
        Principal { account: "123456789012".into(), arn: arn.into() }
    }

    fn guard(read_only: bool, statement_timeout: Option<u64>) -> Guard {
        Guard { read_only, statement_timeout: statement_timeout.map(Duration::from_millis), ..Guard::default() }
    }

    /// The client's parameters as they go upstream.
    fn sent(client: &[(&str, &str)], guard: &Guard, principal: Option<&Principal>) -> Vec<(String, String)> {
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        for (name, value) in client {
            startup.set(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let guarded = super::startup(&startup, guard, principal).unwrap();
        guarded.parameters().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn the_guard_wins_over_the_client() {
        let client = [("user", "u"), ("statement_timeout", "0"), ("default_transaction_read_only", "off")];
        let expected = [("user", "u"), ("statement_timeout", "1500"), ("default_transaction_read_only", "on")];
        let otherwise = [("user", "u"), ("Statement_Timeout", "0"), ("DEFAULT_TRANSACTION_READ_ONLY", "off")];
        for client in [client, otherwise] {
            assert_eq!(
                sent(&client, &guard(true, Some(1500)), None),
                expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
            );
        }
        assert_eq!(
            sent(&client, &Guard::default(), None),
            client.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn a_name_of_the_clients_own_is_left_alone_where_nothing_is_guarded() {
        let alice = principal("arn:aws:sts::123456789012:assumed-role/Developer/alice");
        let labelled = Guard { label: Some("PRODUCTION".into()), ..Guard::default() };
        for (own, guard, name) in [
            (None, &Guard::default(), "rdsgate (Developer/alice)"),
            (Some(""), &Guard::default(), "rdsgate (Developer/alice)"),
            (Some("psql"), &Guard::default(), "psql"),
            (Some("psql"), &labelled, "psql (Developer/alice)"),
        ] {
            let own: Vec<_> = own.map(|own| ("application_name", own)).into_iter().collect();
            assert_eq!(sent(&own, guard, Some(&alice)), [("application_name".to_owned(), name.to_owned())]);
        }
    }

    #[test]
    fn an_application_name_says_who_in_63_bytes() {
        assert_eq!(application_name("psql", "Developer/alice"), "psql (Developer/alice)");
        assert_eq!(application_name("", "root"), "rdsgate (root)");
        assert_eq!(application_name("é", "zoë\n"), "é (zo??)");
        for (own, principal) in [
            ("x".repeat(100), "p".repeat(100)),
            ("é".repeat(50), "p".repeat(50)),
            (String::new(), "p".repeat(100)),
            ("x".repeat(100), "short".into()),
        ] {
            let name = application_name(&own, &principal);
            assert!((60..=63).contains(&name.len()), "{name}");
        }
        let long = application_name("psql", "AWSReservedSSO_DatabaseAdministrator_0123456789abcdef/alice@example.com");
        assert!(long.starts_with("psql (") && long.ends_with("/alice@example.com)"), "{long}");
    }

    #[test]
    fn each_server_has_its_own_statements() {
        let both = guard(true, Some(1500));
        assert_eq!(
            statements(&both, true),
            ["SET SESSION TRANSACTION READ ONLY", "SET SESSION max_statement_time=1.5"]
        );
        assert_eq!(
            statements(&both, false),
            ["SET SESSION TRANSACTION READ ONLY", "SET SESSION max_execution_time=1500"]
        );
        assert_eq!(statements(&guard(false, Some(1000)), true), ["SET SESSION max_statement_time=1"]);
        assert!(statements(&guard(false, None), true).is_empty());
    }
}
