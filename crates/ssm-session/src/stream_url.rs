//! The stream URLs that may be dialled. StartSession and ResumeSession return one; it decides where a signed request goes.

use std::{fmt, net::IpAddr, sync::Arc};

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::request::Destination;

/// The message service of a region, to which the data channels of its sessions lead, and how it may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageService {
    /// The region of the sessions, such as `eu-central-1`.
    pub region: Arc<str>,
    /// The suffix of the names of the region's endpoints. Default `amazonaws.com`, which is wrong only in the partitions of China
    /// and of isolated and sovereign regions.
    pub dns_suffix: Arc<str>,
    /// The suffix of the names of the endpoints that have IPv6 addresses as well. Default `api.aws`.
    pub dual_stack_suffix: Arc<str>,
    /// A private endpoint. URLs may lead to it, and URLs of AWS's own endpoint are dialled there. The certificate is verified for
    /// this name. Default `None`.
    pub endpoint: Option<Destination>,
    /// Whether URLs may lead to this machine, by `ws://` too: only when the SSM endpoint itself is an emulation on this machine.
    /// Default false.
    pub allow_plain_loopback: bool,
    /// Whether the data channel is opened without a signature when the service refuses every signed request. Then the session's
    /// token alone opens it. Default false.
    pub allow_unsigned: bool,
}

impl MessageService {
    /// The message service of a region, at AWS's own endpoint.
    pub fn of_region(region: impl Into<Arc<str>>) -> Self {
        Self {
            region: region.into(),
            dns_suffix: "amazonaws.com".into(),
            dual_stack_suffix: "api.aws".into(),
            endpoint: None,
            allow_plain_loopback: false,
            allow_unsigned: false,
        }
    }

    /// The forms of AWS's endpoint names: regional and FIPS, dual-stack, and the names of a VPC endpoint.
    ///
    /// Sources: [Systems Manager endpoints] and [access an AWS service using an interface VPC endpoint].
    ///
    /// [Systems Manager endpoints]: https://docs.aws.amazon.com/general/latest/gr/ssm.html
    /// [access an AWS service using an interface VPC endpoint]: https://docs.aws.amazon.com/vpc/latest/privatelink/create-interface-endpoint.html
    fn is_named(&self, host: &str) -> bool {
        let Self { region, dns_suffix: suffix, dual_stack_suffix: dual_stack, .. } = self;
        let before = |end: String| host.strip_suffix(&end);
        let service = |name: &str| matches!(name, "ssmmessages" | "ssmmessages-fips");
        before(format!(".{region}.{suffix}")).is_some_and(service)
            || before(format!(".{region}.{dual_stack}")).is_some_and(service)
            || before(format!(".{region}.vpce.{suffix}"))
                .and_then(|name| name.split_once('.'))
                .is_some_and(|(endpoint, name)| endpoint.starts_with("vpce-") && service(name))
    }
}

/// A stream URL that may be dialled, and the host to dial.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
    loopback: bool,
}

