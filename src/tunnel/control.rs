//! The calls of SSM sessions, made by an [`Account`]: the only file of the tunnel that calls AWS.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderName, HeaderValue, Uri};
use ssm_session::{
    control::{BoxFuture, ControlError, ControlPlane, Failure, Grant, RawPlus, Start, StartSession},
    conversation::Options,
    session::Spec,
    websocket::MessageService,
};

use super::{message_service::Outbound, owner};
use crate::{
    aws::{self, Account, sign},
    limits,
    target::{Endpoint, InstanceId, Region, SessionSettings},
};

/// The AWS calls for the sessions of one pool.
#[derive(Debug)]
struct Control {
    account: Account,
    bastion: InstanceId,
    /// The time for which StartSession is retried while AWS throttles.
    start_for: Duration,
}

/// The sessions to open: through `bastion` to `endpoint`, asked for by `account` for `start_for` while AWS throttles, and
/// resumed for `resume_for`.
pub fn spec(
    account: &Account,
    bastion: &InstanceId,
    endpoint: &Endpoint,
    settings: &SessionSettings,
    (start_for, resume_for): (Duration, Duration),
) -> Spec {
    let defaults = Options::default();
    let mux = ssm_session::smux::mux::Options {
        dial_timeout: limits::DIAL_TIMEOUT,
        dial_question: limits::DIAL_QUESTION,
        ..defaults.mux
    };
    Spec {
        control: Arc::new(Control { account: account.clone(), bastion: bastion.clone(), start_for }),
        connect: Arc::new(Outbound::new(account.ca_bundle())),
        service: message_service(account.region(), account.ssm_endpoint_is_loopback(), settings),
        node: bastion.as_str().into(),
        destination: endpoint.destination(),
        request: settings.request(),
        options: Options {
            mux,
            payload_size: settings.payload_size,
            keep_alive: settings.keep_alive,
            keep_alive_advice: Some("keep_alive = true prevents that".into()),
            idle_timeout: settings.idle_timeout,
            ..defaults
        },
        resume_for,
    }
}

/// The message service of a region. It may be on this machine only in a sandbox.
fn message_service(region: &Region, in_sandbox: bool, settings: &SessionSettings) -> MessageService {
    MessageService {
        dns_suffix: region.partition().dns_suffix().into(),
        dual_stack_suffix: region.partition().dual_stack_suffix().into(),
        endpoint: settings.ssmmessages_endpoint.as_ref().map(Endpoint::destination),
        allow_plain_loopback: in_sandbox,
        allow_unsigned: settings.unsigned_stream,
        ..MessageService::of_region(region.as_str())
    }
}

/// The AWS error of a failed call of a session.
pub fn aws_error(error: &ControlError) -> Option<&aws::Error> {
    error.downcast_ref()
}

fn failed(cause: aws::Error) -> ControlError {
    let failure = match cause {
        aws::Error::TargetNotConnected { .. } => Failure::NotConnected,
        aws::Error::SessionGone { .. } | aws::Error::AccessDenied { .. } => Failure::Gone,
        _ => Failure::Other,
    };
    ControlError::new(failure, cause)
}

impl ControlPlane for Control {
    fn start<'a>(&'a self, request: &'a StartSession, hope: &'a (dyn Fn() + Send + Sync)) -> BoxFuture<'a, Start> {
        Box::pin(async move {
            let request = StartSession { reason: owner::marked(&request.reason), ..request.clone() };
            let started = self.account.start_session(&self.bastion, &request, self.start_for, hope).await;
            let aws::Start { outcome, may_have_orphans } = started;
            Start { outcome: outcome.map_err(failed), may_have_orphans }
        })
    }

    fn resume<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<Grant, ControlError>> {
        Box::pin(async move { self.account.resume_session(session_id).await.map_err(failed) })
    }

    fn terminate<'a>(&'a self, session_id: &'a str) -> BoxFuture<'a, Result<(), ControlError>> {
        Box::pin(async move { self.account.terminate_session(session_id).await.map_err(failed) })
    }

    fn sign<'a>(
        &'a self,
        uri: &'a Uri,
        plus: RawPlus,
    ) -> BoxFuture<'a, Result<Vec<(HeaderName, HeaderValue)>, ControlError>> {
        Box::pin(async move {
            let credentials = self.account.credentials().await.map_err(failed)?;
            let region = self.account.region();
            sign::websocket_headers(uri, region, &credentials, SystemTime::now(), plus).map_err(failed)
        })
    }

    fn raw_plus(&self) -> RawPlus {
        self.account.raw_plus()
    }

    fn remember_raw_plus(&self, plus: RawPlus) {
        self.account.remember_raw_plus(plus);
    }

    fn end_orphans<'a>(&'a self, tag: &'a str, keep: Option<&'a str>) -> BoxFuture<'a, ()> {
        Box::pin(self.account.end_orphans(tag, keep))
    }

    fn idle_timeout(&self) -> BoxFuture<'_, Option<Duration>> {
        Box::pin(self.account.session_idle_timeout())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_service_has_the_names_of_the_partition() {
        for (region, host) in [
            ("eu-central-1", "ssmmessages.eu-central-1.amazonaws.com"),
            ("us-isob-east-1", "ssmmessages.us-isob-east-1.sc2s.sgov.gov"),
            ("eu-isoe-west-1", "ssmmessages.eu-isoe-west-1.cloud.adc-e.uk"),
            ("us-isof-south-1", "ssmmessages-fips.us-isof-south-1.csp.hci.ic.gov"),
            ("cn-north-1", "ssmmessages.cn-north-1.api.amazonwebservices.com.cn"),
        ] {
            let service = message_service(&region.parse().unwrap(), false, &SessionSettings::default());
            let url = format!("wss://{host}/v1/data-channel/s-1?role=publish_subscribe");
            assert!(ssm_session::websocket::check_url(&url, "s-1", &service).is_ok(), "{host}");
            let loopback = "ws://127.0.0.1:1/v1/data-channel/s-1";
            assert!(ssm_session::websocket::check_url(loopback, "s-1", &service).is_err());
        }
    }
}
