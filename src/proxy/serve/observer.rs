//! Follows a connection for the relay and for the metrics.

use std::sync::Arc;

use super::{arrival::Arrival, service::Service};
use crate::{engine::Follow, proxy::open::Connection, stream::relay};

/// Follows a connection for the relay, and counts its bytes.
pub(super) struct Observer<'a, T: ?Sized> {
    pub(super) tap: &'a mut T,
    pub(super) service: &'a Service,
    pub(super) arrival: Arrival,
    pub(super) connection: Arc<Connection>,
}

impl<T: Follow + ?Sized> relay::Tap for Observer<'_, T> {
    fn on_client(&mut self, bytes: &[u8]) {
        self.service.connections.sent(bytes.len());
        self.connection.sent(bytes.len());
        self.tap.on_client(bytes);
    }

    fn on_upstream(&mut self, bytes: &[u8]) {
        self.service.connections.received(bytes.len());
        self.connection.received(bytes.len());
        self.tap.on_upstream(bytes);
        if self.tap.take_refused_to_write() {
            self.service.upstream.on_refused_to_write();
        }
    }

    fn may_stop(&self) -> bool {
        self.tap.may_stop()
    }

    fn is_busy(&self) -> bool {
        // Without a protocol a client is taken to wait for as long as it is there.
        self.tap.is_busy() && (self.service.upstream.target().engine.is_database() || !self.client_is_gone())
    }

    fn client_is_gone(&self) -> bool {
        self.arrival.client_is_gone()
    }

    fn is_over(&self) -> bool {
        self.tap.is_over()
    }
}
