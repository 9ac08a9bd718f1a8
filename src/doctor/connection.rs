//! The connection to the database, made by the steps of [`connect`](crate::connect): session, dial, certificate. It has the
//! limits of a client's.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use database_wire::mysql::{self, Capabilities, Greeting, HandshakeResponse, goodbye::Progress};
use tokio::{
    io::AsyncReadExt as _,
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    cloud, network,
    report::{Check, Finding, Verdict},
    run::{Facts, LaterFacts, Rules, Run},
    subject::{Extent, Subject},
    vpc::{self, Trouble},
    words::{self, DIRECT, NO_CONNECTION, NO_PROTOCOL},
};
use crate::{
    app::Pools,
    aws::{self, Account, rds::Database},
    connect::{Attempt, Error, Plan, Step, Stream, TakenRoute},
    engine::{
        self,
        mysql::connect::{decline, read_greeting},
        postgres::connect::request_tls,
    },
    service::Service,
    target::{Engine, Host, Route, Target},
    tls::{self, Certificate},
    tunnel::{
        self, Dialer, StreamError,
        control::aws_error,
        pool,
        ssm::{conversation::EndReason, handshake::HandshakeError, session},
    },
};

/// For the end of a session: TerminateSession has five seconds of its own.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(7);
/// For the question whether it is over.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);
const NO_SESSION: &str = "not needed: there was none";
const GIVEN_UP: &str = "the one that was being opened is given up";
const LEFT: &str = "the session stays until it has been idle for as long as the account allows";
/// A certificate that expires within this time deserves a warning.
const RENEWAL: Duration = Duration::from_hours(30 * 24);
/// The interval of looks whether a server that says nothing has accepted.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;

/// An encrypted stream to a server that waits for a login.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) server: Server,
    pub(super) attempt: Attempt,
}

/// The bytes that the server has sent before TLS.
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
    /// The session that was opened.
    session: RefCell<Option<Arc<str>>>,
    /// The trouble that the network around the bastion may explain.
    trouble: Cell<Option<Trouble>>,
    /// Whether the database has answered.
    is_reached: Cell<bool>,
}

/// Skips the checks of this file.
pub(super) fn skip(run: &Run, why: &'static str) {
    for check in [Check::Session, Check::Dial, Check::Certificate] {
        run.skip(check, why);
    }
}

/// Ends the sessions that were opened, and reports whether AWS let us.
pub(super) async fn end(run: &Run, path: Option<Path<'_>>) {
    let Some(Path { account, pools, dialer, session, .. }) = path else {
        return run.note(Check::End, Finding::pass(NO_SESSION));
    };
    // One that was being dialled through when the run was stopped has not been reported.
    let open = || dialer.pool().and_then(|pool| pool.stats().sessions.first().map(|session| Arc::clone(&session.id)));
    let session = session.into_inner().or_else(open);
    let is_opening = session.is_none() && dialer.pool().is_some_and(|pool| pool.stats().opening > 0);
    if session.is_some() {
        run.begin(Check::End);
    }
    let started = Instant::now();
    // Bounded by the sessions' own timeouts as well.
    let closed = timeout(CLOSE_TIMEOUT, pools.close(async || std::future::pending().await, |_| {})).await;
    let Some(id) = session else {
        return run.note(Check::End, Finding::pass(if is_opening { GIVEN_UP } else { NO_SESSION }));
    };
    // The pool does not say how that went; a session that is over can be terminated again.
    let finding = match timeout(TERMINATE_TIMEOUT, account.terminate_session(&id)).await {
        Ok(Ok(())) if closed.is_ok() => Finding::pass(format!("{id} is terminated")),
        Ok(Err(error)) => Finding { cause: Some(LEFT.into()), ..Finding::of_call(Verdict::Fail, &error) },
        Ok(Ok(())) | Err(_) => Finding::unknown(format!("whether {id} is terminated: AWS did not reply in time")),
    };
    run.record(Check::End, started.elapsed(), vec![finding]);
}

