//! An [`Account`] made from AWS variables and files, each case in a process of its own: the environment is one for
//! all tests of a process.

use std::{path::Path, process::Command};

use aws_lc_rs::digest;
use serde_json::json;
use tempfile::TempDir;

use super::*;

/// Not a test of its own: what [`probe`] runs elsewhere.
#[tokio::test]
#[ignore = "runs in a process of its own, started by the tests below"]
async fn settings() {
    let profile = std::env::var("PROBE_PROFILE").ok();
    let outcome = async {
        let identity = Identity { profile, ..Identity::default() };
        let account = Accounts::new(Interaction::none(), None).load(&Options { identity, ..options() })?;
        let loopback = account.ssm_endpoint_is_loopback();
        match std::env::var("PROBE_CALL").as_deref() {
            Ok("by hand") => return Ok(json!({"date": account.date().await?.elapsed().is_ok()})),
            Ok("sdk") => return Ok(json!({"arn": account.principal().await?.arn})),
            _ => {}
        }
        let credentials = account.credentials().await?;
        let expires = credentials.expiry().map(|at| DateTime::from(at).secs());
        Ok::<_, Error>(json!({"key": credentials.access_key_id(), "loopback": loopback, "expires": expires}))
    };
    let outcome = outcome.await.unwrap_or_else(|error| {
        let debug = format!("{error:?}");
        let variant = debug.split([' ', '(']).next().unwrap();
        json!({"error": variant, "text": error.to_string(), "hint": error.hint()})
    });
    std::fs::write(std::env::var("PROBE_OUTCOME").unwrap(), outcome.to_string()).unwrap();
}

