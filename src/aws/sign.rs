//! SigV4 signatures that are not part of an SDK call. Pure: no call, no clock.
//!
//! AWS, "Signature Version 4 signing process". The signer's own log lines would show the URL it signs, so it runs
//! without a subscriber.

use std::{sync::Arc, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign},
    sign::v4,
};
use http::{HeaderName, HeaderValue, Uri};
use ssm_session::control::RawPlus;
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
/// None if the URL is already presigned. Every request needs a new signature, because the signature contains the time.
///
/// # Errors
/// [`Error::Signing`] when `url` has no host, or the session token is not a valid header value.
pub fn websocket_headers(
    url: &Uri,
    region: &Region,
    credentials: &Credentials,
    now: SystemTime,
    plus: RawPlus,
) -> Result<Vec<(HeaderName, HeaderValue)>, Error> {
    const WHAT: &str = "websocket request";
    let query = url.query().unwrap_or_default();
    let names = query.split('&').filter_map(|pair| pair.split('=').next());
    if names.into_iter().any(|name| PRESIGNED.iter().any(|presigned| presigned.eq_ignore_ascii_case(name))) {
        return Ok(Vec::new());
    }
    let authority = url.authority().ok_or_else(|| failed(WHAT, "the URL has no host"))?.as_str();
    // The base64 of cell-number contains plus signs, which the signer takes for spaces.
    let query = match plus {
        RawPlus::Space => query.to_owned(),
        RawPlus::Plus => query.replace('+', "%2B"),
    };
    let signed_url = format!("https://{authority}{}?{query}", url.path());
    let host = [("host", authority)];
    let request =
        Request { what: WHAT, method: "GET", url: signed_url, headers: &host, body: b"", service: "ssmmessages" };
    let signature = request.sign(region, credentials, now, SigningSettings::default())?;
    let header = |(name, value): (&str, &str)| {
        let name = HeaderName::try_from(name).map_err(|cause| failed(WHAT, cause))?;
        let mut value = HeaderValue::try_from(value).map_err(|cause| failed(WHAT, cause))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    signature.headers().map(header).collect()
}

/// The parts of a request that a signature covers.
pub(super) struct Request<'a> {
    /// The noun for the request in an error.
    pub(super) what: &'static str,
    pub(super) method: &'static str,
    /// Percent-encoded.
    pub(super) url: String,
    /// The headers exactly as they will be sent, `host` among them.
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
    /// The service's signing name.
    pub(super) service: &'static str,
}

impl Request<'_> {
    /// The headers or query parameters to add, according to `settings`.
    pub(super) fn sign(
        self,
        region: &Region,
        credentials: &Credentials,
        now: SystemTime,
        settings: SigningSettings,
    ) -> Result<SigningInstructions, Error> {
        let Self { what, method, url, headers, body, service } = self;
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
        let signed = with_default(NoSubscriber::default(), || {
            let request = SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body))?;
            sign(request, &params)
        });
        Ok(signed.map_err(|cause| failed(what, cause))?.into_parts().0)
    }
}

