//! Signature version 4 as the receiving end computes it, for signed headers and for database tokens.
//!
//! Written from AWS's description ("Create a signed AWS API request"), apart from the crate that signs for the product,
//! so that one catches the other's mistakes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac,
};
use http::HeaderMap;

use super::identity::Identity;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The largest difference between the clocks (AWS, "Troubleshoot Signature Version 4": five minutes).
const SKEW: Duration = Duration::from_mins(5);
/// The longest life of a database token (AWS, "IAM database authentication": 15 minutes).
const TOKEN_LIFE: u64 = 900;

/// The parts of an HTTP request that a signature covers.
pub(super) struct SignedRequest<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// The query as sent, not decoded.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// The reason why a signature is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request has no signature.
    #[error("Missing Authentication Token")]
    Unsigned,
    /// The Authorization header lacks something.
    #[error("Authorization header requires '{0}'")]
    Incomplete(&'static str),
    /// A header that must be signed is not.
    #[error("'{0}' must be a 'SignedHeader' in the AWS Authorization")]
    NotSigned(String),
    /// The credential scope names something else.
    #[error("Credential should be scoped to {expected}, not {given}")]
    Scope {
        /// The expected value of the scope.
        expected: String,
        /// The value in the scope.
        given: String,
    },
    /// The date lies too far in the past or future.
    #[error("Signature expired: {0} is too far from the server's clock")]
    Skew(String),
    /// No such access key, or the wrong session token.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// The signature is another.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

/// Checks the signature in the headers of a request to `service` in `region`.
///
/// # Errors
/// [`Refusal`], the first thing that is wrong.
pub(super) fn verify_headers(
    request: &SignedRequest<'_>,
    scope: (&str, &str),
    now: SystemTime,
    find: impl Fn(&str) -> Option<Identity>,
) -> Result<Identity, Refusal> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = header("authorization").ok_or(Refusal::Unsigned)?;
    let fields = authorization.strip_prefix(ALGORITHM).ok_or(Refusal::Incomplete(ALGORITHM))?;
    let field = |name: &'static str| {
        fields
            .split(',')
            .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
            .ok_or(Refusal::Incomplete(name))
    };
    let credential = Credential::parse(field("Credential")?)?;
    let signed_names: Vec<&str> = field("SignedHeaders")?.split(';').collect();
    let date = header("x-amz-date").ok_or(Refusal::Incomplete("X-Amz-Date"))?;
    let token = header("x-amz-security-token");

    credential.check(scope, date)?;
    let at = parse_date(date).ok_or(Refusal::Incomplete("X-Amz-Date"))?;
    let off = now.duration_since(at).unwrap_or_else(|future| future.duration());
    if off > SKEW {
        return Err(Refusal::Skew(date.into()));
    }
    // AWS wants at least these: otherwise they could be changed on the way.
    for name in ["host", "x-amz-date", "x-amz-security-token"] {
        if request.headers.contains_key(name) && !signed_names.contains(&name) {
            return Err(Refusal::NotSigned(name.into()));
        }
    }
    let identity = find(credential.access_key).ok_or(Refusal::UnknownKey)?;
    if !identity.session_token.accepts(token) {
        return Err(Refusal::UnknownKey);
    }

    let body_hash = hex(digest(&SHA256, request.body).as_ref());
    if header("x-amz-content-sha256").is_some_and(|sent| sent != body_hash) {
        return Err(Refusal::Mismatch);
    }
    let mut headers = String::new();
    for name in &signed_names {
        let values: Vec<String> = request
            .headers
            .get_all(*name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        headers.extend([name, ":", &values.join(","), "\n"]);
    }
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{body_hash}",
        request.method,
        encode(request.path.as_bytes(), true),
        canonical_query(request.query, None).ok_or(Refusal::Mismatch)?,
        signed_names.join(";"),
    );
    credential.verify(&identity, date, &canonical, field("Signature")?)?;
    Ok(identity)
}

/// The database that a token has to be made for.
#[derive(Debug, Clone)]
pub struct DatabaseServer {
    /// The endpoint's host name, in lower case.
    pub host: String,
    /// The endpoint's port.
    pub port: u16,
    /// Its region.
    pub region: String,
}

