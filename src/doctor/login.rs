//! The login over an open connection, and the cause of a refused one. Of the token, a report has the length and the expiry.

use std::time::{Duration, SystemTime};

use database_wire::mysql::{self, Terms, TokenTiming, goodbye::Progress};
use database_wire::postgres::{self, Mode, ProtocolVersion, Startup, authentication::Begun};
use safe_display::Secret;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};

use super::{
    cloud,
    connection::{Connection, Server, failed, handshake_response},
    permission::{self, statement},
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, Facts, LaterFacts, Run},
    subject::Subject,
    user::{self, ANY_HOST, alter, grant},
    words::{CLIENTS_PASSWORD, NO_CONNECTION, NO_CREDENTIALS, NO_DESCRIPTION, NO_ENDPOINT, NO_PROTOCOL, NO_USER, time},
};
use crate::{
    app::Cause,
    aws::{Account, rds::Database},
    connect::{Error, Step, Stream},
    engine::{self, Applicant},
    login::{Login, Prepared, Proof, Record},
    service::Permission,
    target::Target,
};

const TOKEN_TIMEOUT: Duration = Duration::from_secs(1);
/// For a password, whose command may wait for a person.
const PASSWORD_TIMEOUT: Duration = Duration::from_mins(1);
/// For COM_QUIT to be sent.
const QUIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Every server of RDS has it; a login without a configured database goes there.
const ANY_DATABASE: &str = "postgres";

/// Skips the checks from the login on.
fn skip(run: &Run, why: &'static str) {
    for check in [Check::Login, Check::Query, Check::User, Check::Log] {
        run.skip(check, why);
    }
}

