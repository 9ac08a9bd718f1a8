//! Logs in for a client of the proxy, and keeps what has been learnt about the server. The server speaks first, so a
//! connection is greeted before its client has said anything, and logged in to afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use database_wire::{
    self as wire,
    mysql::{
        self, Capabilities, Compression, Greeting, HandshakeResponse, LoggedIn, OkPacket, Terms, TokenTiming,
        authentication::{Broken, change_user_of_client, login_of_client},
        compress::Compressed,
        goodbye::Progress,
        key::Key,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OnceCell,
    task::spawn_blocking,
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    answering::Answering,
    connect::{decline, log_in, log_in_with_password, read_greeting, secure},
    greeted::Greeted,
    guard::{compressions, guard_session, is_guarded, with_principal_attribute},
    spares::Spares,
};
use crate::{
    connect::{Attempt, Deadline, Error, Hope, Record, Step, Stream, Upstream},
    engine::client_first::NoAnswer,
    limits::RELOGIN_TIMEOUT,
    login::{self, Login, Proof},
    stream::BoxIo,
    target::{Compress, Guard, Target},
    tls::Verified,
};

/// For the server to refuse a login whose client does not reply.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// MySQL at work for one target.
#[derive(Default)]
pub struct Mysql {
    /// The server has accepted a token that was sent before it asked.
    early_token_taken: AtomicBool,
    /// The server has refused a login with such a token: from then on it gets the token when it asks.
    token_when_asked: AtomicBool,
    /// The log has said that the server does not offer the configured compression.
    compression_missing_logged: AtomicBool,
    pub(super) spares: Spares,
}

/// A connection that is logged in.
pub struct Established {
    /// The stream, ready for the client's first command.
    pub stream: BoxIo,
    /// The server's part of the login, which the client receives.
    pub logged_in: LoggedIn,
    /// For the log.
    pub record: Record,
}