/// The reason why a database refuses a token. The database itself reports only a failed authentication.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The token does not have the form `host:port/?query`.
    #[error("not a presigned request: {0}")]
    Shape(&'static str),
    /// Made for another endpoint.
    #[error("made for {0}")]
    Endpoint(String),
    /// Made for another database user.
    #[error("DBUser is {0}, another than the one who logs in")]
    User(String),
    /// Older than it may be, or from the future.
    #[error("its time has passed or not come")]
    Age,
    /// Signature, key or scope are wrong.
    #[error(transparent)]
    Signature(#[from] Refusal),
    /// The key's policy does not allow this user.
    #[error("no rds-db:connect for {0}")]
    Denied(String),
}

/// Checks a token as RDS does: for exactly this server and user, young enough, signed by a key that may. A server with a name of
/// Aurora DSQL takes that service's tokens, which have neither port nor user.
///
/// # Errors
/// [`TokenRefusal`], the first thing that is wrong.
pub(super) fn verify_token(
    token: &str,
    user: &str,
    server: &DatabaseServer,
    now: SystemTime,
    find: impl Fn(&str) -> Option<Identity>,
) -> Result<Identity, TokenRefusal> {
    let (authority, query) = token.split_once("/?").ok_or(TokenRefusal::Shape("no query"))?;
    let is_dsql = server.host.split('.').nth(1).is_some_and(|label| label == "dsql" || label.starts_with("dsql-"));
    let (service, action, expected) = if is_dsql {
        ("dsql", if user == "admin" { "DbConnectAdmin" } else { "DbConnect" }, server.host.clone())
    } else {
        ("rds-db", "connect", format!("{}:{}", server.host, server.port))
    };
    if authority != expected {
        return Err(TokenRefusal::Endpoint(authority.into()));
    }
    let parameters: Vec<(String, String)> = query
        .split('&')
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            // RDS reads what was signed: a value that is not in its canonical form was signed as something else.
            let canonical = |text: &str| decode(text).filter(|decoded| encode(decoded, false) == text);
            let utf8 = |bytes| String::from_utf8(bytes).ok();
            Some((utf8(canonical(name)?)?, utf8(canonical(value)?)?))
        })
        .collect::<Option<_>>()
        .ok_or(TokenRefusal::Shape("query not strictly encoded"))?;
    let parameter = |name: &'static str| {
        let mut values = parameters.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(TokenRefusal::Shape(name)),
        }
    };
    for (name, value) in [("Action", action), ("X-Amz-Algorithm", ALGORITHM), ("X-Amz-SignedHeaders", "host")] {
        if parameter(name)? != value {
            return Err(TokenRefusal::Shape(name));
        }
    }
    if !is_dsql && parameter("DBUser")? != user {
        return Err(TokenRefusal::User(parameter("DBUser")?.into()));
    }
    let credential = Credential::parse(parameter("X-Amz-Credential")?)?;
    let date = parameter("X-Amz-Date")?;
    credential.check((&server.region, service), date)?;
    let at = parse_date(date).ok_or(TokenRefusal::Shape("X-Amz-Date"))?;
    let life: u64 = parameter("X-Amz-Expires")?.parse().map_err(|_| TokenRefusal::Shape("X-Amz-Expires"))?;
    if !(1..=TOKEN_LIFE).contains(&life) || at > now + SKEW || now > at + Duration::from_secs(life) {
        return Err(TokenRefusal::Age);
    }
    let identity = find(credential.access_key).ok_or(Refusal::UnknownKey)?;
    let session_token = parameters.iter().find(|(name, _)| name == "X-Amz-Security-Token").map(|(_, v)| v.as_str());
    if !identity.session_token.accepts(session_token) {
        return Err(Refusal::UnknownKey.into());
    }
    let canonical = format!(
        "GET\n/\n{}\nhost:{authority}\n\nhost\n{}",
        canonical_query(query, Some("X-Amz-Signature")).ok_or(TokenRefusal::Shape("query"))?,
        hex(digest(&SHA256, b"").as_ref()),
    );
    credential.verify(&identity, date, &canonical, parameter("X-Amz-Signature")?)?;
    if identity.database_users.as_ref().is_some_and(|users| users.iter().all(|allowed| allowed != user)) {
        return Err(TokenRefusal::Denied(user.into()));
    }
    Ok(identity)
}

/// `KEY/20260102/region/service/aws4_request`.
struct Credential<'a> {
    access_key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Credential<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [access_key, day, region, service, "aws4_request"] => Ok(Self { access_key, day, region, service }),
            _ => Err(Refusal::Incomplete("Credential")),
        }
    }

    fn check(&self, (region, service): (&str, &str), date: &str) -> Result<(), Refusal> {
        if (self.region, self.service) != (region, service) || !date.starts_with(self.day) {
            let day = date.get(..8).unwrap_or(date);
            return Err(Refusal::Scope {
                expected: format!("{day}/{region}/{service}"),
                given: format!("{}/{}/{}", self.day, self.region, self.service),
            });
        }
        Ok(())
    }

    fn verify(&self, identity: &Identity, date: &str, canonical: &str, signature: &str) -> Result<(), Refusal> {
        let Self { day, region, service, .. } = self;
        let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let to_sign = format!("{ALGORITHM}\n{date}\n{day}/{region}/{service}/aws4_request\n{hash}");
        let start = format!("AWS4{}", identity.secret.expose()).into_bytes();
        let key = [day, region, service, &"aws4_request"].iter().fold(start, |key, part| mac(&key, part.as_bytes()));
        let expected = hex(&mac(&key, to_sign.as_bytes()));
        verify_slices_are_equal(expected.as_bytes(), signature.as_bytes()).map_err(|_| Refusal::Mismatch)
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

/// Names and values decoded, encoded strictly and sorted. `+` is a plus sign, never a space.
fn canonical_query(query: &str, without: Option<&str>) -> Option<String> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((encode(&decode(name)?, false), encode(&decode(value)?, false)));
    }
    pairs.retain(|(name, _)| Some(name.as_str()) != without);
    pairs.sort();
    Some(pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&"))
}