/// The login on a connection, if there is one.
pub(super) async fn check(
    run: &Run,
    subject: &Subject,
    login: Option<&Prepared>,
    facts: LaterFacts<'_>,
    connection: Option<Connection>,
) {
    let (Some(target), Ok(account)) = (subject.extent.target(), &subject.account) else {
        let why = if subject.extent.target().is_none() { NO_ENDPOINT } else { NO_CREDENTIALS };
        run.skip(Check::Token, why);
        return skip(run, why);
    };
    if !target.engine.is_database() {
        for check in [Check::Token, Check::Login, Check::Query, Check::User, Check::Log] {
            run.note(check, Finding::pass(NO_PROTOCOL));
        }
        return;
    }
    let fetched = if Login::of(target) == Login::Secret {
        let Some(fetched) = password(run, target, account).await else {
            leave(connection, target).await;
            return skip(run, "there is no password");
        };
        Some(fetched)
    } else {
        None
    };
    // The password may say whose it is.
    let user = target.user.clone().or_else(|| fetched.as_ref()?.user().map(str::to_owned));
    let target = &Target { user, ..Target::clone(target) };
    let Some(user) = &target.user else {
        leave(connection, target).await;
        return without_user(run, target);
    };
    let Some(login) = fetched.as_ref().or(login) else {
        run.skip(Check::Token, NO_CREDENTIALS);
        leave(connection, target).await;
        return skip(run, NO_CREDENTIALS);
    };
    let work = async {
        match login.proof(target, user, SystemTime::now()) {
            Ok(proof) => {
                let fact = match proof.record() {
                    Record::Token { length, expires } => {
                        format!("{length} characters, valid until {}", time(expires))
                    }
                    Record::Password => format!("not needed: {CLIENTS_PASSWORD}"),
                    Record::Secret => format!("the password from {}", target.password),
                };
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
            return skip(run, NO_CONNECTION);
        }
    };
    run.begin(Check::Login);
    let facts = facts.await;
    let database = facts.known.database.as_deref();
    let unchecked = target.endpoint.service().unchecked_user();
    let context = Context { subject, target, user, facts: &facts };
    let logged_in = match &proof {
        Proof::Token(token) => log_in(run, connection, &context, Sent::Token(token.secret())).await,
        Proof::Secret(password) => log_in(run, connection, &context, Sent::Password(password.secret())).await,
        Proof::OfClient => return as_far_as_the_request(run, connection, &context).await,
    };
    match logged_in {
        Some(LoggedIn::Postgres(stream)) => user::ask_postgres(run, stream, unchecked).await,
        Some(LoggedIn::Mysql(mut stream)) => {
            user::ask_mysql(run, &mut stream, user, unchecked).await;
            let _ = timeout(QUIT_TIMEOUT, mysql::goodbye::quit(&mut stream)).await;
        }
        None => {
            for check in [Check::Query, Check::User] {
                run.skip(check, "the login failed");
            }
            let permission = facts.known.permission(target, user);
            return log(run, subject, account, (database, &permission)).await;
        }
    }
    run.note(Check::Log, Finding::pass("not read: the login succeeded"));
}

/// Goes as far as the server's request for a password, which no server takes for a failed login.
async fn as_far_as_the_request(run: &Run, connection: Connection, context: &Context<'_>) {
    let Context { target, user, .. } = context;
    let (took, finding) = match connection.server {
        Server::Postgres => {
            let Connection { mut stream, mut attempt, .. } = connection;
            let begun = match startup(target) {
                Ok(startup) => engine::postgres::connect::begin(&mut attempt, &mut stream, &startup).await,
                Err(error) => Err(Error::from_login(error)),
            };
            let _ = timeout(QUIT_TIMEOUT, stream.shutdown()).await;
            let finding = match begun {
                Ok(Begun::Asked(_)) => Finding::pass(format!(
                    "the server asks {user} for a password or another proof; not tested: {CLIENTS_PASSWORD}"
                )),
                Ok(Begun::LoggedIn(_)) => Finding::pass(format!("as {user}, whom the server asks for no password")),
                Err(error) => context.refused(&error),
            };
            (attempt.time_of(Step::Login), finding)
        }
        Server::Mysql(_) => {
            leave(Some(connection), target).await;
            (Duration::ZERO, Finding::pass(format!("not tested: {CLIENTS_PASSWORD}")))
        }
    };
    run.record(Check::Login, took, vec![finding]);
    for check in [Check::Query, Check::User, Check::Log] {
        run.note(check, Finding::pass(format!("not tested: {CLIENTS_PASSWORD}")));
    }
}

/// Fetches the password. Reports it only if there is none, because the user may not be known yet.
async fn password(run: &Run, target: &Target, account: &Account) -> Option<Prepared> {
    run.begin(Check::Token);
    let started = Instant::now();
    let finding = match timeout(PASSWORD_TIMEOUT, Login::Secret.prepare(target, account)).await {
        Ok(Ok(prepared)) => return Some(prepared),
        Ok(Err(error)) => Finding::of_call(Verdict::Fail, &error),
        Err(_) => Finding::fail(format!("no password within {} s", PASSWORD_TIMEOUT.as_secs())),
    };
    run.record(Check::Token, started.elapsed(), vec![finding]);
    None
}

/// A target without a user is for clients that name theirs. Its login is not tested, so nothing is known of it.
fn without_user(run: &Run, target: &Target) {
    run.skip(Check::Token, NO_USER);
    let finding = Finding::fail(format!("not tested: {NO_USER}")).of(Cause::Configuration);
    let finding = finding.because("each client of this target logs in as the user that it names");
    run.note(Check::Login, finding.fix(format!("name the user to test: rdsgate doctor {} --user USER", target.name)));
    for check in [Check::Query, Check::User, Check::Log] {
        run.skip(check, NO_USER);
    }
}

/// The facts that explain a refused login.
struct Context<'a> {
    subject: &'a Subject,
    target: &'a Target,
    user: &'a str,
    facts: &'a Facts,
}

