//! The description of the user by the database, and the statements that make a user of tokens.

use database_wire::{mysql, postgres};

use super::{
    report::{Check, Finding},
    run::{CALL_TIMEOUT, Run},
};
use crate::{
    connect::{Error, Stream},
    engine,
};

/// The host of a MySQL user that is not bound to one.
pub(super) const ANY_HOST: &str = "%";

/// Asks PostgreSQL for its version and whether the user has rds_iam.
pub(super) async fn ask_postgres(run: &Run, mut stream: Stream, unchecked: Option<&'static str>) {
    let work = async {
        let answer =
            postgres::query::query(&mut stream, "SELECT current_user, current_setting('server_version')").await;
        match answer.map(first_two) {
            Ok(Some((user, version))) => {
                (vec![Finding::pass(format!("PostgreSQL {version} answers as {user}"))], Some(user))
            }
            Ok(None) => (vec![Finding::fail("the answer has no row")], None),
            Err(error) => (vec![Finding::fail(Error::from_login(error).to_string())], None),
        }
    };
    let Some(user) = run.check(Check::Query, CALL_TIMEOUT, work).await else {
        return run.skip(Check::User, "the query failed");
    };
    if let Some(why) = unchecked {
        return run.note(Check::User, Finding::pass(why));
    }
    let work = async {
        let sql = "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = 'rds_iam'";
        let finding = match postgres::query::query(&mut stream, sql).await.map(first) {
            Ok(Some(member)) if member == "t" => Finding::pass(format!("{user} is a member of rds_iam")),
            Ok(Some(_)) => Finding::fail(format!("{user} is not a member of rds_iam")).paste(grant(&user)),
            Ok(None) => {
                Finding::fail("there is no role rds_iam: this is not RDS, or IAM authentication was never enabled")
            }
            Err(error) => Finding::unknown(Error::from_login(error).to_string()),
        };
        (vec![finding], None::<()>)
    };
    run.check(Check::User, CALL_TIMEOUT, work).await;
}

/// Asks MySQL for its version and for the plugin of the user.
pub(super) async fn ask_mysql(run: &Run, stream: &mut Stream, user: &str, unchecked: Option<&'static str>) {
    let work = async {
        match mysql::query::query(stream, "SELECT current_user(), version()").await.map(first_two) {
            Ok(Some((account, version))) => {
                (vec![Finding::pass(format!("{version} answers as {account}"))], Some(account))
            }
            Ok(None) => (vec![Finding::fail("the answer has no row")], None),
            Err(error) => (vec![Finding::fail(Error::from_login(error).to_string())], None),
        }
    };
    let Some(account) = run.check(Check::Query, CALL_TIMEOUT, work).await else {
        return run.skip(Check::User, "the query failed");
    };
    if let Some(why) = unchecked {
        return run.note(Check::User, Finding::pass(why));
    }
    let work = async {
        let finding = match mysql::query::query(stream, "SHOW CREATE USER CURRENT_USER()").await.map(first) {
            Ok(statement) => match statement.as_deref().and_then(plugin) {
                Some(plugin) if plugin == "AWSAuthenticationPlugin" => Finding::pass(format!("{account} has {plugin}")),
                Some(plugin) => {
                    let host = account.rsplit_once('@').map_or(ANY_HOST, |(_, host)| host);
                    Finding::warn(format!("{account} has {plugin}, not AWSAuthenticationPlugin"))
                        .paste(alter(user, host))
                }
                None => Finding::unknown(format!("the plugin of {account}")),
            },
            Err(error) => Finding::unknown(Error::from_login(error).to_string())
                .fix("as an administrator: SELECT user, host, plugin FROM mysql.user;".to_owned()),
        };
        (vec![finding], None::<()>)
    };
    run.check(Check::User, CALL_TIMEOUT, work).await;
}

fn first(row: Option<Vec<Option<String>>>) -> Option<String> {
    row?.into_iter().next()?
}

fn first_two(row: Option<Vec<Option<String>>>) -> Option<(String, String)> {
    let mut values = row?.into_iter();
    Some((values.next()??, values.next()??))
}

/// The plugin in `CREATE USER … IDENTIFIED WITH 'plugin' AS '…'` (MariaDB: `VIA plugin USING '…'`), and nothing of what
/// follows, which may be a password's hash.
fn plugin(statement: &str) -> Option<String> {
    let after = ["IDENTIFIED WITH ", "IDENTIFIED VIA "].iter().find_map(|word| statement.split_once(word));
    let (_, after) = after?;
    let quoted = |c: char| c == '\'' || c == '`' || c == '"';
    let name = after.trim_start_matches(quoted);
    let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The statement that makes a PostgreSQL role log in with tokens.
pub(super) fn grant(user: &str) -> String {
    format!("GRANT rds_iam TO {};", engine::postgres::quote_identifier(user))
}

/// The statement that makes a MySQL user log in with tokens.
pub(super) fn alter(user: &str, host: &str) -> String {
    let quoted = |name: &str| format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"));
    let (user, host) = (quoted(user), quoted(host));
    format!("ALTER USER {user}@{host} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_is_read_from_both_dialects_without_the_rest() {
        for (statement, expected) in [
            (
                "CREATE USER `a`@`%` IDENTIFIED WITH 'AWSAuthenticationPlugin' AS 'RDS' REQUIRE SSL",
                Some("AWSAuthenticationPlugin"),
            ),
            ("CREATE USER `a`@`%` IDENTIFIED VIA pam USING 'rds' REQUIRE SSL", Some("pam")),
            ("CREATE USER `a`@`%` IDENTIFIED BY PASSWORD '*94BDCEBE'", None),
            ("CREATE USER `a`@`%` IDENTIFIED VIA ", None),
        ] {
            assert_eq!(plugin(statement).as_deref(), expected, "{statement}");
        }
    }
}
