//! The session to open, and the means for it.

use std::{sync::Arc, time::Duration};

use crate::{
    connect::Connect,
    control::ControlPlane,
    conversation::Options,
    request::{Destination, Request},
    websocket::MessageService,
};

/// The session to open, and the means for it.
#[derive(Clone)]
pub struct Spec {
    /// The calls to Systems Manager.
    pub control: Arc<dyn ControlPlane>,
    /// The connections to the message service.
    pub connect: Arc<dyn Connect>,
    /// The message service of the session's region.
    pub service: MessageService,
    /// The managed node whose agent dials: `i-…`, `mi-…` or `ecs:CLUSTER_TASK_RUNTIME`.
    pub node: Arc<str>,
    /// The address that the agent dials.
    pub destination: Destination,
    /// Document, parameters and reason.
    pub request: Request,
    /// Limits and delays.
    pub options: Options,
    /// How long to try to resume a session whose connection was lost. Default 2 minutes.
    pub resume_for: Duration,
}

impl Spec {
    /// A session in `region` to `destination` through `node`, with AWS's own document and endpoints, resumed for 2 minutes.
    pub fn new(
        control: Arc<dyn ControlPlane>,
        connect: Arc<dyn Connect>,
        region: &str,
        node: &str,
        destination: Destination,
    ) -> Self {
        Self {
            control,
            connect,
            service: MessageService::of_region(region),
            node: node.into(),
            destination,
            request: Request::default(),
            options: Options::default(),
            resume_for: Duration::from_mins(2),
        }
    }
}