impl Address {
    /// The URL to request. The signature must be for this host, path and query.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The host to dial, in lower case; an IPv6 address without brackets. The certificate must be for this name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port to dial.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection needs TLS (`wss://`).
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether the host is this machine, for an emulation. A proxy must not be used then, and no other address be dialled.
    pub fn is_loopback(&self) -> bool {
        self.loopback
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// The rule that a stream URL breaks. The URL itself is not shown, because it can open the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is not a URL, or it has a fragment.
    #[error("it is not a URL")]
    Malformed,
    /// It carries a user name or password.
    #[error("it carries a user name")]
    UserInfo,
    /// Its path does not name the session.
    #[error("it is not for this session")]
    Session,
    /// Its host is not an ssmmessages endpoint of the region.
    #[error("its host is not an ssmmessages endpoint of the region")]
    Host,
    /// Its scheme is neither `wss` nor, where that is allowed, `ws`.
    #[error("its scheme is not wss")]
    Scheme,
}

/// Checks a stream URL: `wss://` on an ssmmessages endpoint of the region (or the configured one), for this session, without
/// user name; on loopback, by `ws://` too, only with [`MessageService::allow_plain_loopback`]. A configured endpoint replaces
/// host and port; path and query stay byte for byte the same.
///
/// ```
/// use ssm_session::websocket::{MessageService, UrlError, check_url};
///
/// let service = MessageService::of_region("eu-central-1");
/// let url = |host: &str| format!("wss://{host}/v1/data-channel/zoe-0123?role=publish_subscribe");
/// let address = check_url(&url("ssmmessages.eu-central-1.amazonaws.com"), "zoe-0123", &service)?;
/// assert_eq!((address.port(), address.is_secure()), (443, true));
/// assert_eq!(check_url(&url("ssmmessages.example.com"), "zoe-0123", &service), Err(UrlError::Host));
/// # Ok::<(), UrlError>(())
/// ```
///
/// # Errors
/// [`UrlError`]: the rule that the URL breaks.
pub fn check_url(url: &str, session_id: &str, service: &MessageService) -> Result<Address, UrlError> {
    let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
    let authority = uri.authority().ok_or(UrlError::Malformed)?;
    // The parser drops a fragment, so what is sent would not be what was received.
    if url.contains('#') {
        return Err(UrlError::Malformed);
    }
    if authority.as_str().contains('@') {
        return Err(UrlError::UserInfo);
    }
    let secure = match uri.scheme_str() {
        Some("wss") => true,
        Some("ws") => false,
        _ => return Err(UrlError::Scheme),
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        // A colon without a number, or with one that is too large.
        None if authority.as_str() != authority.host() => return Err(UrlError::Malformed),
        None => default_port(secure),
    };
    let is_emulation = is_loopback(&host) && service.allow_plain_loopback;
    if !is_emulation {
        let configured = service.endpoint.as_ref().is_some_and(|endpoint| endpoint.host.eq_ignore_ascii_case(&host));
        if !configured && !service.is_named(&host) {
            return Err(UrlError::Host);
        }
        if !secure {
            return Err(UrlError::Scheme);
        }
    }
    let ours = |segment: &str| percent_decode_str(segment).eq(session_id.bytes());
    if session_id.is_empty() || !uri.path().split('/').any(ours) {
        return Err(UrlError::Session);
    }
    match &service.endpoint {
        Some(endpoint) => moved(uri, secure, endpoint),
        None => Ok(Address { loopback: is_loopback(&host), uri, host, port, secure }),
    }
}

/// The same URL at another host.
fn moved(uri: Uri, secure: bool, endpoint: &Destination) -> Result<Address, UrlError> {
    let host = endpoint.host.to_ascii_lowercase();
    if !secure && !is_loopback(&host) {
        return Err(UrlError::Scheme);
    }
    let authority =
        if endpoint.port == default_port(secure) { host.clone() } else { format!("{host}:{}", endpoint.port) };
    let mut parts = uri.into_parts();
    parts.authority = Some(authority.parse().map_err(|_| UrlError::Malformed)?);
    let uri = Uri::from_parts(parts).map_err(|_| UrlError::Malformed)?;
    Ok(Address { loopback: is_loopback(&host), uri, host, port: endpoint.port, secure })
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "user.name@example.com-0123abcd";
    const REST: &str = "/v1/data-channel/user.name@example.com-0123abcd?role=publish_subscribe&cell-number=AAEAA+b/c==";

    fn check(url: &str, region: &str, loopback: bool, endpoint: Option<&Destination>) -> Result<Address, UrlError> {
        let (dns_suffix, dual_stack_suffix) = match region.split_once('-').unwrap().0 {
            "cn" => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            "eusc" => ("amazonaws.eu", "api.amazonwebservices.eu"),
            _ if region.starts_with("us-iso-") => ("c2s.ic.gov", "api.aws.ic.gov"),
            _ => ("amazonaws.com", "api.aws"),
        };
        let service = MessageService {
            dns_suffix: dns_suffix.into(),
            dual_stack_suffix: dual_stack_suffix.into(),
            endpoint: endpoint.cloned(),
            allow_plain_loopback: loopback,
            ..MessageService::of_region(region)
        };
        check_url(url, SESSION, &service)
    }

    fn endpoint(host: &str, port: u16) -> Destination {
        Destination::new(host, port)
    }

    #[test]
    fn aws_endpoints_of_the_region_are_dialled_with_an_unchanged_url() {
        for (host, region) in [
            ("ssmmessages.eu-central-1.amazonaws.com", "eu-central-1"),
            ("SSMMESSAGES.eu-central-1.amazonaws.com", "eu-central-1"),
            ("ssmmessages.eu-central-1.amazonaws.com:443", "eu-central-1"),
            ("ssmmessages-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            ("ssmmessages.eu-central-1.api.aws", "eu-central-1"),
            ("ssmmessages-fips.us-east-1.api.aws", "us-east-1"),
            ("ssmmessages.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            ("ssmmessages.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
            ("ssmmessages.us-iso-east-1.api.aws.ic.gov", "us-iso-east-1"),
            ("ssmmessages.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            ("ssmmessages.eusc-de-east-1.api.amazonwebservices.eu", "eusc-de-east-1"),
            ("vpce-0123abcd-efgh.ssmmessages.eusc-de-east-1.vpce.amazonaws.eu", "eusc-de-east-1"),
            ("ssmmessages.cn-north-1.api.amazonwebservices.com.cn", "cn-north-1"),
            ("vpce-0123abcd-efgh.ssmmessages.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
            ("vpce-0123abcd-efgh-eu-central-1a.ssmmessages.eu-central-1.vpce.amazonaws.com", "eu-central-1"),
        ] {
            let url = format!("wss://{host}{REST}");
            let address = check(&url, region, false, None).unwrap();
            assert_eq!((address.port, address.secure, address.loopback), (443, true, false), "{host}");
            assert_eq!(address.uri().path_and_query().unwrap().as_str(), REST);
            assert!(!format!("{address:?}").contains("AAEAA"));
        }
        let encoded = format!("wss://ssmmessages.eu-central-1.amazonaws.com{}", REST.replace('@', "%40"));
        assert!(check(&encoded, "eu-central-1", false, None).is_ok());
    }

    #[test]
    fn any_other_host_is_refused() {
        for host in [
            "ssmmessages.eu-west-1.amazonaws.com",
            "ssmmessages.eu-central-1.amazonaws.com.cn",
            "ssmmessages.eu-central-1.amazonaws.eu",
            "ssmmessages.eu-central-1.c2s.ic.gov",
            "ssmmessages.eu-central-1.amazonaws.com.example.com",
            "ssmmessages.eu-central-1.amazonaws.com.",
            "evil-ssmmessages.eu-central-1.amazonaws.com",
            "evil.ssmmessages.eu-central-1.amazonaws.com",
            "ec2messages.eu-central-1.amazonaws.com",
            "ssmmessageseu-central-1.amazonaws.com",
            "my-bucket.s3.eu-central-1.amazonaws.com",
            "evil.ssmmessages.eu-central-1.vpce.amazonaws.com",
            "vpce-0123.ec2.eu-central-1.vpce.amazonaws.com",
            "vpce-0123.evil.ssmmessages.eu-central-1.vpce.amazonaws.com",
            "example.com",
            "10.0.0.1",
            "localhost",
            "127.0.0.1:8080",
            "[::1]:8080",
            "localhost.example.com",
        ] {
            assert_eq!(
                check(&format!("wss://{host}{REST}"), "eu-central-1", false, None),
                Err(UrlError::Host),
                "{host}"
            );
        }
        for host in ["example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"] {
            for scheme in ["ws", "wss"] {
                let url = format!("{scheme}://{host}{REST}");
                assert_eq!(
                    check(&url, "eu-central-1", true, None),
                    Err(UrlError::Host),
                    "an emulation leads only to loopback"
                );
            }
        }
    }

    #[test]
    fn loopback_is_dialled_only_for_an_emulation() {
        for (host, port) in
            [("localhost:8080", 8080), ("127.0.0.1:8080", 8080), ("[::1]:8080", 8080), ("127.9.9.9", 80)]
        {
            let address = check(&format!("ws://{host}{REST}"), "eu-central-1", true, None).unwrap();
            assert_eq!((address.port, address.secure, address.loopback), (port, false, true));
        }
        assert!(check(&format!("wss://localhost{REST}"), "eu-central-1", true, None).unwrap().secure);
    }

    #[test]
    fn configured_endpoint_is_accepted_and_replaces_that_of_aws() {
        let corp = endpoint("messages.corp.example", 443);
        for host in [
            "MESSAGES.corp.example",
            "messages.corp.example:8443",
            "ssmmessages.eu-central-1.amazonaws.com",
            "ssmmessages.eu-central-1.amazonaws.com:443",
        ] {
            let address = check(&format!("wss://{host}{REST}"), "eu-central-1", false, Some(&corp)).unwrap();
            assert_eq!(address.uri().to_string(), format!("wss://messages.corp.example{REST}"), "{host}");
            assert_eq!((address.host.as_str(), address.port, address.secure), ("messages.corp.example", 443, true));
        }
        let elsewhere = endpoint("vpce-0123.ssmmessages.eu-central-1.vpce.amazonaws.com", 8443);
        let url = format!("wss://ssmmessages.eu-central-1.amazonaws.com{REST}");
        let address = check(&url, "eu-central-1", false, Some(&elsewhere)).unwrap();
        assert_eq!(address.uri().to_string(), format!("wss://{elsewhere}{REST}"));
        assert_eq!(address.port, 8443);
    }

    #[test]
    fn emulation_on_loopback_leads_to_no_other_host_in_plain_text() {
        let url = format!("ws://127.0.0.1:4566{REST}");
        let address = check(&url, "eu-central-1", true, Some(&endpoint("localhost", 8080))).unwrap();
        assert_eq!(address.uri().to_string(), format!("ws://localhost:8080{REST}"));
        let corp = endpoint("messages.corp.example", 443);
        assert_eq!(check(&url, "eu-central-1", true, Some(&corp)), Err(UrlError::Scheme));
    }

    #[test]
    fn configured_endpoint_allows_no_other_host() {
        let corp = endpoint("messages.corp.example", 443);
        for (url, error) in [
            (format!("wss://corp.example{REST}"), UrlError::Host),
            (format!("wss://evil.messages.corp.example{REST}"), UrlError::Host),
            (format!("wss://ssmmessages.eu-west-1.amazonaws.com{REST}"), UrlError::Host),
            (format!("wss://127.0.0.1{REST}"), UrlError::Host),
            (format!("ws://messages.corp.example{REST}"), UrlError::Scheme),
            ("wss://messages.corp.example/v1/data-channel/other".into(), UrlError::Session),
        ] {
            assert_eq!(check(&url, "eu-central-1", false, Some(&corp)), Err(error), "{url}");
        }
        assert_eq!(
            check(
                &format!("wss://localhost{REST}"),
                "eu-central-1",
                false,
                Some(&endpoint("messages.corp.example", 443))
            ),
            Err(UrlError::Host)
        );
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        let host = "ssmmessages.eu-central-1.amazonaws.com";
        for (url, error) in [
            (format!("ws://{host}{REST}"), UrlError::Scheme),
            (format!("https://{host}{REST}"), UrlError::Scheme),
            (format!("wss://user@{host}{REST}"), UrlError::UserInfo),
            (format!("wss://user:pass@{host}{REST}"), UrlError::UserInfo),
            (format!("wss://{host}@example.com{REST}"), UrlError::UserInfo),
            (format!("wss://{host}{REST}#x"), UrlError::Malformed),
            (format!("wss://{host}:{REST}"), UrlError::Malformed),
            (format!("wss://{host}:99999{REST}"), UrlError::Malformed),
            (REST.to_owned(), UrlError::Malformed),
            (String::new(), UrlError::Malformed),
            (format!("wss://{host}/v1/data-channel/other?{SESSION}"), UrlError::Session),
            (format!("wss://{host}/v1/data-channel/x{SESSION}"), UrlError::Session),
            (format!("wss://{host}"), UrlError::Session),
        ] {
            assert_eq!(check(&url, "eu-central-1", false, None), Err(error), "{url}");
        }
    }
}