impl<'a> Path<'a> {
    /// The path of a subject whose target, route and account are known.
    pub(super) fn of(subject: &'a Subject) -> Option<Self> {
        let (Extent::Complete(target), Ok(account)) = (&subject.extent, &subject.account) else { return None };
        let mut target = Target::clone(target);
        (target.pooling.max_sessions, target.pooling.warm_sessions) = (1, 0);
        let mut pools = Pools::new(subject.connect_timeout, subject.resume_for);
        let dialer = pools.dialer(&target, account);
        let (session, trouble, is_reached) = (RefCell::default(), Cell::default(), Cell::default());
        Some(Self { target, account, subject, pools, dialer, session, trouble, is_reached })
    }

    /// Connects up to TLS.
    pub(super) async fn connect(&self, run: &Run, facts: LaterFacts<'_>) -> Option<Connection> {
        let plan = Plan { target: &self.target, account: self.account, dialer: &self.dialer, pace: None };
        let mut attempt = Attempt::new(run.connect_deadline(self.subject.connect_timeout));
        let engine = self.target.engine;
        let needs_session = self.target.route != Route::Direct;
        if needs_session {
            run.begin(Check::Session);
        } else {
            run.note(Check::Session, Finding::pass(DIRECT));
            run.begin(Check::Dial);
        }
        let started = Instant::now();
        let (opened, mut is_opened) = watch::channel(None);
        let is_open = async { is_opened.wait_for(Option::is_some).await.ok().and_then(|id| Option::clone(&id)) };
        let answered = {
            let mut answered = pin!(plan.answer(&mut attempt, |stream| {
                opened.send_replace(stream.session_id());
                Box::pin(first_word(stream, engine))
            }));
            tokio::select! {
                answered = &mut answered => answered,
                // The first bytes are exchanged, so there is a session.
                Some(id) = is_open => {
                    self.report_session(run, &id, started.elapsed());
                    answered.await
                }
            }
        };
        let (stream, server) = self.report_answer(run, facts.clone(), &attempt, answered).await?;
        self.is_reached.set(true);
        vpc::not_needed(run);
        let Some(server) = server else {
            run.note(Check::Certificate, Finding::pass(NO_PROTOCOL));
            return None;
        };
        run.begin(Check::Certificate);
        let secured = self.secure(&mut attempt, stream, &server).await;
        let took = attempt.time_of(Step::Tls);
        let database = facts.await.known.database;
        let (findings, stream) = self.report_tls(secured, database.as_deref());
        run.record(Check::Certificate, took, findings);
        Some(Connection { stream: stream?, server, attempt })
    }