impl Mysql {
    /// Connects to a MySQL server and reads its greeting, before `deadline`.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn greet(&self, upstream: &Upstream, deadline: Deadline) -> Result<Greeted, Error> {
        self.greet_noting(upstream, deadline, &AtomicBool::new(false)).await
    }

    /// As [`greet`](Self::greet). `reached` is set as soon as the server may know of the connection: before, this
    /// may be cancelled without a trace; afterwards the server would count a broken handshake.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn greet_noting(
        &self,
        upstream: &Upstream,
        deadline: Deadline,
        reached: &AtomicBool,
    ) -> Result<Greeted, Error> {
        let mut attempt = Attempt::new(deadline);
        let login = upstream.plan().prepare(&mut attempt).await?;
        let exchange = upstream.plan().answer(&mut attempt, |stream| {
            reached.store(true, Ordering::Relaxed);
            Box::pin(read_greeting(stream))
        });
        let exchange = upstream.with_principal_lookup(exchange).await;
        let (stream, greeting) = upstream.note_failure(exchange)?;
        self.spares.lock().greeting = Some(greeting.clone());
        Ok(Greeted { stream, greeting, login, attempt, since: Instant::now() })
    }

    /// The greeting for a client whose server is not dialled yet: the last one of the server, or, before there was one, that of an
    /// unknown server. Its connection id is one of our own: drivers take 0 for a connection that is not open, or tell connections
    /// apart by their ids.
    pub fn expected_greeting(&self) -> Greeting {
        let known = self.spares.lock().greeting.clone();
        Greeting { connection_id: unused_connection_id(), ..known.unwrap_or_else(Greeting::of_unknown_server) }
    }

    /// Logs in to a MySQL server as `response` says.
    ///
    /// The first refusal of a token that was sent before the server asked may be due to that: the login is tried once more
    /// on another connection, which has another connection id than the one that the client was greeted with.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn log_in(
        &self,
        upstream: &Upstream,
        greeted: Greeted,
        response: &HandshakeResponse,
    ) -> Result<Established, Error> {
        let deadline = greeted.attempt.deadline();
        let mut tries = upstream.password_tries();
        let mut greeted = Ok(greeted);
        loop {
            let result = match greeted {
                Ok(greeted) => Box::pin(self.log_in_once(upstream, greeted, response)).await,
                Err(error) => Err(error),
            };
            if let Some(result) = tries.judge(result) {
                return result;
            }
            greeted = self.greet(upstream, deadline).await;
        }
    }

    async fn log_in_once(
        &self,
        upstream: &Upstream,
        greeted: Greeted,
        response: &HandshakeResponse,
    ) -> Result<Established, Error> {
        let deadline = greeted.attempt.deadline();
        let timing = match TokenTiming::for_server(&greeted.greeting) {
            TokenTiming::Early if self.token_when_asked.load(Ordering::Relaxed) => TokenTiming::WhenAsked,
            timing => timing,
        };
        let result = upstream.note_failure(self.try_log_in(upstream, greeted, response, timing).await);
        let is_token = Login::of(upstream.target()) == Login::Iam;
        if !is_token || timing == TokenTiming::WhenAsked || self.early_token_taken.load(Ordering::Relaxed) {
            return result;
        }
        match result {
            Err(Error::Login(wire::Error::Mysql(why))) if why.suggests_misread_token() => {
                debug!(target = %upstream.target().name, %why, "sending the token when the server asks for it from now on");
                self.token_when_asked.store(true, Ordering::Relaxed);
                let greeted = self.greet(upstream, deadline).await?;
                upstream.note_failure(self.try_log_in(upstream, greeted, response, TokenTiming::WhenAsked).await)
            }
            Ok(established) => {
                self.early_token_taken.store(true, Ordering::Relaxed);
                Ok(established)
            }
            Err(error) => Err(error),
        }
    }

    /// Logs in to the server that greeted the client, with the client's own proof. A client that leaves meanwhile, or falls
    /// silent, is refused by the server, which does not count that as a broken handshake.
    ///
    /// # Errors
    /// [`NoAnswer`], by side.
    pub async fn log_in_client(
        &self,
        upstream: &Upstream,
        greeted: Option<Greeted>,
        client: &mut (impl AsyncRead + AsyncWrite + Unpin),
        login: &mut mysql::Login,
    ) -> Result<Established, NoAnswer> {
        // Another server would have another scramble.
        let Some(greeted) = greeted.and_then(|greeted| self.usable(upstream, greeted)) else {
            let closed = mysql::Error::Closed { waiting_for: "the client's response to the greeting" };
            return Err(NoAnswer::Connect(Error::from_login(closed)));
        };
        let Greeted { stream, greeting, mut attempt, .. } = greeted;
        let target = upstream.target();
        let session = stream.session_id();
        let response = with_principal_attribute(&login.response, &greeting, upstream.principal());
        let compression = Compression::choose(compressions(target.compress, session.is_some()), &greeting);
        self.log_missing_compression(target, compression, &greeting);
        let terms = Terms { greeting: &greeting, response: &response, compression };
        let secured = secure(&mut attempt, upstream.tls(), stream, terms);
        let (mut stream, verified) = secured.await.map_err(NoAnswer::Connect)?;
        let parties = (login, key);
        let mut client = Answering::until(client, attempt.deadline().with_time_for(REFUSAL_TIMEOUT));
        let relay = login_of_client(&mut stream, &mut client, terms, parties);
        let relay = async { Ok(relay.await) };
        let relayed = attempt.run(Step::Login, Hope::Real, relay).await.map_err(NoAnswer::Connect)?;
        let logged_in = relayed.map_err(|broken| match (broken, client.overdue()) {
            (Broken::Client(_), Some(after)) => NoAnswer::ClientTimeout(after),
            (broken, _) => no_answer(broken),
        })?;
        let secured = Secured { stream, greeting, compression, session, verified, login: login::Record::Password };
        let established = self.guarded(target, secured, logged_in, attempt).await.map_err(NoAnswer::Connect)?;
        Ok(established)
    }

    /// Ends the login on the server's side: what guards the session is set, and the record made.
    async fn guarded(
        &self,
        target: &Target,
        secured: Secured,
        logged_in: LoggedIn,
        mut attempt: Attempt,
    ) -> Result<Established, Error> {
        let Secured { stream, greeting, compression, session, verified, login } = secured;
        debug!(target = %target.name, ?compression, "packets between us and the server");
        let mut stream: BoxIo = match compression {
            Some(compression) => Box::new(Compressed::new(stream, compression)),
            None => Box::new(stream),
        };
        guard(&mut stream, &greeting, logged_in.capabilities, &target.guard, &mut attempt).await?;
        let server_version = String::from_utf8_lossy(&greeting.version).into_owned();
        let record = Record::new(session, verified, login, attempt, Some(server_version));
        Ok(Established { stream, logged_in, record })
    }

    /// One attempt at a login, with the token sent at this time.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub(super) async fn try_log_in(
        &self,
        upstream: &Upstream,
        greeted: Greeted,
        response: &HandshakeResponse,
        timing: TokenTiming,
    ) -> Result<Established, Error> {
        let Greeted { mut stream, greeting, login, mut attempt, .. } = greeted;
        let target = upstream.target();
        let user = String::from_utf8_lossy(response.user()).into_owned();
        let session = stream.session_id();
        let response = &with_principal_attribute(response, &greeting, upstream.principal());
        let compression = Compression::choose(compressions(target.compress, session.is_some()), &greeting);
        self.log_missing_compression(target, compression, &greeting);
        // Before TLS, so that no failure of ours breaks off the handshake.
        let proof = match Box::pin(upstream.plan().fresh(&mut attempt, login)).await {
            Ok(login) => upstream.plan().proof(&user, &login),
            Err(error) => Err(error),
        };
        let proof = match proof {
            Ok(Proof::OfClient) => Err(without_client()),
            proof => proof,
        };
        let proof = match proof {
            Ok(proof) => proof,
            Err(error) => {
                let _ = decline(&mut stream, &greeting, Progress::Greeted).await;
                return Err(error);
            }
        };
        let terms = Terms { greeting: &greeting, response, compression };
        let secured = secure(&mut attempt, upstream.tls(), stream, terms);
        let (mut stream, verified) = secured.await?;
        let logged_in = match &proof {
            Proof::Secret(password) => log_in_with_password(&mut attempt, &mut stream, terms, password.secret()).await,
            Proof::Token(token) => log_in(&mut attempt, &mut stream, terms, token.secret(), timing).await,
            Proof::OfClient => Err(without_client()),
        };
        let logged_in = upstream.note_login(&proof, logged_in)?;
        let secured = Secured { stream, greeting, compression, session, verified, login: proof.record() };
        let established = self.guarded(target, secured, logged_in, attempt).await?;
        self.spares.logged_in(&user);
        Ok(established)
    }

    /// Logs once that the server does not offer the configured compression.
    fn log_missing_compression(&self, target: &Target, chosen: Option<Compression>, greeting: &Greeting) {
        let configured = match target.compress {
            Compress::Zlib => "zlib",
            Compress::Zstd => "zstd",
            Compress::Auto | Compress::Off => return,
        };
        if chosen.is_none() && !self.compression_missing_logged.swap(true, Ordering::Relaxed) {
            let server = if greeting.is_mariadb() { "MariaDB" } else { "MySQL" };
            warn!(
                target = %target.name,
                version = %String::from_utf8_lossy(&greeting.version).escape_debug(),
                "this {server} server does not offer {configured} compression: packets are not compressed; use --compress auto"
            );
        }
    }
}

