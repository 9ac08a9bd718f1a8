//! The login over an open connection, and what the database says of the user. The token is told by its length and its end.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{
    CALL, Check, Examination, Finding, Known, Verdict, cloud, permission,
    way::{self, Connection, Server},
};
use crate::{
    aws::Account,
    engine,
    login::Proof,
    mysql::{self, Capabilities, HandshakeResponse, TokenTiming, goodbye::Progress},
    postgres::{self, Mode, ProtocolVersion, Startup},
    proxy::error::Error,
    target::Target,
    tunnel,
};

/// The server asks IAM meanwhile.
const LOGIN: Duration = Duration::from_secs(12);
const TOKEN: Duration = Duration::from_secs(1);
/// Every server of RDS has it; only whoever names no database of their own is sent there.
const ANY_DATABASE: &str = "postgres";
/// "RDS Proxy", IAM authentication: what it logs in to the database with is its own affair.
const BY_PROXY: &str = "not needed: the RDS Proxy takes the token, and logs in to the database by itself";
const NO_USER: &str = "no database user is set";
/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;

type Stream = TlsStream<tunnel::Stream>;

/// The checks from the login on.
pub(super) fn skip(examination: &mut Examination, why: &str) {
    for check in [Check::Login, Check::Query, Check::User, Check::Log] {
        examination.skip(check, why);
    }
}

pub(super) async fn examine(
    examination: &mut Examination,
    (target, account): (&Target, &Account),
    known: &Known,
    connection: Option<Connection>,
) {
    let (Some(user), Some(login)) = (&target.user, &known.login) else {
        let why = if target.user.is_none() { NO_USER } else { cloud::NO_CREDENTIALS };
        examination.skip(Check::Token, why);
        leave(connection, target).await;
        return skip(examination, why);
    };
    let work = async {
        match login.proof(target, user, SystemTime::now()) {
            Ok(proof) => {
                let fact = format!("{} characters, good until {}", proof.len(), cloud::time(proof.expires_at()));
                (vec![Finding::pass(fact)], Some(proof))
            }
            Err(error) => (vec![Finding::of_call(Verdict::Fail, &error)], None),
        }
    };
    let proof = examination.check(Check::Token, TOKEN, work).await;
    let (Connection { stream, server }, proof) = match (connection, proof) {
        (Some(connection), Some(proof)) => (connection, proof),
        (connection, _) => {
            leave(connection, target).await;
            return skip(examination, "there is no connection to log in on");
        }
    };
    let permission = known.permission(target, user).to_string();
    let by_proxy = known.database.as_ref().is_some_and(|database| database.kind.is_proxy());
    let work = log_in(stream, server, target, (&proof, &permission));
    match examination.check(Check::Login, LOGIN, work).await {
        Some(LoggedIn::Postgres(stream)) => ask_postgres(examination, stream, by_proxy).await,
        Some(LoggedIn::Mysql(mut stream)) => {
            ask_mysql(examination, &mut stream, user, by_proxy).await;
            let _ = timeout(way::LEAVE, mysql::goodbye::quit(&mut stream)).await;
        }
        None => {
            for check in [Check::Query, Check::User] {
                examination.skip(check, "the login failed");
            }
            return log(examination, account, known).await;
        }
    }
    examination.note(Check::Log, Finding::pass("not read: the login succeeded"));
}

/// Ends a connection that nobody logs in on.
async fn leave(connection: Option<Connection>, target: &Target) {
    if let Some(Connection { mut stream, server: Server::Mysql(greeting) }) = connection
        && let Ok(asked_with) = handshake_response(target)
    {
        way::leave(&mut stream, &greeting, Progress::Encrypted(&asked_with)).await;
    }
}

enum LoggedIn {
    Postgres(Stream),
    Mysql(Stream),
}

async fn log_in(
    mut stream: Stream,
    server: Server,
    target: &Target,
    (proof, permission): (&Proof, &str),
) -> (Vec<Finding>, Option<LoggedIn>) {
    let user = target.user.as_deref().unwrap_or_default();
    let logged_in = match server {
        Server::Postgres => {
            let login = async {
                let startup = startup(target)?;
                postgres::login(&mut stream, &startup, proof.cleartext(), Mode::OneByOne).await.map(drop)
            };
            login.await.map(|()| LoggedIn::Postgres(stream)).map_err(Error::from_login)
        }
        Server::Mysql(greeting) => {
            let login = async {
                let response = handshake_response(target)?;
                // One round trip more is nothing here, and every server takes the token so.
                let timing = TokenTiming::WhenAsked;
                mysql::login(&mut stream, &greeting, &response, None, proof.cleartext(), timing).await.map(drop)
            };
            login.await.map(|()| LoggedIn::Mysql(stream)).map_err(Error::from_mysql)
        }
    };
    match logged_in {
        Ok(logged_in) => (vec![Finding::pass(format!("as {user}"))], Some(logged_in)),
        Err(error) => {
            let refused = refused(&error, target, permission);
            // A server may repeat what it was given.
            let repeats = refused.fact.contains(proof.cleartext().expose().as_str());
            let fact = if repeats { "the database refused the login".into() } else { refused.fact };
            (vec![Finding { fact, ..refused }], None)
        }
    }
}

