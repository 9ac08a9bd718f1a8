//! The login token of RDS: a presigned request that serves as a password for fifteen minutes.
//!
//! ```text
//!   host:port/?Action=connect&DBUser=<user>&X-Amz-Algorithm=…&X-Amz-Credential=…&X-Amz-Signature=…
//! ```
//!
//! It is a presigned `GET https://host:port/?Action=connect&DBUser=<user>` of the service `rds-db`, less the scheme. RDS
//! does the same sum, so each character must be exactly right: the host in lower case, always with its port, and
//! everything but unreserved characters percent-encoded. That is why the SDK's own generator is not used: it pastes the
//! user in as it is.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignatureLocation, SigningSettings};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Error, sign};
use crate::{
    secret::Secret,
    target::{Endpoint, Region},
};

/// Fifteen minutes: RDS accepts no longer ones. AWS, "Connecting to your DB instance using IAM authentication".
pub const LIFETIME: Duration = Duration::from_mins(15);

/// Everything but RFC 3986's unreserved characters, as SigV4 demands.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A login token.
#[derive(Clone)]
pub struct Token {
    secret: Secret<String>,
    expires_at: SystemTime,
}

impl Token {
    /// The token itself: the password.
    pub fn secret(&self) -> &Secret<String> {
        &self.secret
    }

    /// Its length in bytes: 340 to 2,500 or so, mostly the session token.
    #[expect(clippy::len_without_is_empty, reason = "no token is empty")]
    pub fn len(&self) -> usize {
        self.secret.expose().len()
    }

    /// When the server stops to accept it; never later than the credentials' own end.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// Makes a token for `user` at `endpoint`, valid from `now`. Makes no call and takes some microseconds.
///
/// The caller sees to it that `credentials` are alive: dead ones give a token too, one that the server refuses.
///
/// # Errors
/// [`Error::Signing`], for a host that no URL can hold.
pub fn sign(
    endpoint: &Endpoint,
    region: &Region,
    user: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Token, Error> {
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    // Stated, because the signer would leave out port 443 as the default one of https.
    let authority = endpoint.to_string();
    let mut token = format!("{authority}/?Action=connect&DBUser={}", encoded(user));

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let request =
        sign::Request { what: "login token", url: format!("https://{token}"), host: &authority, service: "rds-db" };
    for (name, value) in request.sign(region, credentials, now, settings)?.params() {
        token.push('&');
        token.push_str(name);
        token.push('=');
        token.push_str(&encoded(value));
    }
    let end = now + LIFETIME;
    let expires_at = credentials.expiry().map_or(end, |expiry| expiry.min(end));
    Ok(Token { secret: Secret::new(token), expires_at })
}