/// A connection whose certificate is verified, and what was agreed on for its login.
struct Secured {
    stream: Stream,
    greeting: Greeting,
    compression: Option<Compression>,
    session: Option<Arc<str>>,
    verified: Verified,
    login: login::Record,
}

/// The key of this process, made when the first client asks for one.
async fn key() -> Option<&'static Key> {
    static KEY: OnceCell<Option<Key>> = OnceCell::const_new();
    KEY.get_or_init(async || spawn_blocking(Key::generate).await.ok().flatten()).await.as_ref()
}

/// The error of a login that only the client can make.
fn without_client() -> Error {
    Error::from_login(mysql::Error::Malformed("login without the client"))
}

fn no_answer(broken: Broken) -> NoAnswer {
    match broken {
        Broken::Client(error) => NoAnswer::Client(error.into()),
        Broken::Server(error) => NoAnswer::Connect(Error::from_login(error)),
    }
}

/// Logs in again on a connection, with the client's own proof.
///
/// # Errors
/// [`NoAnswer`], by side; the connection is of no use then.
pub async fn change_user_of(
    upstream: &Upstream,
    stream: &mut BoxIo,
    greeting: &Greeting,
    logged_in: &LoggedIn,
    (client, login): (&mut (impl AsyncRead + AsyncWrite + Unpin), &mut mysql::Login),
) -> Result<OkPacket, NoAnswer> {
    let mut attempt = relogin();
    let response = with_principal_attribute(&login.response, greeting, upstream.principal());
    let parties = (login, key);
    let changing = change_user_of_client(stream, client, greeting, &response, logged_in, parties);
    let changing = async { Ok(changing.await) };
    let changed = attempt.run(Step::Login, Hope::Real, changing).await.map_err(NoAnswer::Connect)?;
    let ok = changed.map_err(no_answer)?;
    let guarding = guard(stream, greeting, logged_in.capabilities, &upstream.target().guard, &mut attempt);
    guarding.await.map_err(NoAnswer::Connect)?;
    Ok(ok)
}

