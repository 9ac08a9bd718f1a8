//! The login over an open connection, and the database's description of the user. Of the token, a report has the length and
//! the expiry.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{
    connection::{Connection, Server, failed, handshake_response},
    permission,
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, Known, Run},
    words::{NO_CREDENTIALS, time},
};
use crate::{
    aws::Account,
    connect::{Error, Step, Stream},
    engine,
    login::Proof,
    mysql::{self, TokenTiming, goodbye::Progress},
    postgres::{self, Mode, ProtocolVersion, Startup},
    target::Target,
};

const TOKEN_TIMEOUT: Duration = Duration::from_secs(1);
/// For COM_QUIT to be sent.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Every server of RDS has it; a login without a configured database goes there.
const ANY_DATABASE: &str = "postgres";
/// "RDS Proxy", IAM authentication: the proxy has its own login to the database.
const BY_PROXY: &str = "not needed: the RDS Proxy takes the token, and logs in to the database by itself";
const NO_USER: &str = "no database user is set";

/// Skips the checks from the login on.
pub(super) fn skip(run: &mut Run, why: &str) {
    for check in [Check::Login, Check::Query, Check::User, Check::Log] {
        run.skip(check, why);
    }
}

pub(super) async fn check(
    run: &mut Run,
    (target, account): (&Target, &Account),
    known: &Known,
    connection: Option<Connection>,
) {
    let (Some(user), Some(login)) = (&target.user, &known.login) else {
        let why = if target.user.is_none() { NO_USER } else { NO_CREDENTIALS };
        run.skip(Check::Token, why);
        leave(connection, target).await;
        return skip(run, why);
    };
    let work = async {
        match login.proof(target, user, SystemTime::now()) {
            Ok(proof) => {
                let fact = format!("{} characters, valid until {}", proof.len(), time(proof.expires_at()));
                (vec![Finding::pass(fact)], Some(proof))
            }
            Err(error) => (vec![Finding::of_call(Verdict::Fail, &error)], None),
        }
    };
    let proof = run.check(Check::Token, TOKEN_TIMEOUT, work).await;
    let (connection, proof) = match (connection, proof) {
        (Some(connection), Some(proof)) => (connection, proof),
        (connection, _) => {
            leave(connection, target).await;
            return skip(run, "there is no connection to log in on");
        }
    };
    let permission = known.permission(target, user).to_string();
    let by_proxy = known.database.as_ref().is_some_and(|database| database.kind.is_proxy());
    match log_in(run, connection, target, (&proof, &permission)).await {
        Some(LoggedIn::Postgres(stream)) => ask_postgres(run, stream, by_proxy).await,
        Some(LoggedIn::Mysql(mut stream)) => {
            ask_mysql(run, &mut stream, user, by_proxy).await;
            let _ = timeout(QUIT_TIMEOUT, mysql::goodbye::quit(&mut stream)).await;
        }
        None => {
            for check in [Check::Query, Check::User] {
                run.skip(check, "the login failed");
            }
            return log(run, account, known).await;
        }
    }
    run.note(Check::Log, Finding::pass("not read: the login succeeded"));
}

/// Ends a connection without a login.
async fn leave(connection: Option<Connection>, target: &Target) {
    if let Some(Connection { mut stream, server: Server::Mysql(greeting), .. }) = connection
        && let Ok(asked_with) = handshake_response(target)
    {
        let _ = engine::mysql::connect::decline(&mut stream, &greeting, Progress::Encrypted(&asked_with)).await;
    }
}

enum LoggedIn {
    Postgres(Stream),
    Mysql(Stream),
}

