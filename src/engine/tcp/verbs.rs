//! The verbs in their order: the client has nothing to say first, so the server is dialled as soon as a client is there.

use std::io;

use bytes::Bytes;
use database_wire::{Encryption, Error};
use futures_util::future::{BoxFuture, ready};

use super::{half_close::HalfCloses, tap::Tap};
use crate::{
    connect::{self, Attempt, Deadline, Record, Upstream},
    engine::{
        Failure, Names, Request,
        client_first::{Accepted, ClientFirst, Connected, Established, Login},
    },
    login,
    stream::{BoxIo, Io},
    tunnel::{self, StreamError},
};

/// Bytes without a protocol, for one target.
pub struct Tcp;

impl ClientFirst for Tcp {
    fn goodbye(&self) -> &'static [u8] {
        &[]
    }

    fn accept<'e: 'c, 'c>(
        &'e self,
        _: &'c mut dyn Io,
        _: Encryption,
        _: login::Login,
    ) -> BoxFuture<'c, Result<Accepted<'e>, Error>> {
        Box::pin(ready(Ok(Accepted::Login(Box::new(Nameless)))))
    }

    /// Opens the route alone: a connection that is closed at once would be a broken handshake for some servers.
    fn reach<'a>(&'a self, upstream: &'a Upstream, deadline: Deadline) -> BoxFuture<'a, Result<(), connect::Error>> {
        Box::pin(async move { upstream.plan().open_route(&mut Attempt::new(deadline)).await })
    }

    fn reply(&self, _: Failure<'_>) -> Option<Vec<u8>> {
        None
    }
}

/// A client's wish to be connected, which has no names.
struct Nameless;

impl Request for Nameless {
    fn names(&self) -> Names<'_> {
        Names { user: &[], database: &[] }
    }

    fn set_user(&mut self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    fn set_database(&mut self, _: &str) -> Result<(), Error> {
        Ok(())
    }
}

impl Login for Nameless {
    fn connect<'a>(
        &'a self,
        upstream: &'a Upstream,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Connected, connect::Error>> {
        Box::pin(async move { upstream.note_failure(connect(upstream, deadline).await) })
    }
}

/// Dials. Through a session the server may not have accepted yet: the client's first bytes need not wait for that, as the agent
/// reports failures alone.
async fn connect(upstream: &Upstream, deadline: Deadline) -> Result<Connected, connect::Error> {
    let mut attempt = Attempt::new(deadline);
    let plan = upstream.plan();
    plan.prepare(&mut attempt).await?;
    let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(announced(stream))).await?;
    let session = stream.session_id();
    let stream: BoxIo = match session {
        Some(_) => Box::new(HalfCloses::new(stream)),
        None => Box::new(stream),
    };
    let record = Record::without_login(session, attempt);
    let established =
        Established { stream, greeting: Bytes::new(), cancel: None, tap: Box::new(Tap), record, reuse: None };
    Ok(Connected::Established(Box::new(established)))
}

/// Until the agent is known to dial: before that another session may serve the connection.
async fn announced(stream: &mut tunnel::Stream) -> Result<(), connect::Error> {
    let stream_error = |error: io::Error| StreamError::from_io(&error).cloned().unwrap_or(StreamError::Closed);
    stream.announced().await.map_err(|error| connect::Error::Stream(stream_error(error)))
}