/// The credentials that an [`Account`] finds in an environment and a configuration file.
async fn probe(home: &TempDir, config: &str, environment: &[(&str, &str)]) -> Value {
    std::fs::write(home.path().join("config"), config).unwrap();
    let outcome = home.path().join("outcome");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "aws::tests::settings::settings", "--ignored"])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("AWS_CONFIG_FILE", home.path().join("config"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("PROBE_OUTCOME", &outcome)
        .envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_str(&std::fs::read_to_string(outcome).unwrap()).unwrap()
}

const PROFILES: &str = "
[default]
region = eu-central-1

[profile static]
aws_access_key_id = AKIDPROFILE
aws_secret_access_key = secret
services = local
[services local]
ssm =
  endpoint_url = http://localhost:4566

[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[profile over-sso]
role_arn = arn:aws:iam::123456789012:role/admin
source_profile = sso
[sso-session corp]
sso_region = eu-central-1
sso_start_url = https://example.awsapps.com/start

[profile console]
login_session = arn:aws:iam::123456789012:user/me

[profile process]
credential_process = /bin/echo '{\"Version\":1,\"AccessKeyId\":\"AKIDPROCESS\",\"SecretAccessKey\":\"s\",\"Expiration\":\"2020-01-01T00:00:00Z\"}'
[profile broken]
credential_process = /bin/false
[profile loop]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = nowhere
";

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[tokio::test]
async fn a_profile_that_was_asked_for_goes_before_keys_in_the_environment() {
    let home = TempDir::new().unwrap();
    let asked = probe(&home, PROFILES, &[KEYS[0], KEYS[1], ("PROBE_PROFILE", "static")]).await;
    assert_eq!(asked, json!({"key": "AKIDPROFILE", "loopback": true, "expires": null}));
    let by_variable = probe(&home, PROFILES, &[KEYS[0], KEYS[1], ("AWS_PROFILE", "static")]).await;
    assert_eq!(by_variable["key"], "AKIDENV");
}

#[tokio::test]
async fn the_end_of_keys_in_the_environment_is_known() {
    let home = TempDir::new().unwrap();
    let at = |expiration| [KEYS[0], KEYS[1], ("AWS_CREDENTIAL_EXPIRATION", expiration)];
    let alive = probe(&home, "", &at("2096-02-29T01:00:00+01:00")).await;
    assert_eq!(alive, json!({"key": "AKIDENV", "loopback": false, "expires": 3_981_312_000_i64}));
    let dead = probe(&home, "", &at("2020-01-01T00:00:00Z")).await;
    assert_eq!(
        (&dead["error"], &dead["text"]),
        (
            &json!("CredentialsExpired"),
            &json!(
                "the AWS credentials expired on 2020-01-01T00:00:00Z (`AWS_CREDENTIAL_EXPIRATION` in the environment)"
            )
        )
    );
}

#[tokio::test]
async fn endpoints_on_this_machine_are_known_as_such() {
    let home = TempDir::new().unwrap();
    for (variable, url, loopback) in [
        ("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:4566", true),
        ("AWS_ENDPOINT_URL", "http://[::1]:4566", true),
        ("AWS_ENDPOINT_URL", "https://LOCALHOST", true),
        ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:4566", false),
        ("AWS_ENDPOINT_URL_SSM", "https://127.0.0.1.example.com", false),
        ("AWS_ENDPOINT_URL_SSM", "https://vpce-1.ssm.eu-central-1.vpce.amazonaws.com", false),
    ] {
        let outcome = probe(&home, "", &[KEYS[0], KEYS[1], (variable, url)]).await;
        assert_eq!(outcome["loopback"], loopback, "{variable}={url}");
    }
}

#[tokio::test]
async fn each_way_to_have_no_credentials_has_its_error_and_hint() {
    let home = TempDir::new().unwrap();
    for (profile, error, hint) in [
        ("", "NoCredentials", "--profile"),
        ("missing", "ProfileNotFound", "broken, console, default, loop, over-sso, process, sso, static"),
        ("sso", "SsoSessionOver", "rdsgate login --profile sso"),
        ("over-sso", "SsoSessionOver", "rdsgate login --profile sso"),
        ("console", "ConsoleSessionOver", "aws login --profile console"),
        ("process", "CredentialsExpired", "renew"),
        ("broken", "Credentials", "rdsgate whoami"),
        ("loop", "Setting", "rdsgate whoami"),
    ] {
        let environment = [("PROBE_PROFILE", profile)];
        let outcome = probe(&home, PROFILES, if profile.is_empty() { &[] } else { &environment }).await;
        assert_eq!(outcome["error"], error, "{profile}: {outcome}");
        assert!(outcome["hint"].as_str().unwrap().contains(hint), "{profile}: {outcome}");
    }
    for (status, metadata) in [(400, json!({})), (403, json!({})), (200, json!("<html>a captive portal</html>"))] {
        let fake = Fake::start([(status, metadata)]).await;
        let environment = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &fake.url)];
        let outcome = probe(&home, "", &environment).await;
        assert!(!fake.requests().is_empty());
        assert_eq!(outcome["error"], "NoCredentials", "{status}: {outcome}");
    }
    let by_variable = probe(&home, PROFILES, &[("AWS_PROFILE", "missing")]).await;
    assert_eq!(by_variable["error"], "ProfileNotFound", "{by_variable}");
}

/// The file that `rdsgate login` leaves behind for the session `corp`.
fn sso_token(home: &Path, expires: &str) {
    let cache = home.join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let name: String = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"corp")
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let token = json!({"accessToken": "a", "expiresAt": expires, "region": "eu-central-1", "startUrl": "https://example.awsapps.com/start"});
    std::fs::write(cache.join(name + ".json"), token.to_string()).unwrap();
}

fn sso_answer() -> (u16, Value) {
    let role = json!({"accessKeyId": "AKIDSSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": 4_000_000_000_000_i64});
    (200, json!({"roleCredentials": role}))
}

fn sso_outcome() -> Value {
    json!({"key": "AKIDSSO", "loopback": false, "expires": 4_000_000_000_i64})
}

#[tokio::test]
async fn an_sso_token_that_has_expired_or_was_revoked_says_to_log_in_again() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2020-01-01T00:00:00Z");
    let expired = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso")]).await;
    assert_eq!(expired["error"], "SsoSessionOver", "{expired}");

    sso_token(home.path(), "2096-01-01T00:00:00Z");
    let fake = Fake::start([(
        401,
        json!({"__type": "UnauthorizedException", "message": "Session token not found or invalid"}),
    )])
    .await;
    let revoked = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &fake.url)]).await;
    assert_eq!(revoked["error"], "SsoSessionOver", "{revoked}");

    let fake = Fake::start([sso_answer()]).await;
    let good = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &fake.url)]).await;
    assert_eq!(good, sso_outcome());

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let unreachable = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &url)]).await;
    assert_eq!(unreachable["error"], "CredentialsTransport", "{unreachable}");
}

