//! Calls to AWS services without their SDKs: signed, sent through the same kind of HTTP client, and retried and bounded like calls
//! of the SDK.
//!
//! EC2 and IAM speak the Query protocol (a form in, XML out), ECS, CloudWatch Logs and Secrets Manager speak AWS JSON 1.1, Aurora DSQL
//! speaks REST with JSON. An SDK for one or two calls of each service would cost more than the rest of the program.

use std::{sync::Arc, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::SigningSettings;
use aws_smithy_runtime_api::client::{
    http::HttpConnector as _,
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
};
use aws_smithy_types::{DateTime, body::SdkBody, byte_stream::ByteStream, date_time::Format};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ssm_session::backoff::Backoff;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::{
    Account, Error, Retry,
    api::Api,
    http,
    limits::{ATTEMPT_TIMEOUT, ATTEMPTS, CALL_TIMEOUT, CONNECT_TIMEOUT},
    meaning::{described, find},
    sign,
    xml::{Element, NotXml},
};
use crate::{outbound, target::Region};

/// All characters but the unreserved ones of RFC 3986.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The media type of the Query protocol.
const FORM_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The most that is allocated for a reply before its bytes have come: enough for the longest secret, 64 KiB, escaped.
const MAX_PREALLOCATED: usize = 256 << 10;

/// One request, before it is signed.
struct Prepared {
    operation: &'static str,
    api: Api,
    region: Region,
    url: String,
    host: String,
    form: Form,
    body: String,
    /// The reply is a secret: no buffer of the HTTP client keeps it.
    wiped: bool,
}

/// The protocol of a request.
enum Form {
    /// A form is posted, and XML comes back.
    Query,
    /// JSON is posted to this target.
    Json(String),
    /// A path is read.
    Rest,
}

impl Account {
    /// A call of the Query protocol. `parameters` is the form without `Action` and `Version`.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn query(
        &self,
        api: Api,
        operation: &'static str,
        parameters: &[(String, String)],
    ) -> Result<Element, Error> {
        let mut body = format!("Action={operation}&Version={}", api.version());
        for (name, value) in parameters {
            body.extend(["&", name, "="]);
            body.extend(utf8_percent_encode(value, FORM));
        }
        let request = self.prepare(api, operation, self.region(), Form::Query, body)?;
        let answer = self.send(&request).await?;
        Element::parse(&answer).map_err(|NotXml| malformed(operation))
    }

    /// A call of AWS JSON 1.1.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn json(&self, api: Api, operation: &'static str, input: &Value) -> Result<Value, Error> {
        let answer = self.json_text(api, operation, input, self.region()).await?;
        serde_json::from_str(&answer).map_err(|_| malformed(operation))
    }

    /// As [`json`](Self::json), in another region, and with the reply as text in memory that is zeroed when dropped.
    pub(super) async fn json_text(
        &self,
        api: Api,
        operation: &'static str,
        input: &Value,
        region: &Region,
    ) -> Result<Zeroizing<String>, Error> {
        let target = format!("{}.{operation}", api.version());
        let request = self.prepare(api, operation, region, Form::Json(target), input.to_string())?;
        self.send(&Prepared { wiped: api == Api::SecretsManager, ..request }).await
    }

    /// A read call of REST with JSON. `path` is without its first slash and needs no encoding.
    ///
    /// # Errors
    /// The errors of every call.
    pub async fn rest(
        &self,
        api: Api,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, Error> {
        let mut request = self.prepare(api, operation, self.region(), Form::Rest, String::new())?;
        request.url.push_str(path);
        for (index, (name, value)) in query.iter().enumerate() {
            request.url.extend([if index == 0 { "?" } else { "&" }, name, "="]);
            request.url.extend(utf8_percent_encode(value, FORM));
        }
        let answer = self.send(&request).await?;
        serde_json::from_str(&answer).map_err(|_| malformed(operation))
    }

    /// The time at AWS, from the `Date` of a reply: accurate to a second plus the reply's travel time. The call is not signed, so
    /// that AWS replies even with bad credentials or a wrong clock.
    ///
    /// # Errors
    /// If STS cannot be reached, or its reply has no date.
    pub async fn date(&self) -> Result<SystemTime, Error> {
        const OPERATION: &str = "GetCallerIdentity";
        let body = format!("Action={OPERATION}&Version={}", Api::Sts.version());
        let request = self.prepare(Api::Sts, OPERATION, self.region(), Form::Query, body)?;
        let exchange = timeout(ATTEMPT_TIMEOUT, self.exchange(OPERATION, request.unsigned()?)).await;
        let response =
            exchange.map_err(|elapsed| Error::Timeout { operation: OPERATION, cause: Arc::new(elapsed) })??;
        let date = response.headers().get("date").and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        date.and_then(|date| date.try_into().ok()).ok_or(Error::Incomplete { operation: OPERATION, field: "date" })
    }

    fn prepare(
        &self,
        api: Api,
        operation: &'static str,
        region: &Region,
        form: Form,
        body: String,
    ) -> Result<Prepared, Error> {
        let (region, url) = self.0.calls.endpoints.find(api, region);
        let url = format!("{}/", url.trim_end_matches('/'));
        let host = url.parse::<::http::Uri>().ok().and_then(|uri| uri.authority().map(ToString::to_string));
        let host = host.ok_or(Error::Incomplete { operation, field: "host in the endpoint's URL" })?;
        Ok(Prepared { operation, api, region, url, host, form, body, wiped: false })
    }

    /// Sends the request and returns the body of the reply. Retries transient failures, and once with fresh credentials.
    async fn send(&self, request: &Prepared) -> Result<Zeroizing<String>, Error> {
        let operation = request.operation;
        let tries = async {
            let mut backoff = Backoff::default();
            let mut left = ATTEMPTS;
            loop {
                left -= 1;
                match self.call(operation, || self.attempt(request)).await {
                    Err(error) if left > 0 && error.retry() == Retry::Backoff => {
                        sleep(backoff.next_delay(&mut fastrand::Rng::new())).await;
                    }
                    answer => return answer,
                }
            }
        };
        match timeout(CALL_TIMEOUT, tries).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(Error::Timeout { operation, cause: Arc::new(elapsed) }),
        }
    }

    async fn attempt(&self, request: &Prepared) -> Result<Zeroizing<String>, Error> {
        let operation = request.operation;
        let signed = request.sign(&self.credentials().await?, SystemTime::now())?;
        let exchange = async {
            let response = self.exchange(operation, signed).await?;
            let status = response.status().as_u16();
            let code = response.headers().get("x-amzn-errortype").map(str::to_owned);
            Ok((status, code, read(operation, response).await?))
        };
        match timeout(ATTEMPT_TIMEOUT, exchange).await {
            Ok(Ok((200..=299, _, body))) => Ok(body),
            Ok(Ok((status, code, body))) => Err(self.refusal(request, status, code.as_deref(), &body)),
            Ok(Err(error)) => Err(error),
            Err(elapsed) => Err(Error::Timeout { operation, cause: Arc::new(elapsed) }),
        }
    }

    /// Sends the request once and reads the reply, up to a limit. The caller sets the deadline.
    async fn exchange(&self, operation: &'static str, request: HttpRequest) -> Result<HttpResponse, Error> {
        let connector = self.0.connector.get_or_init(|| self.0.calls.client.own_connector(CONNECT_TIMEOUT));
        connector.call(request).await.map_err(|error| unreachable(operation, error))
    }

    /// `named` is the code in the header that only REST has: `Code:https://…`.
    fn refusal(&self, request: &Prepared, status: u16, named: Option<&str>, body: &str) -> Error {
        let (code, message) = match request.form {
            Form::Query => query_error(body),
            Form::Json(_) => json_error(body),
            Form::Rest => {
                let (code, message) = json_error(body);
                (named.and_then(|named| named.split(':').next()).map(str::to_owned).or(code), message)
            }
        };
        let code = code.unwrap_or_else(|| format!("HTTP {status}"));
        self.meaning(request.operation, Some(status), code, message.unwrap_or_else(|| "(no message)".into()))
    }
}