    /// The trouble that the network around the bastion may explain, once a connection has been tried.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.get()
    }

    /// Whether the database has answered.
    pub(super) fn is_reached(&self) -> bool {
        self.is_reached.get()
    }

    fn note_trouble(&self, error: &Error) {
        let hangs =
            matches!(error, Error::Stream(StreamError::DialTimeout(_)) | Error::Timeout { step: Step::Answer, .. });
        if error.bastion_is_not_connected() {
            self.trouble.set(Some(Trouble::Offline));
        } else if hangs {
            self.trouble.set(Some(Trouble::Hangs(self.target.endpoint.port)));
        }
    }

    /// Reports the session as soon as it is open; the dial begins then.
    fn report_session(&self, run: &Run, id: &Arc<str>, took: Duration) {
        let bastion = match &self.target.route {
            Route::Ssm(bastion) | Route::Auto(bastion) => bastion.as_str(),
            Route::Direct => return,
        };
        let is_first = self.session.replace(Some(Arc::clone(id))).is_none();
        if is_first {
            run.record(Check::Session, took, vec![Finding::pass(format!("{id} on {bastion}"))]);
            run.begin(Check::Dial);
        }
    }

    /// Reports on session and dial, as far as that has not been done.
    async fn report_answer(
        &self,
        run: &Run,
        facts: LaterFacts<'_>,
        attempt: &Attempt,
        answered: Result<(tunnel::Stream, Option<Server>), Error>,
    ) -> Option<(tunnel::Stream, Option<Server>)> {
        let (route, answer) = (attempt.time_of(Step::Route), attempt.time_of(Step::Answer));
        if let Err(error) = &answered {
            self.note_trouble(error);
        }
        let dial = match (&attempt.route, &self.target.route) {
            (Some(TakenRoute::Session(id)), Route::Ssm(_) | Route::Auto(_)) => {
                self.report_session(run, id, route);
                answer
            }
            (Some(TakenRoute::DirectOfAuto), _) => {
                let fact = "not needed: this machine reaches the database by itself";
                run.note(Check::Session, Finding::pass(fact));
                route + answer
            }
            (_, Route::Direct) => route + answer,
            (_, Route::Ssm(_) | Route::Auto(_)) => {
                if self.session.borrow().is_some() {
                    // The second session of a dial that was tried again.
                    let finding = answered.err().map(|error| failed(&error, self.subject, &self.target));
                    run.record(Check::Dial, answer, finding.into_iter().collect());
                } else {
                    let finding = answered.err().map(|error| failed(&error, self.subject, &self.target));
                    run.record(Check::Session, route, finding.into_iter().collect());
                    run.skip(Check::Dial, NO_CONNECTION);
                }
                run.skip(Check::Certificate, NO_CONNECTION);
                return None;
            }
        };
        match answered {
            Ok(answered) => {
                let verb = if self.target.engine.is_database() { "answers" } else { "accepts connections" };
                run.record(Check::Dial, dial, vec![Finding::pass(format!("{} {verb}", self.target.endpoint))]);
                Some(answered)
            }
            Err(error) => {
                let finding = failed(&error, self.subject, &self.target);
                let finding = match &error {
                    Error::Stream(cause @ (StreamError::Refused | StreamError::DialTimeout(_))) => {
                        self.explain_dial(finding, cause, &facts.await)
                    }
                    _ => finding,
                };
                run.record(Check::Dial, dial, vec![finding]);
                run.skip(Check::Certificate, NO_CONNECTION);
                None
            }
        }
    }

    /// The cause of a failed dial by what RDS and EC2 say, from the surest to the least.
    fn explain_dial(&self, finding: Finding, error: &StreamError, facts: &Facts) -> Finding {
        let Facts { known, rules, .. } = facts;
        let (host, port) = (&self.target.endpoint.host, self.target.endpoint.port);
        if let Some(database) = known.database.as_deref() {
            if let Some(status) = cloud::unavailable(database) {
                let finding = finding.because(format!("RDS says that {} is {status}", database.id));
                return match cloud::start(database, self.subject) {
                    Some(start) => finding.paste(start),
                    None => finding.fix("wait until it is available".to_owned()),
                };
            }
            if let Some(right) = cloud::wrong_port(database, &self.target) {
                let finding = finding.because(format!("{} listens on {right}, not on {port}", database.id));
                return finding.fix(cloud::option("port", &right.to_string()));
            }
        }
        match (rules, error) {
            (Rules::Missing { database, bastion }, _) => finding
                .because(format!("no rule of {database} lets {bastion} in on port {port}"))
                .paste(network::ingress(self.subject, (database, bastion), port)),
            (Rules::Open, StreamError::Refused) => finding
                .because("the security groups of the database let the bastion in")
                .fix(format!("check that {host} resolves on the bastion, and that a network ACL of its subnet lets port {port} out")),
            (Rules::Open, _) => finding
                .because("the security groups of the database let the bastion in, so the packets are dropped elsewhere")
                .fix(format!(
                    "let port {port} out of the security groups of the bastion, and through the network ACLs of both subnets"
                )),
            (Rules::Unknown, _) => finding,
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
                        let terms = mysql::Terms { greeting, response: &response, compression: None };
                        engine::mysql::connect::secure(attempt, &connector, stream, terms).await
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
                let finding = failed(&error, self.subject, &self.target);
                let mut findings = vec![match database.and_then(|database| rotation(&error, database, self.subject)) {
                    Some(rotate) => finding.because("the certificate was not rotated in time").paste(rotate),
                    None => finding,
                }];
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

/// The server's first bytes, which prove that the dial has reached it; `None` where they mean nothing to us.
async fn first_word(stream: &mut tunnel::Stream, engine: Engine) -> Result<Option<Server>, Error> {
    Ok(match engine {
        Engine::Postgres => {
            request_tls(stream).await?;
            Some(Server::Postgres)
        }
        Engine::Mysql => Some(Server::Mysql(read_greeting(stream).await?)),
        Engine::Tcp => {
            accepted(stream).await?;
            None
        }
    })
}

/// Until the server is known to have accepted the connection. It need not say anything.
async fn accepted(stream: &mut tunnel::Stream) -> Result<(), Error> {
    let acceptance = stream.acceptance();
    let is_known = async {
        while !acceptance.is_accepted() {
            sleep(LOOK_INTERVAL).await;
        }
    };
    let stream_error = |error: io::Error| StreamError::from_io(&error).cloned().unwrap_or(StreamError::Closed);
    tokio::select! {
        read = stream.read_u8() => match read {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(Error::Stream(stream_error(error))),
            Ok(_) | Err(_) => Ok(()),
        },
        () = is_known => Ok(()),
    }
}

/// The response that a MySQL login begins with.
pub(super) fn handshake_response(target: &Target) -> Result<HandshakeResponse, mysql::Error> {
    let mut response = HandshakeResponse::new(Capabilities::MYSQL | Capabilities::PROTOCOL_41, CHARSET);
    response.set_user(target.user.as_deref().unwrap_or_default().as_bytes())?;
    response.set_database(target.database.as_deref().unwrap_or_default().as_bytes())?;
    Ok(response)
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
            .fix("restart the database, if its certificate was rotated; rdsgate ls shows its endpoint".to_owned())
    })
}