async fn log_in(
    run: &mut Run,
    Connection { mut stream, server, mut attempt }: Connection,
    target: &Target,
    (proof, permission): (&Proof, &str),
) -> Option<LoggedIn> {
    let login = async {
        match server {
            Server::Postgres => {
                let startup = startup(target).map_err(Error::from_login)?;
                let mode = Mode::Sequential;
                engine::postgres::connect::log_in(&mut attempt, &mut stream, &startup, proof, mode).await?;
                Ok(LoggedIn::Postgres(stream))
            }
            Server::Mysql(greeting) => {
                let response = handshake_response(target).map_err(Error::from_login)?;
                // It costs one more round trip, and every server takes the token so.
                let proof_at = (proof, TokenTiming::WhenAsked);
                engine::mysql::connect::log_in(&mut attempt, &mut stream, &greeting, &response, None, proof_at).await?;
                Ok(LoggedIn::Mysql(stream))
            }
        }
    };
    let (finding, logged_in) = match login.await {
        Ok(logged_in) => (Finding::pass(format!("as {}", target.user.as_deref().unwrap_or_default())), Some(logged_in)),
        Err(error) => {
            let refused = refused(&error, target, permission);
            // A server may repeat the token that it was sent.
            let repeats = refused.fact.contains(proof.cleartext().expose().as_str());
            let fact = if repeats { "the database refused the login".into() } else { refused.fact };
            (Finding { fact, ..refused }, None)
        }
    };
    run.record(Check::Login, attempt.time_of(Step::Login), vec![finding]);
    logged_in
}

fn startup(target: &Target) -> Result<Startup, postgres::Error> {
    let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
    startup.set(b"user", target.user.as_deref().unwrap_or_default().as_bytes())?;
    startup.set(b"database", target.database.as_deref().unwrap_or(ANY_DATABASE).as_bytes())?;
    startup.set(b"application_name", b"rdsgate doctor")?;
    Ok(startup)
}

fn refused(error: &Error, target: &Target, permission: &str) -> Finding {
    let user = target.user.as_deref().unwrap_or_default();
    let finding = failed(error, target);
    match error {
        Error::Login(error) if error.is_refusal() => {
            finding.fix((target.engine.facts().refusal_hint)(error, user, permission))
        }
        Error::Login(engine::Error::Postgres(postgres::Error::Authentication(_))) => finding
            .because("the role is not a member of rds_iam, or IAM database authentication is off")
            .paste(grant(user)),
        Error::Login(engine::Error::Mysql(mysql::Error::Authentication(_))) => {
            finding.because("the user does not log in with AWSAuthenticationPlugin").paste(alter(user))
        }
        _ => finding,
    }
}

fn grant(user: &str) -> String {
    format!("GRANT rds_iam TO {};", engine::postgres::quote_identifier(user))
}

fn alter(user: &str) -> String {
    let name = user.replace('\\', "\\\\").replace('\'', "''");
    format!("ALTER USER '{name}'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;")
}

async fn ask_postgres(run: &mut Run, mut stream: Stream, by_proxy: bool) {
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
    if by_proxy {
        return run.note(Check::User, Finding::pass(BY_PROXY));
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

async fn ask_mysql(run: &mut Run, stream: &mut Stream, user: &str, by_proxy: bool) {
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
    if by_proxy {
        return run.note(Check::User, Finding::pass(BY_PROXY));
    }
    let work = async {
        let finding = match mysql::query::query(stream, "SHOW CREATE USER CURRENT_USER()").await.map(first) {
            Ok(statement) => match statement.as_deref().and_then(plugin) {
                Some(plugin) if plugin == "AWSAuthenticationPlugin" => Finding::pass(format!("{account} has {plugin}")),
                Some(plugin) => {
                    Finding::warn(format!("{account} has {plugin}, not AWSAuthenticationPlugin")).paste(alter(user))
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

async fn log(run: &mut Run, account: &Account, known: &Known) {
    let Some(database) = &known.database else {
        return run.skip(Check::Log, "RDS did not describe the database, whose name the log has");
    };
    let work = async { (permission::log(account, database).await, None::<()>) };
    run.check(Check::Log, CALL_TIMEOUT, work).await;
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