impl Prepared {
    fn sign(&self, credentials: &Credentials, now: SystemTime) -> Result<HttpRequest, Error> {
        let headers = self.headers();
        let signing = sign::Request {
            what: "call",
            method: self.method(),
            url: self.url.clone(),
            headers: &headers,
            body: self.body.as_bytes(),
            service: self.api.name(),
        };
        let signature = signing.sign(&self.region, credentials, now, SigningSettings::default())?;
        let mut request = self.unsigned()?;
        for (name, value) in signature.headers() {
            request.headers_mut().insert(name.to_owned(), value.to_owned());
        }
        Ok(request)
    }

    fn unsigned(&self) -> Result<HttpRequest, Error> {
        let mut request = HttpRequest::new(SdkBody::from(self.body.clone()));
        request.set_method(self.method()).map_err(|cause| sign::failed("call", cause))?;
        request.set_uri(self.url.as_str()).map_err(|cause| sign::failed("call", cause))?;
        for (name, value) in self.headers() {
            request.headers_mut().insert(name, value.to_owned());
        }
        if self.wiped {
            http::ask_to_wipe(&mut request);
        }
        Ok(request)
    }

    fn headers(&self) -> Vec<(&'static str, &str)> {
        let mut headers = vec![("host", self.host.as_str())];
        match &self.form {
            Form::Query => headers.push(("content-type", FORM_TYPE)),
            Form::Json(target) => {
                headers.extend([("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)]);
            }
            Form::Rest => {}
        }
        headers
    }

    fn method(&self) -> &'static str {
        match self.form {
            Form::Query | Form::Json(_) => "POST",
            Form::Rest => "GET",
        }
    }
}

async fn read(operation: &'static str, response: HttpResponse) -> Result<Zeroizing<String>, Error> {
    let body = response.into_body();
    // The whole size, for a growing vector would leave copies of a secret behind.
    let length = body.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut stream = ByteStream::new(body);
    let mut body = Zeroizing::new(Vec::with_capacity(length.min(MAX_PREALLOCATED)));
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| Error::Transport { operation, cause: Arc::new(error) })?;
        body.extend_from_slice(&chunk);
        chunks.push(chunk);
    }
    drop(stream);
    chunks.into_iter().for_each(http::wipe);
    String::from_utf8(std::mem::take(&mut *body)).map(Zeroizing::new).map_err(|_| malformed(operation))
}

