//! Logs in for a client of the proxy, and keeps what has been learnt about the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use database_wire::{
    self as wire,
    postgres::{
        self, Mode, Notice, Startup,
        authentication::{self, Begun, Broken},
    },
};
use futures_util::future::BoxFuture;
use tokio::{io::AsyncWriteExt as _, time::timeout};
use tracing::debug;

use super::{
    connect::{begin, log_in, log_in_with_password, request_tls, secure},
    guard::guarded,
    reached::Reached,
    reused::Reused,
};
use crate::{
    connect::{Attempt, Deadline, Error, Hope, Server, Step, Stream, Upstream},
    engine::client_first::{Asked, Connected, Established, NoAnswer},
    login::Proof,
    stream::Io,
};

/// For closing a connection that was not logged in to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// PostgreSQL at work for one target.
#[derive(Default)]
pub struct Postgres {
    /// The server does not take startup and password together. Set by the first login that it dropped so, never cleared.
    sequential_login: AtomicBool,
    /// The connections that wait for another client.
    reused: Arc<Reused>,
}

/// The login that a client asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) upstream: &'a Upstream,
    /// The client's startup, whose names may have been changed.
    pub(super) startup: &'a Startup,
    /// Goes to the client in its greeting.
    pub(super) notice: Option<&'a Notice>,
    pub(super) deadline: Deadline,
}

impl Postgres {
    /// Goes to the database up to TLS.
    pub(super) async fn reach(&self, upstream: &Upstream, deadline: Deadline) -> Result<(), Error> {
        let mut attempt = Attempt::new(deadline);
        let plan = upstream.plan();
        plan.prepare(&mut attempt).await?;
        let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
        secure(&mut attempt, upstream.tls(), stream).await.map(drop)
    }

    /// Connects, and logs in if that takes nothing of the client.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub(super) async fn log_in(&self, wanted: Wanted<'_>) -> Result<Connected, Error> {
        let mut tries = wanted.upstream.password_tries();
        loop {
            let result = Box::pin(self.log_in_once(wanted)).await;
            if let Some(result) = tries.judge(result) {
                return result;
            }
        }
    }

    async fn log_in_once(&self, wanted: Wanted<'_>) -> Result<Connected, Error> {
        let upstream = wanted.upstream;
        let mode = if self.sequential_login.load(Ordering::Relaxed) { Mode::Sequential } else { Mode::Pipelined };
        match self.try_log_in(wanted, mode).await {
            Err(Error::Login(wire::Error::Postgres(postgres::Error::NotPipelined(why)))) => {
                debug!(target = %upstream.target().name, why, "logging in one message after the other from now on");
                let established = self.try_log_in(wanted, Mode::Sequential).await;
                let established = upstream.note_failure(established)?;
                self.sequential_login.store(true, Ordering::Relaxed);
                Ok(established)
            }
            result => upstream.note_failure(result),
        }
    }

    async fn try_log_in(&self, wanted: Wanted<'_>, mode: Mode) -> Result<Connected, Error> {
        let Wanted { upstream, startup, notice, deadline } = wanted;
        let user = String::from_utf8_lossy(startup.get(b"user").unwrap_or_default()).into_owned();
        let plan = upstream.plan();
        let mut attempt = Attempt::new(deadline);
        let prepared = plan.prepare(&mut attempt).await?;
        let guard = &upstream.target().guard;
        if Reused::is_for(upstream.target()) {
            let startup = guarded(startup, guard, upstream.principal()).map_err(Error::from_login)?;
            if let Some((stream, origin)) = self.reused.take(&startup, &prepared) {
                return Ok(Connected::Established(origin.established(stream, notice, attempt)));
            }
        }
        let secured = async {
            let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
            let (session, server) = (stream.session_id(), Server::of(&stream, upstream.tls()));
            let (stream, verified) = secure(&mut attempt, upstream.tls(), stream).await?;
            Ok::<_, Error>((stream, session, server, verified))
        };
        let (mut stream, session, server, verified) = upstream.with_principal_lookup(secured).await?;
        let startup = guarded(startup, guard, upstream.principal()).map_err(Error::from_login)?;
        let prepared = Box::pin(plan.fresh(&mut attempt, prepared)).await?;
        let proof = plan.proof(&user, &prepared)?;
        let logged_in = match &proof {
            Proof::Token(token) => log_in(&mut attempt, &mut stream, &startup, token.secret(), mode).await?,
            Proof::OfClient => match begin(&mut attempt, &mut stream, &startup).await? {
                Begun::LoggedIn(logged_in) => logged_in,
                Begun::Asked(request) => {
                    let (reached, notice) =
                        (Reached { server, session, verified, login: proof.record() }, notice.cloned());
                    return Ok(Connected::Asked(Box::new(Answering { stream, request, attempt, reached, notice })));
                }
            },
            Proof::Secret(password) => {
                let logged_in = log_in_with_password(&mut attempt, &mut stream, &startup, password.secret()).await;
                upstream.note_login(&proof, logged_in)?
            }
        };
        let reached = Reached { server, session, verified, login: proof.record() };
        let stream = Box::new(stream);
        Ok(Connected::Established(if Reused::is_for(upstream.target()) && !startup.replication() {
            let origin = self.reused.origin(upstream.target(), (startup, prepared), reached, logged_in);
            origin.established(stream, notice, attempt)
        } else {
            reached.established(stream, logged_in, notice, attempt)
        }))
    }
}

/// A login that waits for the client's password.
struct Answering {
    stream: Stream,
    request: authentication::Asked,
    attempt: Attempt,
    reached: Reached,
    notice: Option<Notice>,
}

impl Asked for Answering {
    fn answer(self: Box<Self>, client: &mut dyn Io) -> BoxFuture<'_, Result<Box<Established>, NoAnswer>> {
        Box::pin(async move {
            let Self { mut stream, request, mut attempt, reached, notice } = *self;
            let is_clients_turn = AtomicBool::new(true);
            let clients_turn = |turn| is_clients_turn.store(turn, Ordering::Relaxed);
            let relay = async { Ok(request.relay(&mut stream, client, clients_turn).await) };
            let no_answer = match attempt.run(Step::Login, Hope::Real, relay).await {
                Ok(Ok(logged_in)) => {
                    return Ok(reached.established(Box::new(stream), logged_in, notice.as_ref(), attempt));
                }
                Ok(Err(Broken::Client(error))) => NoAnswer::Client(error.into()),
                Ok(Err(Broken::Server(error))) => NoAnswer::Connect(Error::from_login(error)),
                Err(Error::Timeout { after, .. }) if is_clients_turn.load(Ordering::Relaxed) => {
                    NoAnswer::ClientTimeout(after)
                }
                Err(error) => NoAnswer::Connect(error),
            };
            // As a client without a password does. The server does not count it as a failed login.
            let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
            Err(no_answer)
        })
    }
}
