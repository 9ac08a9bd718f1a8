//! The additions to the client's response, and the guard of the session after the login.
//!
//! The guard keeps a slip of the hand from writing, and the principal tells the DBA who is there. Neither is a permission: a
//! client that means to can set another value.

use database_wire::mysql::{self, Capabilities, Compression, Greeting, HandshakeResponse};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::target::{Compress, Guard};

/// The connection attribute with the principal; names of programs' own begin with an underscore.
const PRINCIPAL_ATTRIBUTE: &str = "_rdsgate_principal";

/// The response with the principal among its attributes, where it is known and the server takes them.
pub(super) fn with_principal_attribute(
    response: &HandshakeResponse,
    greeting: &Greeting,
    principal: Option<&str>,
) -> HandshakeResponse {
    let mut response = response.clone();
    if let Some(principal) = principal
        && greeting.capabilities.contains(Capabilities::CONNECT_ATTRS)
    {
        response.add_attribute(PRINCIPAL_ATTRIBUTE, principal);
    }
    response
}

/// The compressions to ask the server for, best first. Through an SSM session they cost less than the bytes.
pub(super) fn compressions(configured: Compress, through_session: bool) -> &'static [Compression] {
    match configured {
        Compress::Auto if through_session => &[Compression::Zstd, Compression::Zlib],
        Compress::Zstd => &[Compression::Zstd],
        Compress::Zlib => &[Compression::Zlib],
        Compress::Auto | Compress::Off => &[],
    }
}

/// Whether sessions have something to guard, which a reset would undo.
pub(super) fn is_guarded(guard: &Guard) -> bool {
    !statements(guard, false).is_empty()
}

/// Guards a session after its login.
///
/// # Errors
/// The server refuses a statement, or the connection breaks.
pub(super) async fn guard_session<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    greeting: &Greeting,
    capabilities: Capabilities,
    guard: &Guard,
) -> Result<(), mysql::Error> {
    for statement in statements(guard, greeting.is_mariadb()) {
        mysql::command::query(stream, capabilities, &statement).await?;
    }
    Ok(())
}

/// The statements that guard a MySQL session, in order; none where there is nothing to guard.
///
/// `SET SESSION TRANSACTION READ ONLY` is known to every server that has such transactions (MySQL 5.6.5, MariaDB 10.0),
/// while the variable's name depends on the version: `tx_read_only` until MySQL 8.0.3, `transaction_read_only` since
/// MySQL 5.7.20 and MariaDB 11.1.
fn statements(guard: &Guard, mariadb: bool) -> Vec<String> {
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

    fn guard(read_only: bool, statement_timeout: Option<u64>) -> Guard {
        Guard { read_only, statement_timeout: statement_timeout.map(Duration::from_millis), ..Guard::default() }
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
