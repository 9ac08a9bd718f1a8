//! A server that has let a client in.

use std::sync::Arc;

use database_wire::postgres::{LoggedIn, Notice, ReplacedKey};

use super::tap::Tap;
use crate::{
    connect::{Attempt, Record, Server},
    engine::client_first::Established,
    login,
    stream::BoxIo,
    tls::Verified,
};

/// The server of a login.
#[derive(Clone)]
pub(super) struct Reached {
    pub(super) server: Option<Server>,
    pub(super) session: Option<Arc<str>>,
    pub(super) verified: Verified,
    pub(super) login: login::Record,
}

impl Reached {
    /// The connection for its client, who gets `notice`.
    pub(super) fn established(
        self,
        stream: BoxIo,
        mut logged_in: LoggedIn,
        notice: Option<&Notice>,
        attempt: Attempt,
    ) -> Box<Established> {
        if let Some(notice) = notice {
            logged_in.add_notice(notice);
        }
        let tap = Tap::new(&logged_in.greeting);
        Box::new(Established {
            stream,
            greeting: logged_in.greeting,
            cancel: logged_in.cancel_key.map(ReplacedKey::unchanged).zip(self.server),
            tap: Box::new(tap),
            record: Record::new(self.session, self.verified, self.login, attempt, logged_in.server_version),
            reuse: None,
        })
    }
}
