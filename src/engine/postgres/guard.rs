//! The additions to the client's startup: the guard of the session, and the IAM principal.
//!
//! The guard keeps a slip of the hand from writing, and the principal tells the DBA who is there. Neither is a permission: a
//! client that means to can set another value.

use database_wire::postgres::{self, Startup};

use crate::target::Guard;

/// The longest that PostgreSQL keeps of an application_name, in bytes (NAMEDATALEN - 1).
const MAX_APPLICATION_NAME: usize = 63;
/// The length of the client's own name beside a long principal.
const LEAST_OF_CLIENT: usize = 20;

/// The startup with the guard's parameters, which win over the client's, and the principal in its application_name: in the
/// place of a name when the client has none, behind it where the target is guarded.
///
/// # Errors
/// Never for what is set here; [`Startup::set`] has them.
pub(super) fn guarded(startup: &Startup, guard: &Guard, principal: Option<&str>) -> Result<Startup, postgres::Error> {
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
            startup.set_setting("application_name", application_name(&own, principal).as_bytes())?;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use database_wire::postgres::ProtocolVersion;

    use super::*;

    fn guard(read_only: bool, statement_timeout: Option<u64>) -> Guard {
        Guard { read_only, statement_timeout: statement_timeout.map(Duration::from_millis), ..Guard::default() }
    }

    /// The client's parameters as they go upstream.
    fn sent(client: &[(&str, &str)], guard: &Guard, principal: Option<&str>) -> Vec<(String, String)> {
        let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
        for (name, value) in client {
            startup.set(name.as_bytes(), value.as_bytes()).unwrap();
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let sent = guarded(&startup, guard, principal).unwrap();
        sent.parameters().map(|(name, value)| (text(name), text(value))).collect()
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
        let labelled = Guard { label: Some("PRODUCTION".into()), ..Guard::default() };
        for (own, guard, name) in [
            (None, &Guard::default(), "rdsgate (Developer/alice)"),
            (Some(""), &Guard::default(), "rdsgate (Developer/alice)"),
            (Some("psql"), &Guard::default(), "psql"),
            (Some("psql"), &labelled, "psql (Developer/alice)"),
        ] {
            let own: Vec<_> = own.map(|own| ("application_name", own)).into_iter().collect();
            assert_eq!(sent(&own, guard, Some("Developer/alice")), [("application_name".to_owned(), name.to_owned())]);
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
}