#[tokio::test]
async fn a_bad_file_of_roots_is_an_error_and_not_a_panic() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("roots.pem");
    let bundle = path.to_str().unwrap();
    let missing = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(
        (&missing["error"], &missing["text"]),
        (&json!("CaBundle"), &json!(format!("cannot use {bundle} (`AWS_CA_BUNDLE` in the environment)")))
    );
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let broken = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(broken["error"], "CaBundle");
    std::fs::write(&path, include_str!("../../../certs/amazon-trust-services.pem")).unwrap();
    let good = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(good["key"], "AKIDENV");
    let no_native_roots =
        probe(&home, "", &[KEYS[0], KEYS[1], ("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")]).await;
    assert_eq!(no_native_roots["key"], "AKIDENV");
}

#[tokio::test]
async fn calls_trust_the_files_of_roots_in_the_environment_and_no_one_else() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2096-01-01T00:00:00Z");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = home.path().join("roots.pem");
    std::fs::write(&roots, identity.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let accept = move |stream| {
        let handshake = acceptor.accept(stream);
        async { Some(Box::new(handshake.await.ok()?) as BoxIo) }
    };
    let fake = Fake::listen("https", [sso_answer()], accept).await;
    let environment = |more: &[(&'static str, &Path)]| {
        let mut environment = vec![("PROBE_PROFILE", "sso".to_owned()), ("AWS_ENDPOINT_URL_SSO", fake.url.clone())];
        environment.extend(more.iter().map(|(name, path)| (*name, path.to_str().unwrap().to_owned())));
        environment
    };
    let in_profile = PROFILES.replace("[profile sso]\n", &format!("[profile sso]\nca_bundle = {}\n", roots.display()));
    let of_profile = environment(&[]);
    let of_profile: Vec<_> = of_profile.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(probe(&home, &in_profile, &of_profile).await, sso_outcome());
    let in_another =
        PROFILES.replace("[profile console]\n", &format!("[profile console]\nca_bundle = {}\n", roots.display()));
    assert_eq!(probe(&home, &in_another, &of_profile).await["error"], "CredentialsTransport");
    for (more, expected) in [
        (environment(&[("AWS_CA_BUNDLE", &roots)]), sso_outcome()),
        (environment(&[("SSL_CERT_FILE", &roots)]), sso_outcome()),
        (environment(&[]), json!("CredentialsTransport")),
    ] {
        let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = probe(&home, PROFILES, &more).await;
        assert_eq!(if expected.is_string() { &outcome["error"] } else { &outcome }, &expected, "{outcome}");
    }
}

#[tokio::test]
async fn calls_go_through_the_proxy_of_the_environment() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2096-01-01T00:00:00Z");
    for (exempt, through) in [("", true), ("sso.example.invalid", false), (".invalid", false)] {
        let proxy = Fake::start([(403, json!({}))]).await;
        let environment = [
            ("PROBE_PROFILE", "sso"),
            ("AWS_ENDPOINT_URL_SSO", "https://sso.example.invalid"),
            ("HTTPS_PROXY", &proxy.url),
            ("NO_PROXY", exempt),
        ];
        let outcome = probe(&home, PROFILES, &environment).await;
        assert_eq!(outcome["error"], "CredentialsTransport", "{outcome}");
        let asked = proxy.requests().iter().any(|request| request.starts_with("CONNECT sso.example.invalid:443 "));
        assert_eq!(asked, through, "NO_PROXY={exempt}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_understood_is_an_error_and_one_with_a_domain_user_is_used() {
    let home = TempDir::new().unwrap();
    let url = ("AWS_ENDPOINT_URL_STS", "https://sts.example.invalid");
    let refused =
        probe(&home, "", &[KEYS[0], KEYS[1], url, ("PROBE_CALL", "sdk"), ("https_proxy", "socks5://p:1")]).await;
    assert_eq!(refused["error"], "Proxy", "{refused}");
    assert!(
        refused["text"].as_str().unwrap().starts_with("the proxy in https_proxy cannot be used: SOCKS"),
        "{refused}"
    );
    for call in ["sdk", "by hand"] {
        let proxy = Fake::start([(407, json!({}))]).await;
        let value = proxy.url.replace("http://", "http://CORP\\me:pw@");
        let environment = [KEYS[0], KEYS[1], url, ("PROBE_CALL", call), ("HTTPS_PROXY", &value)];
        let outcome = probe(&home, "", &environment).await;
        assert_eq!(outcome["error"], "Transport", "{outcome}");
        let requests = proxy.requests().join("\n").to_lowercase();
        assert!(requests.contains("connect sts.example.invalid:443 "), "{requests}");
        assert!(requests.contains("proxy-authorization: basic q09sufxtztpwdw=="), "{requests}");
    }
}

#[tokio::test]
async fn fips_and_dual_stack_count_for_every_call() {
    let home = TempDir::new().unwrap();
    let config = "[default]\nuse_fips_endpoint = true\n";
    for (config, variables, host) in [
        ("", [("AWS_USE_FIPS_ENDPOINT", "true"), ("x", "x")], "sts-fips.eu-central-1.amazonaws.com"),
        ("", [("AWS_USE_DUALSTACK_ENDPOINT", "true"), ("x", "x")], "sts.eu-central-1.api.aws"),
        (config, [("AWS_USE_DUALSTACK_ENDPOINT", "true"), ("x", "x")], "sts-fips.eu-central-1.api.aws"),
        (config, [("AWS_USE_FIPS_ENDPOINT", "false"), ("x", "x")], "sts.eu-central-1.amazonaws.com"),
    ] {
        for call in ["sdk", "by hand"] {
            let proxy = Fake::start([(403, json!({}))]).await;
            let more =
                [KEYS[0], KEYS[1], ("PROBE_CALL", call), ("HTTPS_PROXY", &proxy.url), variables[0], variables[1]];
            probe(&home, config, &more).await;
            let requests = proxy.requests().join("\n");
            assert!(requests.contains(&format!("CONNECT {host}:443 ")), "{call}: {host}: {requests}");
        }
    }
}

/// Not a test of its own: what the next one runs elsewhere.
#[tokio::test]
#[ignore = "runs in a process of its own, started by the test below"]
async fn rewritten_files() {
    let path = std::env::var("AWS_SHARED_CREDENTIALS_FILE").unwrap();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let keys = |name: &str, key: &str| format!("[{name}]\naws_access_key_id = {key}\naws_secret_access_key = secret\n");
    write(&keys("default", "AKIDFIRST"));
    let account = Accounts::new(Interaction::none(), None).load(&options()).unwrap();
    let key = async || account.credentials().await.unwrap().access_key_id().to_owned();
    assert_eq!(key().await, "AKIDFIRST");
    // As saml2aws and its like do it.
    write(&keys("default", "AKIDSECOND"));
    assert_eq!(key().await, "AKIDSECOND");
    // Half written, then whole again.
    write("[default]\naws_access_key_id = AKIDTHIRD\n");
    assert_eq!(key().await, "AKIDSECOND");
    write(&keys("default", "AKIDTHIRD"));
    assert_eq!(key().await, "AKIDTHIRD");
    // A profile that is not ours.
    write(&(keys("default", "AKIDTHIRD") + &keys("other", "AKIDOTHER")));
    assert_eq!(key().await, "AKIDTHIRD");
    // Replaced by another file.
    std::fs::write(format!("{path}.new"), keys("default", "AKIDFORTH")).unwrap();
    std::fs::rename(format!("{path}.new"), &path).unwrap();
    assert_eq!(key().await, "AKIDFORTH");
}

#[tokio::test]
async fn keys_of_a_file_that_changes_are_read_again() {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "aws::tests::settings::rewritten_files", "--ignored"])
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_SHARED_CREDENTIALS_FILE", home.path().join("credentials"))
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