/// The command that replaces an expired certificate.
fn rotation(error: &Error, database: &Database, subject: &Subject) -> Option<String> {
    let Error::Tls(tls::Error::Certificate(rejected)) = error else { return None };
    let is_instance = database.kind == Service::Instance;
    (is_instance && matches!(rejected.reason, tls::Reason::Expired { .. })).then(|| {
        let id = &database.id;
        subject.aws(&format!(
            "rds modify-db-instance --db-instance-identifier {id} --ca-certificate-identifier rds-ca-rsa2048-g1 --apply-immediately"
        ))
    })
}

/// An error of connecting, with what to do and whose failure it is.
pub(super) fn failed(error: &Error, subject: &Subject, target: &Target) -> Finding {
    let finding = Finding::fail(words::of(error, target.remote())).of(error.into());
    let Error::Route(tunnel::Error::Pool(pool::Error::Session(cause))) = error else {
        return finding.fix(error.hint(target));
    };
    match &**cause {
        session::Error::Start { cause: start, .. } => match aws_error(start) {
            Some(denied @ aws::Error::AccessDenied { .. }) => {
                let finding = Finding { cause: denied.hint(), ..finding };
                finding.paste(format!("rdsgate policy {}", target.name))
            }
            _ => finding.fix(error.hint(target)),
        },
        session::Error::Ended {
            reason: EndReason::Handshake(HandshakeError::AgentTooOld(_) | HandshakeError::NoRemoteHost(_)),
            node,
        } if !node.starts_with("ecs:") => finding
            .paste(subject.aws(&format!("ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids {node}"))),
        _ => finding.fix(error.hint(target)),
    }
}
