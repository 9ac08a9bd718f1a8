//! The login token of RDS and Aurora DSQL: a presigned request that serves as a password for fifteen minutes.
//!
//! ```text
//!   host:port/?Action=connect&DBUser=<user>&X-Amz-Algorithm=…&X-Amz-Credential=…&X-Amz-Signature=…
//!   host/?Action=DbConnect&X-Amz-Algorithm=…       Aurora DSQL: neither port nor user
//! ```
//!
//! It is a presigned `GET https://host:port/?Action=connect&DBUser=<user>` of the service `rds-db`, less the scheme. RDS
//! computes the same signature, so each character must be exactly right: the host in lower case, for RDS always with its port, and
//! everything but unreserved characters percent-encoded. The generator of the SDK does not encode the user, so it is not
//! used.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignatureLocation, SigningSettings};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use safe_display::Secret;

use super::{Error, sign};
use crate::{
    service::TokenRequest,
    target::{Endpoint, Region},
};

/// The lifetime of a token, which is the longest that RDS accepts (AWS, "Connecting to your DB instance using IAM authentication"), and the usual
/// one of Aurora DSQL.
pub const LIFETIME: Duration = Duration::from_mins(15);

/// Everything but RFC 3986's unreserved characters, as SigV4 demands.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A login token, which must not be printed.
#[derive(Clone)]
pub struct Token {
    secret: Secret<String>,
    expires_at: SystemTime,
}

impl Token {
    /// The token, which is sent as the password.
    pub fn secret(&self) -> &Secret<String> {
        &self.secret
    }

    /// Its length in bytes: 340 to 2,500 or so, mostly the session token.
    #[expect(clippy::len_without_is_empty, reason = "no token is empty")]
    pub fn len(&self) -> usize {
        self.secret.expose().len()
    }

    /// The time at which the server stops accepting it, at the latest the expiry of the credentials.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }
}

