//! The connection to the database, made by the steps of [`connect`](crate::connect): session, dial, certificate. It has the
//! limits of a client's.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    network,
    report::{Check, Finding, Verdict},
    run::{Known, Run},
    subject::Subject,
    words::{self, DIRECT},
};
use crate::{
    app::{Cause, Pools},
    aws::{self, Account, rds::Database},
    connect::{Attempt, Error, Plan, Step, Stream, TakenRoute},
    engine::{
        self,
        mysql::connect::{decline, read_greeting},
        postgres::connect::request_tls,
    },
    mysql::{self, Capabilities, Greeting, HandshakeResponse, goodbye::Progress},
    target::{Engine, Host, Route, Target},
    tls::{self, Certificate},
    tunnel::{self, Dialer, StreamError, control::aws_error, pool, ssm::session},
};

/// For the end of a session: TerminateSession has five seconds of its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(7);
/// A certificate that expires within this time deserves a warning.
const RENEWAL: Duration = Duration::from_hours(30 * 24);
/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;

/// An encrypted stream to a server that waits for a login.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) server: Server,
    pub(super) attempt: Attempt,
}

/// What the server has sent before TLS.
pub(super) enum Server {
    Postgres,
    Mysql(Greeting),
}

/// The path to a target's database, with sessions of its own.
pub(super) struct Path<'a> {
    target: Target,
    account: &'a Account,
    subject: &'a Subject,
    pools: Pools,
    dialer: Dialer,
}

/// Skips the checks of this file.
pub(super) fn skip(run: &mut Run, why: &str) {
    for check in [Check::Session, Check::Dial, Check::Certificate] {
        run.skip(check, why);
    }
}

impl<'a> Path<'a> {
    pub(super) fn new(target: &Target, account: &'a Account, subject: &'a Subject) -> Self {
        let mut target = target.clone();
        (target.pooling.max_sessions, target.pooling.warm_sessions) = (1, 0);
        let mut pools = Pools::new(subject.connect_timeout, subject.resume_for);
        let dialer = pools.dialer(&target, account);
        Self { target, account, subject, pools, dialer }
    }

    /// Ends the sessions that were opened.
    pub(super) async fn close(self) {
        // Bounded by the sessions' own timeouts as well.
        let _ = timeout(CLOSE_TIMEOUT, self.pools.close(async || std::future::pending().await, |_| {})).await;
    }

    /// Connects up to TLS.
    pub(super) async fn connect(&self, run: &mut Run, known: &Known) -> Option<Connection> {
        let plan = Plan { target: &self.target, account: self.account, dialer: &self.dialer };
        let mut attempt = Attempt::new(run.connect_deadline(self.subject.connect_timeout));
        let engine = self.target.engine;
        let answered = plan.answer(&mut attempt, |stream| Box::pin(first_word(stream, engine))).await;
        let (stream, server) = self.report_answer(run, known, &attempt, answered)?;
        let secured = self.secure(&mut attempt, stream, &server).await;
        let (findings, stream) = self.report_tls(secured, known.database.as_ref());
        run.record(Check::Certificate, attempt.time_of(Step::Tls), findings);
        Some(Connection { stream: stream?, server, attempt })
    }

    /// Reports on session and dial.
    fn report_answer(
        &self,
        run: &mut Run,
        known: &Known,
        attempt: &Attempt,
        answered: Result<(tunnel::Stream, Server), Error>,
    ) -> Option<(tunnel::Stream, Server)> {
        let (route, answer) = (attempt.time_of(Step::Route), attempt.time_of(Step::Answer));
        let dial = match (&attempt.route, &self.target.route) {
            (Some(TakenRoute::Session(id)), Route::Ssm(bastion) | Route::Auto(bastion)) => {
                run.record(Check::Session, route, vec![Finding::pass(format!("{id} on {bastion}"))]);
                answer
            }
            (Some(TakenRoute::DirectOfAuto), _) => {
                let fact = "not needed: this machine reaches the database by itself";
                run.note(Check::Session, Finding::pass(fact));
                route + answer
            }
            (_, Route::Direct) => {
                run.note(Check::Session, Finding::pass(DIRECT));
                route + answer
            }
            (_, Route::Ssm(_) | Route::Auto(_)) => {
                let finding = answered.err().map(|error| failed(&error, &self.target));
                run.record(Check::Session, route, finding.into_iter().collect());
                for check in [Check::Dial, Check::Certificate] {
                    run.skip(check, "there is no session");
                }
                return None;
            }
        };
        match answered {
            Ok(answered) => {
                run.record(Check::Dial, dial, vec![Finding::pass(format!("{} answers", self.target.endpoint))]);
                Some(answered)
            }
            Err(error) => {
                let finding = failed(&error, &self.target);
                let finding = match (&error, &known.missing_rule) {
                    (Error::Stream(StreamError::Refused | StreamError::DialTimeout(_)), Some((database, bastion))) => {
                        finding.paste(network::ingress(database, bastion, self.target.endpoint.port))
                    }
                    _ => finding,
                };
                run.record(Check::Dial, dial, vec![finding]);
                run.skip(Check::Certificate, "there is no connection to the database");
                None
            }
        }
    }