pub(super) fn failed(what: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Signing { what, cause: Arc::from(cause.into()) }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use aws_smithy_types::{DateTime, date_time::Format};

    use super::*;
    use crate::aws::reference::{self, KEY, SECRET};

    const SESSION_TOKEN: &str = "session/token+with=signs==";
    const AT: &str = "20261123T120000Z";
    const SCOPE: &str = "20261123/eu-central-1/ssmmessages/aws4_request";

    fn headers(url: &str, session_token: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
        headers_with(url, session_token, RawPlus::Space)
    }

    fn headers_with(url: &str, session_token: Option<&str>, plus: RawPlus) -> Vec<(HeaderName, HeaderValue)> {
        let credentials = Credentials::new(KEY, SECRET, session_token.map(str::to_owned), None, "test");
        let now = DateTime::from_str("2026-11-23T12:00:00Z", Format::DateTime).unwrap().try_into().unwrap();
        websocket_headers(&url.parse().unwrap(), &"eu-central-1".parse().unwrap(), &credentials, now, plus).unwrap()
    }

    fn value<'h>(headers: &'h [(HeaderName, HeaderValue)], name: &str) -> Option<&'h str> {
        headers.iter().find(|(own, _)| own.as_str() == name).map(|(_, value)| value.to_str().unwrap())
    }

    #[test]
    fn the_upgrade_is_signed_as_the_reference_client_does_or_with_a_plus_for_a_plus() {
        let host = "ssmmessages.eu-central-1.amazonaws.com";
        // base64 in the query, as the service sends it: `+`, `/` and `=` raw
        let cell = "AAEAAbc+d/e+/9==";
        for session in ["botocore-session-1700-0123abcd", "user.name@example.com-0123abcd"] {
            let url = format!("wss://{host}/v1/data-channel/{session}?role=publish_subscribe&cell-number={cell}");
            let path = format!("/v1/data-channel/{}", reference::encode(session));
            for plus in [RawPlus::Space, RawPlus::Plus] {
                let read = if plus == RawPlus::Space { cell.replace('+', " ") } else { cell.to_owned() };
                let query = [("role", "publish_subscribe"), ("cell-number", read.as_str())];
                let mut signed = vec![("host", host), ("x-amz-date", AT)];
                for session_token in [None, Some(SESSION_TOKEN)] {
                    signed.extend(session_token.map(|token| ("x-amz-security-token", token)));
                    let names: Vec<_> = signed.iter().map(|(name, _)| *name).collect();
                    let signature = reference::signature(&path, &query, &signed, AT, SCOPE);
                    let expected = format!(
                        "AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE}, SignedHeaders={}, Signature={signature}",
                        names.join(";")
                    );
                    let headers = headers_with(&url, session_token, plus);
                    assert_eq!(value(&headers, "authorization"), Some(expected.as_str()), "{url}");
                    assert_eq!(value(&headers, "x-amz-date"), Some(AT));
                    assert_eq!(value(&headers, "x-amz-security-token"), session_token);
                    assert_eq!(headers.len(), 2 + usize::from(session_token.is_some()));
                    assert!(headers.iter().all(|(_, value)| value.is_sensitive()), "no value shows in Debug");
                }
            }
        }
    }

    /// Made by aws-sdk-go 1.54.10's `signer/v4`, which the reference programs carry, with the same keys and time.
    #[test]
    fn signatures_are_those_of_the_reference_programs() {
        for (session, query, signature) in [
            (
                "s-1",
                "role=publish_subscribe&cell-number=AAEAAbc+d/e+/9==",
                "1ea88bfaaaf930566f9528a6ab7781c700b63b3614746d4f632c7c89b3d0b255",
            ),
            (
                "user.name@example.com-0123abcd",
                "role=publish_subscribe&cell-number=AAEAAbc+d/e+/9==",
                "672cd0f7866c86b6c2842232d2d5ba9a2095c03dffedec7bfb288e7dfab6653c",
            ),
            // An encoded plus sign beside a raw one, a name without a value, a name twice.
            (
                "s-1",
                "role=publish_subscribe&cell-number=A%2B+b%2f/=&flag&role=a",
                "c3ad4eb2f1c20f81d84ddea0cbb5f8a2c32fe1de0225ad0d31b6bd1ae1c035b5",
            ),
        ] {
            let url = format!("wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/{session}?{query}");
            let headers = headers(&url, Some(SESSION_TOKEN));
            let expected = format!(
                "AWS4-HMAC-SHA256 Credential={KEY}/{SCOPE}, SignedHeaders=host;x-amz-date;x-amz-security-token, \
                 Signature={signature}"
            );
            assert_eq!(value(&headers, "authorization"), Some(expected.as_str()), "{url}");
        }
    }

    #[test]
    fn the_host_is_signed_with_the_port_that_it_is_sent_with() {
        let headers = headers("ws://127.0.0.1:8080/v1/data-channel/s-1?a=b", None);
        let signed = [("host", "127.0.0.1:8080"), ("x-amz-date", AT)];
        let signature = reference::signature("/v1/data-channel/s-1", &[("a", "b")], &signed, AT, SCOPE);
        assert!(value(&headers, "authorization").unwrap().ends_with(&format!("Signature={signature}")));
    }

    #[test]
    fn a_presigned_url_is_left_alone() {
        for name in PRESIGNED {
            for name in [name.to_owned(), name.to_lowercase()] {
                let url = format!("wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/s-1?a=b&{name}=x&c=d");
                assert!(headers(&url, None).is_empty(), "{name}");
            }
        }
        assert!(
            !headers("wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/s-1?b=X-Amz-Date", None).is_empty()
        );
    }

    #[test]
    fn a_url_without_a_host_is_an_error_that_does_not_show_it() {
        let credentials = Credentials::new(KEY, SECRET, None, None, "test");
        let url = "/v1/data-channel/s-1".parse().unwrap();
        let region = "eu-central-1".parse().unwrap();
        let error = websocket_headers(&url, &region, &credentials, UNIX_EPOCH, RawPlus::Space).unwrap_err();
        assert!(matches!(error, Error::Signing { .. }));
        assert!(!format!("{error:?}").contains("data-channel"));
    }
}
