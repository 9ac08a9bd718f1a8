//! MySQL logins. The server speaks first, so a connection is greeted before its client has said anything, and logged in to
//! afterwards.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Established, Facts, Greeted, Upstream};
use crate::{
    connect::{self, Attempt, Deadline, Error, Hope, Step, mysql::read_greeting},
    engine::{
        self,
        mysql::connect::{compressions, guard_session, is_guarded, with_principal_attribute},
    },
    limits::RELOGIN_TIMEOUT,
    mysql::{
        self, Capabilities, Compression, Greeting, HandshakeResponse, LoggedIn, OkPacket, TokenTiming,
        compress::Compressed, goodbye::Progress,
    },
    stream::BoxIo,
    target::Compress,
};

impl Upstream {
    /// Connects to a MySQL server and reads its greeting, before `deadline`.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn greet_mysql(&self, deadline: Deadline) -> Result<Greeted, Error> {
        self.greet_mysql_noting(deadline, &AtomicBool::new(false)).await
    }

    /// As [`greet_mysql`](Self::greet_mysql). `reached` is set as soon as the server may know of the connection: before, this
    /// may be cancelled without a trace; afterwards the server would count a broken handshake.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn greet_mysql_noting(&self, deadline: Deadline, reached: &AtomicBool) -> Result<Greeted, Error> {
        let mut attempt = Attempt::new(deadline);
        let login = self.plan().prepare(&mut attempt).await?;
        let exchange = self.plan().answer(&mut attempt, |stream| {
            reached.store(true, Ordering::Relaxed);
            Box::pin(read_greeting(stream))
        });
        let exchange = self.with_principal_lookup(exchange).await;
        let (stream, greeting) = self.note_failover(exchange)?;
        Ok(Greeted { stream, greeting, login, attempt, since: Instant::now() })
    }

    /// Connects again to a MySQL server for a client that was greeted as `greeting` says, before `deadline`. Only the
    /// connection id may differ.
    ///
    /// # Errors
    /// [`Error`], by step; [`mysql::Error::GreetingChanged`] when another kind of server answers.
    pub async fn greet_mysql_again(&self, greeting: &Greeting, deadline: Deadline) -> Result<Greeted, Error> {
        let greeted = self.greet_mysql(deadline).await?;
        if greeted.greeting.is_compatible_with(greeting) {
            return Ok(greeted);
        }
        self.retire(greeted).await;
        Err(Error::from_login(mysql::Error::GreetingChanged))
    }

    /// Logs in to a MySQL server as `response` says.
    ///
    /// The first refusal of a token that was sent before the server asked may be due to that: the login is tried once more
    /// on another connection, which has another connection id than the one that the client was greeted with.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn log_in_mysql(
        &self,
        greeted: Greeted,
        response: &HandshakeResponse,
    ) -> Result<Established<LoggedIn, BoxIo>, Error> {
        let deadline = greeted.attempt.deadline();
        let timing = match TokenTiming::for_server(&greeted.greeting) {
            TokenTiming::Early if self.token_when_asked.load(Ordering::Relaxed) => TokenTiming::WhenAsked,
            timing => timing,
        };
        let result = self.note_failover(self.try_log_in_mysql(greeted, response, timing).await);
        if timing == TokenTiming::WhenAsked || self.early_token_taken.load(Ordering::Relaxed) {
            return result;
        }
        match result {
            Err(Error::Login(engine::Error::Mysql(why))) if why.suggests_misread_token() => {
                debug!(target = %self.target.name, %why, "sending the token when the server asks for it from now on");
                self.token_when_asked.store(true, Ordering::Relaxed);
                let greeted = self.greet_mysql(deadline).await?;
                self.note_failover(self.try_log_in_mysql(greeted, response, TokenTiming::WhenAsked).await)
            }
            Ok(established) => {
                self.early_token_taken.store(true, Ordering::Relaxed);
                Ok(established)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn try_log_in_mysql(
        &self,
        greeted: Greeted,
        response: &HandshakeResponse,
        timing: TokenTiming,
    ) -> Result<Established<LoggedIn, BoxIo>, Error> {
        let Greeted { mut stream, greeting, login, mut attempt, .. } = greeted;
        let user = String::from_utf8_lossy(response.user()).into_owned();
        let reached = self.reached(&stream);
        let response = &with_principal_attribute(response, &greeting, self.principal());
        let compression = Compression::choose(compressions(self.target.compress, reached.session.is_some()), &greeting);
        self.log_missing_compression(compression, &greeting);
        // Before TLS, so that no failure of ours breaks off the handshake.
        let proof = match self.plan().proof(&user, &login) {
            Ok(proof) => proof,
            Err(error) => {
                let _ = connect::mysql::decline(&mut stream, &greeting, Progress::Greeted).await;
                return Err(error);
            }
        };
        let secured = connect::mysql::secure(&mut attempt, &self.tls, stream, &greeting, response, compression);
        let (mut stream, verified) = secured.await?;
        let proof_at = (&proof, timing);
        let logging_in = connect::mysql::log_in(&mut attempt, &mut stream, &greeting, response, compression, proof_at);
        let logged_in = logging_in.await?;
        debug!(target = %self.target.name, ?compression, "packets between us and the server");
        let mut stream: BoxIo = match compression {
            Some(compression) => Box::new(Compressed::new(stream, compression)),
            None => Box::new(stream),
        };
        self.guard_mysql(&mut stream, &greeting, logged_in.capabilities, &mut attempt).await?;
        self.spares.logged_in(&user);
        let facts = Facts::new(reached, verified, &proof, attempt);
        Ok(Established { stream, logged_in, facts })
    }

    /// Logs once that the server does not offer the configured compression.
    fn log_missing_compression(&self, chosen: Option<Compression>, greeting: &Greeting) {
        let configured = match self.target.compress {
            Compress::Zlib => "zlib",
            Compress::Zstd => "zstd",
            Compress::Auto | Compress::Off => return,
        };
        if chosen.is_none() && !self.compression_missing_logged.swap(true, Ordering::Relaxed) {
            let server = if greeting.is_mariadb() { "MariaDB" } else { "MySQL" };
            warn!(
                target = %self.target.name,
                version = %String::from_utf8_lossy(&greeting.version).escape_debug(),
                "this {server} server does not offer {configured} compression: packets are not compressed; use --compress auto"
            );
        }
    }

    /// Logs in again on a MySQL connection, with a fresh token.
    ///
    /// # Errors
    /// [`Error`], by step; the connection is of no use then.
    pub async fn change_user_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &Greeting,
        logged_in: &LoggedIn,
        response: &HandshakeResponse,
    ) -> Result<OkPacket, Error> {
        let mut attempt = relogin();
        let login = self.plan().prepare(&mut attempt).await?;
        let proof = self.plan().proof(&String::from_utf8_lossy(response.user()), &login)?;
        let response = with_principal_attribute(response, greeting, self.principal());
        let changing = mysql::change_user(stream, logged_in, &response, proof.cleartext());
        let changing = async { changing.await.map_err(Error::from_login) };
        let ok = attempt.run(Step::Login, Hope::Real, changing).await?;
        self.guard_mysql(stream, greeting, logged_in.capabilities, &mut attempt).await?;
        Ok(ok)
    }

    /// Resets a MySQL connection, and guards it again.
    ///
    /// # Errors
    /// [`Error`], by step; the connection is of no use then.
    pub async fn reset_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &Greeting,
        logged_in: &LoggedIn,
    ) -> Result<OkPacket, Error> {
        let mut attempt = relogin();
        let reset = async { mysql::command::reset_connection(stream).await.map_err(Error::from_login) };
        let ok = attempt.run(Step::Login, Hope::Real, reset).await?;
        self.guard_mysql(stream, greeting, logged_in.capabilities, &mut attempt).await?;
        Ok(ok)
    }

    /// Whether the guard sets variables of MySQL sessions, which a reset would undo.
    pub fn guards_sessions(&self) -> bool {
        is_guarded(&self.target.guard)
    }

    async fn guard_mysql(
        &self,
        stream: &mut BoxIo,
        greeting: &Greeting,
        capabilities: Capabilities,
        attempt: &mut Attempt,
    ) -> Result<(), Error> {
        let guarding = guard_session(stream, greeting, capabilities, &self.target.guard);
        let guarding = async { guarding.await.map_err(Error::from_login) };
        attempt.run(Step::Login, Hope::Real, guarding).await
    }
}

/// An attempt for a connection that is established already.
fn relogin() -> Attempt {
    Attempt::new(Deadline::unattended(Instant::now() + RELOGIN_TIMEOUT))
}