    async fn secure(
        &self,
        attempt: &mut Attempt,
        mut stream: tunnel::Stream,
        server: &Server,
    ) -> Result<(Stream, tls::Verified), Error> {
        let connector = tls::Connector::new(&self.target.endpoint.host, self.target.ca_file.as_ref());
        match server {
            Server::Postgres => {
                engine::postgres::connect::secure(attempt, &connector.map_err(Error::Tls)?, stream).await
            }
            Server::Mysql(greeting) => {
                let response = handshake_response(&self.target).map_err(Error::from_login);
                match connector.map_err(Error::Tls).and_then(|connector| Ok((connector, response?))) {
                    Ok((connector, response)) => {
                        engine::mysql::connect::secure(attempt, &connector, stream, greeting, &response, None).await
                    }
                    Err(error) => {
                        let _ = decline(&mut stream, greeting, Progress::Greeted).await;
                        Err(error)
                    }
                }
            }
        }
    }

    fn report_tls(
        &self,
        secured: Result<(Stream, tls::Verified), Error>,
        database: Option<&Database>,
    ) -> (Vec<Finding>, Option<Stream>) {
        match secured {
            Ok((stream, verified)) => {
                let chain = tls::Connector::chain(&stream);
                let mut findings = of_chain(&chain, &self.target.endpoint.host, verified.protocol);
                findings.extend(database.and_then(|database| of_authority(&chain, database)));
                (findings, Some(stream))
            }
            Err(error) => {
                let mut findings = vec![Finding { part: Some(part_of_tls(&error)), ..failed(&error, &self.target) }];
                if let Error::Tls(tls::Error::Certificate(rejected)) = &error
                    && let Some(certificate) = &rejected.certificate
                {
                    findings.push(Finding::unknown(described(certificate)));
                    let chain = std::slice::from_ref(certificate);
                    findings.extend(database.and_then(|database| of_authority(chain, database)));
                }
                (findings, None)
            }
        }
    }
}

/// The server's first bytes, which prove that the dial has reached it.
async fn first_word(stream: &mut tunnel::Stream, engine: Engine) -> Result<Server, Error> {
    Ok(match engine {
        Engine::Postgres => {
            request_tls(stream).await?;
            Server::Postgres
        }
        Engine::Mysql => Server::Mysql(read_greeting(stream).await?),
    })
}

/// The response that a MySQL login begins with.
pub(super) fn handshake_response(target: &Target) -> Result<HandshakeResponse, mysql::Error> {
    let mut response = HandshakeResponse::new(Capabilities::MYSQL | Capabilities::PROTOCOL_41, CHARSET);
    response.set_user(target.user.as_deref().unwrap_or_default().as_bytes())?;
    response.set_database(target.database.as_deref().unwrap_or_default().as_bytes())?;
    Ok(response)
}

fn part_of_tls(error: &Error) -> Cause {
    match error {
        Error::Tls(tls::Error::CaFile { .. }) => Cause::Configuration,
        _ => Cause::Database,
    }
}

fn of_chain(chain: &[Certificate], host: &Host, protocol: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::pass(format!("{protocol}, valid for {host}"))];
    findings.extend(chain.iter().map(|certificate| {
        let fact = described(certificate);
        if certificate.not_after.within(RENEWAL) { Finding::warn(fact) } else { Finding::pass(fact) }
    }));
    findings
}

fn described(certificate: &Certificate) -> String {
    let Certificate { subject, issuer, names, not_before, not_after } = certificate;
    let names = if names.is_empty() { String::new() } else { format!(" for {}", names.join(", ")) };
    format!("{}{names}, issued by {}, from {not_before} to {not_after}", common_name(subject), common_name(issuer))
}

/// The common name, or all of a name that has none.
fn common_name(name: &str) -> &str {
    name.split(", ").find_map(|part| part.strip_prefix("CN=")).unwrap_or(name)
}

/// Whether the chain belongs to the authority that RDS names: `rds-ca-rsa2048-g1` is "… RSA2048 G1" in the names of its
/// certificates.
fn of_authority(chain: &[Certificate], database: &Database) -> Option<Finding> {
    let identifier = database.ca.as_deref()?;
    let words = identifier.strip_prefix("rds-ca-")?.replace('-', " ").to_ascii_uppercase();
    let named =
        chain.iter().any(|certificate| format!("{} {}", certificate.subject, certificate.issuer).contains(&words));
    let authorities = chain.iter().map(|certificate| common_name(&certificate.issuer)).collect::<Vec<_>>().join(", ");
    Some(if named {
        Finding::pass(format!("issued by the authority that RDS names: {identifier}"))
    } else {
        Finding::warn(format!("RDS names the authority {identifier}; the certificate was issued by {authorities}"))
            .because("a new certificate is used after a restart; or another server answers")
            .paste("aws rds describe-certificates")
    })
}

/// An error of connecting, with what to do and whose failure it is.
pub(super) fn failed(error: &Error, target: &Target) -> Finding {
    let finding = Finding::fail(words::of(error));
    let hint = error.hint(target);
    let finding = match error {
        Error::Stream(StreamError::Refused | StreamError::DialTimeout(_)) => {
            let ingress = network::ingress("<database's>", "<bastion's>", target.endpoint.port);
            Finding { cause: hint, ..finding }.paste(ingress)
        }
        Error::Route(tunnel::Error::Pool(pool::Error::Session(cause))) => match &**cause {
            session::Error::Start { cause: start, .. } => {
                let start = aws_error(start);
                let denied = matches!(start, Some(aws::Error::AccessDenied { .. }));
                let part = start.is_some_and(aws::Error::concerns_credentials).then_some(Cause::Credentials);
                let policy = format!("rdsgate policy {}", target.name);
                let finding = Finding { part, ..finding };
                if denied { Finding { cause: hint, ..finding }.paste(policy) } else { finding.fix(hint) }
            }
            _ => finding.fix(hint),
        },
        _ => finding.fix(hint),
    };
    debug_assert_eq!(finding.verdict, Verdict::Fail);
    finding
}