/// RFC 3986: all but the unreserved characters become `%XX`.
fn encode(bytes: &[u8], keep_slash: bool) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len()), |mut out, &b| {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || (keep_slash && b == b'/') {
            out.push(char::from(b));
        } else {
            out.extend(format!("%{b:02X}").chars());
        }
        out
    })
}

/// `None` when a `%` is not followed by two hexadecimal digits.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
        } else {
            out.push(b);
        }
    }
    Some(out)
}

/// A name or value of a form body, where `+` is a space.
pub(super) fn form_decode(text: &str) -> Option<String> {
    String::from_utf8(decode(&text.replace('+', " "))?).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads `20260102T030405Z`.
fn parse_date(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    if text.len() != 16 || text.get(8..9) != Some("T") || text.get(15..) != Some("Z") {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 in a year that starts in March, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(
        UNIX_EPOCH
            + Duration::from_secs(days * 86_400 + number(9..11)? * 3600 + number(11..13)? * 60 + number(13..15)?),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "20150830T123600Z";

    /// The credentials of AWS's published signature version 4 test suite.
    fn suite(key: &str) -> Option<Identity> {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        (key == "AKIDEXAMPLE").then(|| Identity::new(key, secret, super::super::SessionToken::None, "suite"))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    fn get_vanilla_query(signature: &str) -> HeaderMap {
        headers(&[
            ("host", "example.amazonaws.com"),
            ("x-amz-date", AT),
            (
                "authorization",
                &format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
                ),
            ),
        ])
    }

    fn verify(query: &str, headers: &HeaderMap, now: SystemTime) -> Result<Identity, Refusal> {
        let request = SignedRequest { method: "GET", path: "/", query, headers, body: b"" };
        verify_headers(&request, ("us-east-1", "service"), now, suite)
    }

    #[test]
    fn the_published_test_suite_verifies_and_changes_to_it_do_not() {
        // aws-sig-v4-test-suite, get-vanilla and get-vanilla-query-order-key-case.
        let now = parse_date(AT).unwrap();
        let vanilla = get_vanilla_query("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        assert!(verify("", &vanilla, now).is_ok());
        let query = get_vanilla_query("b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
        assert!(verify("Param2=value2&Param1=value1", &query, now).is_ok());
        assert!(verify("Param1=value1&Param2=value2", &query, now).is_ok());
        let refusal = |query, headers, now| verify(query, headers, now).err().unwrap();
        assert_eq!(refusal("Param1=value1", &query, now), Refusal::Mismatch);
        assert!(matches!(refusal("", &vanilla, now + SKEW + Duration::from_secs(1)), Refusal::Skew(_)));
        assert!(matches!(refusal("", &vanilla, now - SKEW - Duration::from_secs(1)), Refusal::Skew(_)));
        let mut with_token = vanilla.clone();
        with_token.insert("x-amz-security-token", "unsigned".parse().unwrap());
        assert!(matches!(refusal("", &with_token, now), Refusal::NotSigned(_)));
        assert_eq!(refusal("", &HeaderMap::new(), now), Refusal::Unsigned);
    }

    #[test]
    fn dates_are_read_and_nothing_else() {
        let at = |text| parse_date(text).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(at("19700101T000000Z"), Some(0));
        assert_eq!(at("20150830T123600Z"), Some(1_440_938_160));
        assert_eq!(at("20240229T235959Z"), Some(1_709_251_199));
        for garbage in
            ["", "20150830", "20150830T123600", "20151330T123600Z", "2015083\u{e9}T123600Z", "-0150830T123600Z"]
        {
            assert_eq!(at(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn percent_encoding_round_trips_and_keeps_plus_apart_from_space() {
        assert_eq!(canonical_query("b=%2f+&a=x%20y", None).unwrap(), "a=x%20y&b=%2F%2B");
        assert_eq!(canonical_query("a=%zz", None), None);
        assert_eq!(canonical_query("a=%2", None), None);
    }
}