fn unreachable(operation: &'static str, error: ConnectorError) -> Error {
    if let Some(proxy) = find::<outbound::Error>(&error) {
        Error::Proxy(proxy.clone())
    } else if error.is_timeout() {
        Error::Timeout { operation, cause: described(error) }
    } else {
        Error::Transport { operation, cause: described(error) }
    }
}

fn malformed(operation: &'static str) -> Error {
    Error::Incomplete { operation, field: "form that can be read" }
}

/// `{"__type": "namespace#Code", "message": …}`; some services write `Message`.
fn json_error(body: &str) -> (Option<String>, Option<String>) {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let code = text("__type").map(|code| code.rsplit('#').next().unwrap_or_default().to_owned());
    (code, text("message").or_else(|| text("Message")))
}

/// `ErrorResponse` with one `Error`, or EC2's `Response` with `Errors`.
fn query_error(body: &str) -> (Option<String>, Option<String>) {
    let Ok(root) = Element::parse(body) else { return (None, None) };
    let error = root.child("Error").or_else(|| root.child("Errors")?.child("Error"));
    let text = |name: &str| error.and_then(|error| error.text(&[name])).map(str::to_owned);
    (text("Code"), text("Message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_all_three_shapes() {
        let said = (Some("Denied".to_owned()), Some("no".to_owned()));
        for body in [
            "<ErrorResponse><Error><Type>Sender</Type><Code>Denied</Code><Message>no</Message></Error></ErrorResponse>",
            "<Response><Errors><Error><Code>Denied</Code><Message>no</Message></Error></Errors></Response>",
        ] {
            assert_eq!(query_error(body), said);
        }
        for body in [r#"{"__type":"com.amazonaws.ecs#Denied","message":"no"}"#, r#"{"__type":"Denied","Message":"no"}"#]
        {
            assert_eq!(json_error(body), said);
        }
        for body in ["", "Service Unavailable", "<html>"] {
            assert_eq!((query_error(body), json_error(body)), ((None, None), (None, None)));
        }
    }
}