/// Makes a token for `user` at `endpoint`, valid from `now`. Makes no call and takes some microseconds.
///
/// The caller makes sure that `credentials` have not expired. A token of expired ones is refused by the server.
///
/// # Errors
/// [`Error::Signing`], for a host that cannot be part of a URL.
pub fn sign(
    endpoint: &Endpoint,
    region: &Region,
    user: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Token, Error> {
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    // Explicit, because the signer would leave out port 443 as the default one of https.
    let TokenRequest { signing_name, action, user_parameter, has_port } = endpoint.service().token(user);
    let authority = if has_port { endpoint.to_string() } else { endpoint.host.to_string() };
    let user = user_parameter.map(|name| format!("&{name}={}", encoded(user))).unwrap_or_default();
    let mut token = format!("{authority}/?Action={action}{user}");

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let request = sign::Request {
        what: "login token",
        method: "GET",
        url: format!("https://{token}"),
        headers: &[("host", &authority)],
        body: b"",
        service: signing_name,
    };
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

#[cfg(test)]
mod tests {
    use aws_config::SdkConfig;
    use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
    use aws_smithy_types::{DateTime, date_time::Format};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::aws::reference::{self, KEY, SECRET};

    const NOW: &str = "2026-11-23T12:00:00Z";
    const HOST: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";

    fn now() -> SystemTime {
        DateTime::from_str(NOW, Format::DateTime).unwrap().try_into().unwrap()
    }

    fn credentials(session_token: Option<&str>) -> Credentials {
        Credentials::new(KEY, SECRET, session_token.map(str::to_owned), None, "test")
    }

    fn make(host: &str, port: u16, region: &str, user: &str, session_token: Option<&str>) -> String {
        let endpoint = Endpoint { host: host.parse().unwrap(), port };
        let token = sign(&endpoint, &region.parse().unwrap(), user, &credentials(session_token), now()).unwrap();
        assert_eq!((token.len(), token.expires_at()), (token.secret().expose().len(), now() + LIFETIME));
        token.secret().expose().clone()
    }

    /// The same token from the reference signer.
    fn expected(authority: &str, region: &str, user: &str, session_token: Option<&str>) -> String {
        let scope = format!("20261123/{region}/rds-db/aws4_request");
        let credential = format!("{KEY}/{scope}");
        let mut query = vec![
            ("Action", "connect"),
            ("DBUser", user),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", "20261123T120000Z"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
        ];
        query.extend(session_token.map(|token| ("X-Amz-Security-Token", token)));
        let signature = reference::signature("/", &query, &[("host", authority)], "20261123T120000Z", &scope);
        query.push(("X-Amz-Signature", &signature));
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", reference::encode(value))).collect();
        format!("{authority}/?{}", pairs.join("&"))
    }

    /// A token without its order.
    fn parts(token: &str) -> (&str, Vec<&str>) {
        let (authority, query) = token.split_once("/?").unwrap();
        let mut pairs: Vec<_> = query.split('&').collect();
        pairs.sort_unstable();
        (authority, pairs)
    }

    #[test]
    fn tokens_are_those_of_botocore() {
        let [rds, dsql] =
            [include_str!("../../tests/vectors/rds-tokens.json"), include_str!("../../tests/vectors/dsql-tokens.json")]
                .map(|text| serde_json::from_str::<Value>(text).unwrap());
        for vectors in [&rds, &dsql] {
            assert_eq!((vectors["now"].as_str(), vectors["access_key_id"].as_str()), (Some(NOW), Some(KEY)));
        }
        let [rds, dsql] = [&rds, &dsql].map(|vectors| vectors["tokens"].as_array().unwrap());
        assert!(rds.len() > 20 && dsql.len() >= 6);
        for vector in rds.iter().chain(dsql) {
            let text = |name: &str| vector[name].as_str().unwrap();
            let port = u16::try_from(vector["port"].as_u64().unwrap()).unwrap();
            let ours = make(text("host"), port, text("region"), text("user"), vector["session_token"].as_str());
            assert_eq!(parts(&ours), parts(text("token")), "{}", text("user"));
        }
    }

    #[test]
    fn port_443_and_a_host_in_capitals_are_signed_as_they_are_shown() {
        let token = make(&HOST.to_uppercase(), 443, "eu-central-1", "app_user", None);
        let expected = expected(&format!("{HOST}:443"), "eu-central-1", "app_user", None);
        assert_eq!(parts(&token), parts(&expected));
    }

    #[test]
    fn a_token_ends_with_the_credentials_that_signed_it() {
        let soon = now() + Duration::from_mins(4);
        let credentials = Credentials::new(KEY, SECRET, None, Some(soon), "test");
        let endpoint = Endpoint { host: HOST.parse().unwrap(), port: 5432 };
        let token = sign(&endpoint, &"eu-central-1".parse().unwrap(), "u", &credentials, now()).unwrap();
        assert_eq!(token.expires_at(), soon);
    }

    #[tokio::test]
    async fn plain_names_get_the_token_that_the_sdks_generator_makes() {
        for session_token in [None, Some("short/with+plus=and=equals==")] {
            let config = Config::builder()
                .hostname(HOST)
                .port(5432)
                .username("app_user")
                .region(aws_config::Region::new("eu-central-1"))
                .credentials(aws_credential_types::provider::SharedCredentialsProvider::new(credentials(session_token)))
                .build()
                .unwrap();
            let sdk = SdkConfig::builder().time_source(aws_smithy_async::time::StaticTimeSource::new(now())).build();
            let theirs = AuthTokenGenerator::new(config).auth_token(&sdk).await.unwrap();
            assert_eq!(parts(&make(HOST, 5432, "eu-central-1", "app_user", session_token)), parts(theirs.as_str()));
        }
    }

    proptest! {
        #[test]
        fn any_user_and_session_token_are_signed_as_the_reference_does(
            user in "\\PC{0,64}|[ +&#%/=~é\\\\]{1,16}",
            session_token in proptest::option::of("[A-Za-z0-9+/=]{1,2000}"),
            port in 1_u16..,
        ) {
            let ours = make(HOST, port, "eu-central-1", &user, session_token.as_deref());
            let expected = expected(&format!("{HOST}:{port}"), "eu-central-1", &user, session_token.as_deref());
            prop_assert_eq!(parts(&ours), parts(&expected));
        }
    }
}