/// Logs in again on a connection, with a fresh proof.
///
/// # Errors
/// [`Error`], by step; the connection is of no use then.
pub async fn change_user(
    upstream: &Upstream,
    stream: &mut BoxIo,
    greeting: &Greeting,
    logged_in: &LoggedIn,
    response: &HandshakeResponse,
) -> Result<OkPacket, Error> {
    let mut attempt = relogin();
    let login = upstream.plan().prepare(&mut attempt).await?;
    let login = Box::pin(upstream.plan().fresh(&mut attempt, login)).await?;
    let proof = upstream.plan().proof(&String::from_utf8_lossy(response.user()), &login)?;
    let response = with_principal_attribute(response, greeting, upstream.principal());
    let changing = async {
        let changed = match &proof {
            Proof::Token(token) => mysql::change_user(stream, logged_in, &response, token.secret()).await,
            Proof::Secret(password) => {
                mysql::change_user_with_password(stream, logged_in, &response, password.secret()).await
            }
            Proof::OfClient => return Err(without_client()),
        };
        changed.map_err(Error::from_login)
    };
    let ok = upstream.note_login(&proof, attempt.run(Step::Login, Hope::Real, changing).await)?;
    guard(stream, greeting, logged_in.capabilities, &upstream.target().guard, &mut attempt).await?;
    Ok(ok)
}

/// A connection id that no server has: servers count up from 1. `KILL` of it ends nothing, and says so.
fn unused_connection_id() -> u32 {
    /// Ids of one process before they repeat.
    const DISTINCT: u32 = 1 << 20;
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    u32::MAX - GIVEN.fetch_add(1, Ordering::Relaxed) % DISTINCT
}

/// Resets a connection, and guards it again.
///
/// # Errors
/// [`Error`], by step; the connection is of no use then.
pub async fn reset(
    upstream: &Upstream,
    stream: &mut BoxIo,
    greeting: &Greeting,
    logged_in: &LoggedIn,
) -> Result<OkPacket, Error> {
    let mut attempt = relogin();
    let reset = async { mysql::command::reset_connection(stream).await.map_err(Error::from_login) };
    let ok = attempt.run(Step::Login, Hope::Real, reset).await?;
    guard(stream, greeting, logged_in.capabilities, &upstream.target().guard, &mut attempt).await?;
    Ok(ok)
}

/// Whether the guard sets variables of sessions, which a reset would undo.
pub fn guards_sessions(target: &Target) -> bool {
    is_guarded(&target.guard)
}

async fn guard(
    stream: &mut BoxIo,
    greeting: &Greeting,
    capabilities: Capabilities,
    guard: &Guard,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    let guarding = async { guard_session(stream, greeting, capabilities, guard).await.map_err(Error::from_login) };
    attempt.run(Step::Login, Hope::Real, guarding).await
}

/// An attempt for a connection that is established already.
fn relogin() -> Attempt {
    Attempt::new(Deadline::unattended(Instant::now() + RELOGIN_TIMEOUT))
}