/// Ends a connection without a login.
async fn leave(connection: Option<Connection>, target: &Target) {
    if let Some(Connection { mut stream, server: Server::Mysql(greeting), .. }) = connection
        && let Ok(asked_with) = handshake_response(target)
    {
        let _ = engine::mysql::connect::decline(&mut stream, &greeting, Progress::Encrypted(&asked_with)).await;
    }
}

/// The proof that the server gets.
#[derive(Clone, Copy)]
enum Sent<'a> {
    Token(&'a Secret<String>),
    Password(&'a Secret<String>),
}

enum LoggedIn {
    Postgres(Stream),
    Mysql(Stream),
}

async fn log_in(
    run: &Run,
    Connection { mut stream, server, mut attempt }: Connection,
    context: &Context<'_>,
    sent: Sent<'_>,
) -> Option<LoggedIn> {
    let target = context.target;
    let login = async {
        match server {
            Server::Postgres => {
                let startup = startup(target).map_err(Error::from_login)?;
                let mode = Mode::Sequential;
                match sent {
                    Sent::Token(token) => {
                        engine::postgres::connect::log_in(&mut attempt, &mut stream, &startup, token, mode).await?
                    }
                    Sent::Password(password) => {
                        let log_in = engine::postgres::connect::log_in_with_password;
                        log_in(&mut attempt, &mut stream, &startup, password).await?
                    }
                };
                Ok(LoggedIn::Postgres(stream))
            }
            Server::Mysql(greeting) => {
                let response = handshake_response(target).map_err(Error::from_login)?;
                let terms = Terms { greeting: &greeting, response: &response, compression: None };
                match sent {
                    Sent::Token(token) => {
                        // It costs one more round trip, and every server takes the token so.
                        let timing = TokenTiming::WhenAsked;
                        engine::mysql::connect::log_in(&mut attempt, &mut stream, terms, token, timing).await?
                    }
                    Sent::Password(password) => {
                        let log_in = engine::mysql::connect::log_in_with_password;
                        log_in(&mut attempt, &mut stream, terms, password).await?
                    }
                };
                Ok(LoggedIn::Mysql(stream))
            }
        }
    };
    let (finding, logged_in) = match login.await {
        Ok(logged_in) => (Finding::pass(format!("as {}", context.user)), Some(logged_in)),
        Err(error) => {
            let refused = context.refused(&error);
            // A server may repeat what it was sent.
            let (Sent::Token(secret) | Sent::Password(secret)) = sent;
            let repeats = refused.fact.contains(secret.expose().as_str());
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

impl Context<'_> {
    /// The cause of a failed login by what AWS says, and otherwise by what the server says.
    fn refused(&self, error: &Error) -> Finding {
        let finding = failed(error, self.subject, self.target);
        match error {
            Error::Login(error) if error.is_refused_password() && Login::of(self.target) == Login::Secret => finding
                .because(format!("the password from {} is not that of the user", self.target.password))
                .fix("compare the two; wait if the secret is being rotated".to_owned()),
            Error::Login(error) if error.is_refusal() => self.explain(finding, error),
            Error::Login(engine::Error::Postgres(postgres::Error::Authentication(_))) => self.not_a_member(finding),
            Error::Login(engine::Error::Mysql(mysql::Error::Authentication(_))) => finding
                .because("the user does not log in with AWSAuthenticationPlugin, or does not exist")
                .paste(alter(self.user, ANY_HOST)),
            _ => finding,
        }
    }

    fn explain(&self, finding: Finding, error: &engine::Error) -> Finding {
        let permission = self.facts.known.permission(self.target, self.user);
        let refusal_hint = self.target.engine.facts().refusal_hint;
        let text = permission.to_string();
        let login = Login::of(self.target);
        let mapping = self.target.endpoint.service().user_mapping();
        let applicant = Applicant { user: self.user, is_unnamed: false, login, permission: &text, mapping };
        let hint = || refusal_hint(error, &applicant);
        if !is_about_the_token(error) {
            return self.explain_refusal(finding, error, hint);
        }
        if let Some(database) = self.facts.known.database.as_deref() {
            if database.iam == Some(false) {
                let finding = finding.because("IAM database authentication is off");
                return finding.paste(cloud::enable_iam(database, self.subject));
            }
            if let Some(port) = cloud::wrong_port(database, self.target) {
                let finding =
                    finding.because(format!("a token is for one port, and {} listens on {port}", database.id));
                return finding.fix(cloud::option("port", &port.to_string()));
            }
        }
        if self.facts.is_denied {
            return finding.because(format!("the IAM policy does not allow {permission}")).fix(statement(&permission));
        }
        finding.fix(hint())
    }

    /// The server has accepted the token, and refuses the user or the database.
    fn explain_refusal(&self, finding: Finding, error: &engine::Error, hint: impl Fn() -> Option<String>) -> Finding {
        let engine::Error::Postgres(postgres::Error::Refused(server)) = error else {
            // A statement of SQL is to be pasted without the words before it.
            let hint = hint();
            let sql = hint.as_deref().and_then(|hint| hint.strip_prefix("As an administrator: "));
            return match sql {
                Some(sql) => finding.because("the user may not do that").paste(sql),
                None => finding.fix(hint),
            };
        };
        let quoted = engine::postgres::quote_identifier;
        let (user, database) = (quoted(self.user), quoted(self.target.database.as_deref().unwrap_or(ANY_DATABASE)));
        match (server.sqlstate().as_str(), server.routine()) {
            // insufficient_privilege
            ("42501", _) => finding
                .because("the user may not connect to this database")
                .paste(format!("GRANT CONNECT ON DATABASE {database} TO {user};")),
            ("28000", Some(b"InitializeSessionUserId")) => {
                let statements = engine::postgres::let_log_in(self.user, Login::of(self.target));
                finding.because("the role may not log in, or does not exist").fix(statements)
            }
            // invalid_catalog_name
            ("3D000", _) => finding
                .fix(format!("use --database {ANY_DATABASE}, which every server of RDS has, or another that exists")),
            _ => finding.fix(hint()),
        }
    }

    /// A server asks for a password also when there is no such role: it does not reveal which roles exist.
    fn not_a_member(&self, finding: Finding) -> Finding {
        let lower = self.user.to_lowercase();
        if lower == self.user {
            return finding
                .because(format!(
                    "the role is not a member of rds_iam, or does not exist (then first: CREATE USER {};), or IAM database \
                     authentication is off",
                    engine::postgres::quote_identifier(self.user)
                ))
                .paste(grant(self.user));
        }
        finding.because(format!("the role is not a member of rds_iam, or it is called {lower}")).fix(format!(
            "{} (names are in lower case, unless a role was created in quotes; for one that was: {})",
            cloud::option("user", &lower),
            grant(self.user)
        ))
    }
}

/// Whether the server refused the token, as opposed to what the user asks for.
fn is_about_the_token(error: &engine::Error) -> bool {
    match error {
        // invalid_authorization_specification, for which PAM has no routine of its own
        engine::Error::Postgres(postgres::Error::Refused(server)) => {
            let is_of_role = matches!(server.routine(), Some(b"InitializeSessionUserId" | b"ClientAuthentication"));
            server.sqlstate().as_str() == "28000" && !is_of_role
        }
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        engine::Error::Mysql(mysql::Error::Refused(server)) => [1045, 1698].contains(&server.code()),
        engine::Error::Postgres(_) | engine::Error::Mysql(_) => false,
    }
}

async fn log(
    run: &Run,
    subject: &Subject,
    account: &Account,
    (database, permission): (Option<&Database>, &Permission),
) {
    let Some(database) = database else {
        return run.skip(Check::Log, NO_DESCRIPTION);
    };
    let work = async { (permission::log(subject, account, database, permission).await, None::<()>) };
    run.check(Check::Log, CALL_TIMEOUT, work).await;
}
