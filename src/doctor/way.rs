//! The way to the database, as a connection takes it: session, dial, certificate; then the login over it. What it opens, it
//! ends.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_rustls::client::TlsStream;

use super::{
    Check, Examination, Finding, Known, NO_BASTION, NO_ENDPOINT, Patient, Subject, Verdict, cloud, login, network,
    words,
};
use crate::{
    app::{Cause, Pools},
    aws::rds::Database,
    mysql::{self, goodbye::Progress},
    postgres,
    proxy::error::Error,
    target::{Engine, Host, Route, Target},
    tls::{self, Certificate},
    tunnel::{self, Dialer, StreamError, pool, ssm::session},
};

/// StartSession, websocket, handshake.
const SESSION: Duration = Duration::from_secs(20);
/// Above the tunnel's own ten seconds, which knows more about it.
const DIAL: Duration = Duration::from_secs(12);
const TLS: Duration = Duration::from_secs(8);
/// For TerminateSession, which has five seconds of its own.
const END: Duration = Duration::from_secs(7);
/// A round trip or two.
pub(super) const LEAVE: Duration = Duration::from_secs(3);
/// A certificate that ends within this time deserves a word.
const RENEWAL: Duration = Duration::from_hours(30 * 24);

/// An encrypted stream to a server that waits for a login.
pub(super) struct Connection {
    pub(super) stream: TlsStream<tunnel::Stream>,
    pub(super) server: Server,
}

/// What the server has said before TLS.
pub(super) enum Server {
    Postgres,
    Mysql(mysql::Greeting),
}

pub(super) async fn examine(examination: &mut Examination, patient: &Patient, known: &Known) {
    let on_the_way = [Check::Session, Check::Dial, Check::Certificate];
    let (target, way) = match &patient.subject {
        Subject::Whole(target) => (&**target, Ok(())),
        Subject::NoRoute(target) => (&**target, Err(NO_BASTION)),
        Subject::NoEndpoint { .. } => {
            for check in on_the_way.into_iter().chain([Check::Token]) {
                examination.skip(check, NO_ENDPOINT);
            }
            return login::skip(examination, NO_ENDPOINT);
        }
    };
    let account = match &patient.account {
        Ok(account) if known.login.is_some() || target.route == Route::Direct => account,
        _ => {
            for check in on_the_way.into_iter().chain([Check::Token]) {
                examination.skip(check, cloud::NO_CREDENTIALS);
            }
            return login::skip(examination, cloud::NO_CREDENTIALS);
        }
    };
    if let Err(why) = way {
        for check in on_the_way {
            examination.skip(check, why);
        }
        return login::examine(examination, (target, account), known, None).await;
    }
    let mut alone = target.clone();
    (alone.pooling.max_sessions, alone.pooling.warm_sessions) = (1, 0);
    let mut pools = Pools::new(SESSION, patient.resume_for);
    let dialer = pools.dialer(&alone, account);
    let travel = async {
        let connection = connect(examination, &dialer, target, known).await;
        login::examine(examination, (target, account), known, connection).await;
    };
    tokio::select! {
        () = travel => {}
        () = patient.stop.cancelled() => {}
    }
    // Bounded by the session's own deadlines as well.
    let _ = timeout(END, pools.close(async || std::future::pending().await, |_| {})).await;
}

async fn connect(examination: &mut Examination, dialer: &Dialer, target: &Target, known: &Known) -> Option<Connection> {
    if let Dialer::Auto(auto) = dialer
        && let Ok(Some(reached)) =
            auto.direct(|stream| Box::pin(first_word(stream, target.engine)), Error::is_from_database).await
    {
        examination.note(Check::Session, Finding::pass("not needed: this machine reaches the database by itself"));
        examination.note(Check::Dial, Finding::pass(format!("{} answers", target.endpoint)));
        let (stream, server) = reached;
        let work = secure(stream, server, target, known.database.as_ref());
        return examination.check(Check::Certificate, TLS, work).await;
    }
    let opened = match &target.route {
        Route::Direct => {
            examination.note(Check::Session, Finding::pass(cloud::DIRECT));
            Ok(None)
        }
        Route::Ssm(bastion) | Route::Auto(bastion) => {
            let work = async {
                match dialer.dial().await {
                    Ok(stream) => {
                        let id = stream.session_id().unwrap_or_default();
                        (vec![Finding::pass(format!("{id} on {bastion}"))], Some(stream))
                    }
                    Err(error) => (vec![failed(&Error::Route(error), target)], None),
                }
            };
            examination.check(Check::Session, SESSION, work).await.map(Some).ok_or("there is no session")
        }
    };
    let connected = match opened {
        Ok(stream) => {
            let work = dial(dialer, stream, target, known);
            examination.check(Check::Dial, DIAL, work).await.ok_or("there is no connection to the database")
        }
        Err(why) => {
            examination.skip(Check::Dial, why);
            Err(why)
        }
    };
    match connected {
        Ok((stream, server)) => {
            let work = secure(stream, server, target, known.database.as_ref());
            examination.check(Check::Certificate, TLS, work).await
        }
        Err(why) => {
            examination.skip(Check::Certificate, why);
            None
        }
    }
}

