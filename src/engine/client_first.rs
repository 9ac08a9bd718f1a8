//! The verbs of an engine whose clients speak first, in the order in which the proxy calls them.
//!
//! ```text
//!   accept ─▶ Login: names ─▶ connect ─────────────▶ Established: greeting to the client ─▶ relay, followed by the tap
//!      │                         └─▶ Asked: answer ────▲
//!      └────▶ cancel
//! ```
//!
//! A failure on the way becomes a [`reply`](ClientFirst::reply).

use std::{future::ready, time::Duration};

use bytes::Bytes;
use database_wire::{
    Encryption, Error,
    postgres::{CancelRequest, ReplacedKey},
};
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{failure::Failure, follow::Follow, names::Request};
use crate::{
    connect::{self, Deadline, Record, Server, Upstream},
    local_password::LocalPassword,
    login,
    stream::{BoxIo, Io, goodbye::Goodbye},
};

/// An engine whose clients speak first, at work for one target.
pub trait ClientFirst: Send + Sync {
    /// The bytes with which a client ends before it is logged in; empty where it just closes.
    fn goodbye(&self) -> &'static [u8];

    /// Hears the client until it has said what it wants, and reads not a byte further. After TLS it is heard again. The caller sets
    /// the deadline.
    ///
    /// # Errors
    /// The client does not keep to the protocol, wants something that a database does not allow with this login, or the connection
    /// breaks.
    fn accept<'e: 'c, 'c>(
        &'e self,
        client: &'c mut dyn Io,
        encryption: Encryption,
        login: login::Login,
    ) -> BoxFuture<'c, Result<Accepted<'e>, Error>>;

    /// Goes to the database as far as it is possible without a client. Afterwards the route has what the first client needs.
    ///
    /// # Errors
    /// [`connect::Error`], by step.
    fn reach<'a>(&'a self, upstream: &'a Upstream, deadline: Deadline) -> BoxFuture<'a, Result<(), connect::Error>>;

    /// Forwards a cancel request to the server that issued its key, and waits until the server has read it. Never called for
    /// an engine without such requests.
    ///
    /// # Errors
    /// [`connect::Error`], by step.
    fn cancel<'a>(
        &'a self,
        _server: &'a Server,
        _request: &'a CancelRequest,
        _deadline: Deadline,
    ) -> BoxFuture<'a, Result<(), connect::Error>> {
        Box::pin(ready(Ok(())))
    }

    /// The message for a client whose connection failed; `None` if no reply is possible.
    fn reply(&self, failure: Failure<'_>) -> Option<Vec<u8>>;
}

/// The wish of a client.
pub enum Accepted<'e> {
    /// TLS, inside which it is heard again.
    Tls {
        /// The answer that it waits for; empty for a client that has begun with TLS.
        answer: &'static [u8],
        /// The first bytes of TLS, which were read.
        read: Vec<u8>,
    },
    /// To log in.
    Login(Box<dyn Login + 'e>),
    /// To cancel a query of another connection. Nothing is ever answered to it.
    Cancel(CancelRequest),
    /// Nothing: it has left.
    Gone {
        /// Why, in words for the log; `None` for a port probe.
        why: Option<&'static str>,
    },
}

/// A client's request to log in.
pub trait Login: Request + Send + Sync {
    /// Lets the client prove that it knows the password of the listener; whether it does. `end_point` is the hash of our certificate
    /// (`tls-server-end-point`) for a client inside TLS. No client of an engine without such a proof does.
    ///
    /// # Errors
    /// The client does not keep to the protocol, or the connection breaks.
    fn prove<'a>(
        &'a self,
        _client: &'a mut dyn Io,
        _password: &'a LocalPassword,
        _end_point: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(ready(Ok(false)))
    }

    /// Logs in to the database as the request says, as far as that is possible without the client.
    ///
    /// # Errors
    /// [`connect::Error`], by step.
    fn connect<'a>(
        &'a self,
        upstream: &'a Upstream,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Connected, connect::Error>>;
}

/// A connection whose server knows who wants to log in.
pub enum Connected {
    /// The server has let the client in.
    Established(Box<Established>),
    /// The server has asked for something that the client has.
    Asked(Box<dyn Asked>),
}

/// A login that waits for the client.
pub trait Asked: Send {
    /// Lets the client answer the requests of the server. From the client not a byte is read beyond its answers.
    ///
    /// # Errors
    /// [`NoAnswer`], by side.
    fn answer(self: Box<Self>, client: &mut dyn Io) -> BoxFuture<'_, Result<Box<Established>, NoAnswer>>;
}

/// The reason why a login that waited for the client failed.
#[derive(Debug)]
pub enum NoAnswer {
    /// The client has left, or does not keep to the protocol.
    Client(Error),
    /// The client took too long.
    ClientTimeout(Duration),
    /// The server refused, or the connection to it broke.
    Connect(connect::Error),
}

/// A connection that is logged in.
pub struct Established {
    /// The stream to the database, ready for the client's first command.
    pub stream: BoxIo,
    /// The bytes that the client reads before anything else.
    pub greeting: Bytes,
    /// The key of the connection's cancel requests, with the server that issued it.
    pub cancel: Option<(ReplacedKey, Server)>,
    /// Follows the connection; it has seen the greeting.
    pub tap: Box<dyn Follow + Send>,
    /// For the log.
    pub record: Record,
    /// What becomes of the connection when the client says goodbye; `None` if it ends then.
    pub reuse: Option<(Goodbye, Box<dyn Reuse>)>,
}

/// A connection that another client may get when its own has said goodbye.
pub trait Reuse: Send {
    /// Undoes the changes of the client and keeps the connection until another client takes it, its time is over, or `stop` is
    /// cancelled. Then, or if not all can be undone, the connection is ended in order.
    fn keep(self: Box<Self>, stream: BoxIo, stop: CancellationToken) -> BoxFuture<'static, ()>;
}