fn startup(target: &Target) -> Result<Startup, postgres::Error> {
    let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
    startup.set(b"user", target.user.as_deref().unwrap_or_default().as_bytes())?;
    startup.set(b"database", target.database.as_deref().unwrap_or(ANY_DATABASE).as_bytes())?;
    startup.set(b"application_name", b"rdsgate doctor")?;
    Ok(startup)
}

/// What we would log in to a MySQL server with.
pub(super) fn handshake_response(target: &Target) -> Result<HandshakeResponse, mysql::Error> {
    let mut response = HandshakeResponse::new(Capabilities::MYSQL | Capabilities::PROTOCOL_41, CHARSET);
    response.set_user(target.user.as_deref().unwrap_or_default().as_bytes())?;
    response.set_database(target.database.as_deref().unwrap_or_default().as_bytes())?;
    Ok(response)
}

fn refused(error: &Error, target: &Target, permission: &str) -> Finding {
    let user = target.user.as_deref().unwrap_or_default();
    let finding = way::failed(error, target);
    match error {
        Error::Login(postgres::Error::Refused(server)) => finding.fix(engine::postgres::hint(server, user, permission)),
        Error::MysqlLogin(mysql::Error::Refused(server)) => finding.fix(engine::mysql::hint(server, user, permission)),
        Error::Login(postgres::Error::Authentication(_)) => finding
            .because("the role is not a member of rds_iam, or IAM database authentication is off")
            .paste(grant(user)),
        Error::MysqlLogin(mysql::Error::Authentication(_)) => {
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

async fn ask_postgres(examination: &mut Examination, mut stream: Stream, by_proxy: bool) {
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
    let Some(user) = examination.check(Check::Query, CALL, work).await else {
        return examination.skip(Check::User, "the query failed");
    };
    if by_proxy {
        return examination.note(Check::User, Finding::pass(BY_PROXY));
    }
    let work = async {
        let sql = "SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = 'rds_iam'";
        let finding = match postgres::query::query(&mut stream, sql).await.map(first) {
            Ok(Some(member)) if member == "t" => Finding::pass(format!("{user} is a member of rds_iam")),
            Ok(Some(_)) => Finding::fail(format!("{user} is not a member of rds_iam")).paste(grant(&user)),
            Ok(None) => Finding::fail("there is no role rds_iam: this is not RDS, or IAM authentication was never on"),
            Err(error) => Finding::unknown(Error::from_login(error).to_string()),
        };
        (vec![finding], None::<()>)
    };
    examination.check(Check::User, CALL, work).await;
}

async fn ask_mysql(examination: &mut Examination, stream: &mut Stream, user: &str, by_proxy: bool) {
    let work = async {
        match mysql::query::query(stream, "SELECT current_user(), version()").await.map(first_two) {
            Ok(Some((account, version))) => {
                (vec![Finding::pass(format!("{version} answers as {account}"))], Some(account))
            }
            Ok(None) => (vec![Finding::fail("the answer has no row")], None),
            Err(error) => (vec![Finding::fail(Error::from_mysql(error).to_string())], None),
        }
    };
    let Some(account) = examination.check(Check::Query, CALL, work).await else {
        return examination.skip(Check::User, "the query failed");
    };
    if by_proxy {
        return examination.note(Check::User, Finding::pass(BY_PROXY));
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
            Err(error) => Finding::unknown(Error::from_mysql(error).to_string())
                .fix("as an administrator: SELECT user, host, plugin FROM mysql.user;".to_owned()),
        };
        (vec![finding], None::<()>)
    };
    examination.check(Check::User, CALL, work).await;
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

async fn log(examination: &mut Examination, account: &Account, known: &Known) {
    let Some(database) = &known.database else {
        return examination.skip(Check::Log, "its name is that of the database, which RDS did not describe");
    };
    let work = async { (permission::log(account, database).await, None::<()>) };
    examination.check(Check::Log, CALL, work).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_read_from_both_dialects_without_what_follows() {
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