/// Until the server says its first word, which proves that the bastion's dial was answered.
async fn dial(
    dialer: &Dialer,
    stream: Option<tunnel::Stream>,
    target: &Target,
    known: &Known,
) -> (Vec<Finding>, Option<(tunnel::Stream, Server)>) {
    let answered = async {
        let mut stream = match stream {
            Some(stream) => stream,
            None => dialer.dial().await.map_err(Error::Route)?,
        };
        let server = first_word(&mut stream, target.engine).await?;
        Ok::<_, Error>((stream, server))
    };
    match answered.await {
        Ok(answered) => (vec![Finding::pass(format!("{} answers", target.endpoint))], Some(answered)),
        Err(error) => {
            let finding = failed(&error, target);
            let finding = match (&error, &known.missing_rule) {
                (Error::Stream(StreamError::Refused | StreamError::DialTimeout(_)), Some((database, bastion))) => {
                    finding.paste(network::ingress(database, bastion, target.endpoint.port))
                }
                _ => finding,
            };
            (vec![finding], None)
        }
    }
}

async fn first_word(stream: &mut tunnel::Stream, engine: Engine) -> Result<Server, Error> {
    Ok(match engine {
        Engine::Postgres => {
            postgres::request_tls(stream).await.map_err(Error::from_answer)?;
            Server::Postgres
        }
        Engine::Mysql => Server::Mysql(mysql::read_greeting(stream).await.map_err(Error::from_mysql)?),
    })
}

async fn secure(
    mut stream: tunnel::Stream,
    server: Server,
    target: &Target,
    database: Option<&Database>,
) -> (Vec<Finding>, Option<Connection>) {
    let host = &target.endpoint.host;
    let secured = async {
        let prepared = async {
            let connector = tls::Connector::new(host, target.ca_file.as_ref()).map_err(Error::Tls)?;
            if let Server::Mysql(greeting) = &server {
                let response = login::handshake_response(target).map_err(Error::from_mysql)?;
                mysql::ssl_request(&mut stream, greeting, &response, None).await.map_err(Error::from_mysql)?;
            }
            Ok::<_, Error>(connector)
        };
        let connector = match prepared.await {
            Ok(connector) => connector,
            Err(error) => {
                if let Server::Mysql(greeting) = &server {
                    leave(&mut stream, greeting, Progress::Greeted).await;
                }
                return Err(error);
            }
        };
        connector.connect(stream).await.map_err(Error::from_tls)
    };
    match secured.await {
        Ok((stream, verified)) => {
            let chain = tls::Connector::chain(&stream);
            let mut findings = of_chain(&chain, host, verified.protocol);
            findings.extend(database.and_then(|database| of_authority(&chain, database)));
            (findings, Some(Connection { stream, server }))
        }
        Err(error) => {
            let mut findings = vec![Finding { part: Some(part_of_tls(&error)), ..failed(&error, target) }];
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

/// Leaves a MySQL server that is not logged in to, so that it does not count a broken handshake.
pub(super) async fn leave(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    greeting: &mysql::Greeting,
    progress: Progress<'_>,
) {
    let _ = timeout(LEAVE, mysql::goodbye::decline(stream, greeting, progress)).await;
}

fn part_of_tls(error: &Error) -> Cause {
    match error {
        Error::Tls(tls::Error::CaFile { .. }) => Cause::Configuration,
        _ => Cause::Database,
    }
}

fn of_chain(chain: &[Certificate], host: &Host, protocol: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::pass(format!("{protocol}, good for {host}"))];
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

/// Whether the chain is that of the authority that RDS names: `rds-ca-rsa2048-g1` is "… RSA2048 G1" in the names of its
/// certificates.
fn of_authority(chain: &[Certificate], database: &Database) -> Option<Finding> {
    let identifier = database.ca.as_deref()?;
    let words = identifier.strip_prefix("rds-ca-")?.replace('-', " ").to_ascii_uppercase();
    let named =
        chain.iter().any(|certificate| format!("{} {}", certificate.subject, certificate.issuer).contains(&words));
    let authorities = chain.iter().map(|certificate| common_name(&certificate.issuer)).collect::<Vec<_>>().join(", ");
    Some(if named {
        Finding::pass(format!("the authority is the one that RDS names: {identifier}"))
    } else {
        Finding::warn(format!("RDS names the authority {identifier}; the certificate's is {authorities}"))
            .because("a new certificate is used after a restart; or what answers is not this database")
            .paste("aws rds describe-certificates")
    })
}

/// An error on the way, with whose failure it is.
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
                let denied = matches!(**start, crate::aws::Error::AccessDenied { .. });
                let part = start.concerns_credentials().then_some(Cause::Credentials);
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
