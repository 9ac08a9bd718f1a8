//! SigV4 signatures that are not part of an SDK call. Pure: no call, no clock.
//!
//! AWS, "Signature Version 4 signing process". The signer's own log lines would show the URL it signs, so it runs
//! without a subscriber.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign},
    sign::v4,
};
use http::{HeaderName, HeaderValue, Uri};
use tracing::subscriber::{NoSubscriber, with_default};

use super::Error;
use crate::target::Region;

/// Query parameters that make a URL a presigned one.
const PRESIGNED: [&str; 7] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
];

/// The headers that sign the upgrade request of a data channel: `x-amz-date`, `authorization`, `x-amz-security-token`.
/// None when the URL is presigned already. Sign afresh for every request: the signature holds the time.
///
/// # Errors
/// [`Error::Signing`] when `url` has no host, or the session token cannot stand in a header.
pub fn websocket_headers(
    url: &Uri,
    region: &Region,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    const WHAT: &str = "websocket request";
    let query = url.query().unwrap_or_default();
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    if names.into_iter().any(|name| PRESIGNED.iter().any(|presigned| presigned.eq_ignore_ascii_case(name))) {
        return Ok(Vec::new());
    }
    let authority = url.authority().ok_or_else(|| failed(WHAT, "the URL has no host"))?.as_str();
    // A raw `+` in the query is a plus sign (the base64 of cell-number has some), which the signer takes for a space.
    let signed_url = format!("https://{authority}{}?{}", url.path(), query.replace('+', "%2B"));
    let request = Request { what: WHAT, url: signed_url, host: authority, service: "ssmmessages" };
    let signature = request.sign(region, credentials, now, SigningSettings::default())?;
    let header = |(name, value): (&str, &str)| {
        let name = HeaderName::try_from(name).map_err(|cause| failed(WHAT, cause))?;
        let mut value = HeaderValue::try_from(value).map_err(|cause| failed(WHAT, cause))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    signature.headers().map(header).collect()
}

/// A GET without a body.
pub(super) struct Request<'a> {
    /// For the error.
    pub(super) what: &'static str,
    /// Percent-encoded.
    pub(super) url: String,
    /// The `host` header exactly as it will be sent.
    pub(super) host: &'a str,
    /// The service's signing name.
    pub(super) service: &'static str,
}

impl Request<'_> {
    /// The headers or query parameters to add, as `settings` say.
    pub(super) fn sign(
        self,
        region: &Region,
        credentials: &Credentials,
        now: SystemTime,
        settings: SigningSettings,
    ) -> Result<SigningInstructions, Error> {
        let Self { what, url, host, service } = self;
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_str())
            .name(service)
            .time(now)
            .settings(settings)
            .build()
            .map_err(|cause| failed(what, cause))?
            .into();
        let headers = [("host", host)].into_iter();
        let signed = with_default(NoSubscriber::default(), || {
            let request = SignableRequest::new("GET", url, headers, SignableBody::empty())?;
            sign(request, &params)
        });
        Ok(signed.map_err(|cause| failed(what, cause))?.into_parts().0)
    }
}

fn failed(what: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Signing { what, cause: cause.into() }
}
