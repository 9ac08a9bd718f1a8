//! The one HTTP client of all AWS calls, and where the environment says the endpoints are.
//!
//! It trusts the machine's roots (`SSL_CERT_FILE`, `SSL_CERT_DIR`) and `AWS_CA_BUNDLE`, and goes through `HTTPS_PROXY`,
//! `HTTP_PROXY` or `ALL_PROXY` unless `NO_PROXY` names the endpoint.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::{
    Builder, Connector, ConnectorBuilder,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_types::service_config::ServiceConfigKey;

use super::Error;
use crate::tls;

/// Names one more file of roots for AWS's endpoints, as for the AWS CLI and SDKs.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// What the SDK's clients send their requests with.
///
/// # Errors
/// [`Error::CaBundle`].
pub(super) fn client() -> Result<SharedHttpClient, Error> {
    let context = context()?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder();
        if let Some(settings) = settings {
            builder = builder.connector_settings(settings.clone());
        }
        builder.set_sleep_impl(
            components.and_then(aws_smithy_runtime_api::client::runtime_components::RuntimeComponents::sleep_impl),
        );
        connector(builder, context.clone())
    }))
}

/// The same for requests of our own making; nothing in it has a deadline but the connecting.
///
/// # Errors
/// [`Error::CaBundle`].
pub(super) fn own_connector(connect_deadline: Duration) -> Result<SharedHttpConnector, Error> {
    let settings = HttpConnectorSettings::builder().connect_timeout(connect_deadline).build();
    let builder = Connector::builder().connector_settings(settings).sleep_impl(TokioSleep::new());
    Ok(SharedHttpConnector::new(connector(builder, context()?)))
}

fn connector(builder: ConnectorBuilder, context: TlsContext) -> Connector {
    builder
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context)
        .build()
}

/// # Errors
/// [`Error::CaBundle`]: the file is checked here because the SDK panics on a bad one.
fn context() -> Result<TlsContext, Error> {
    let mut trust = TrustStore::empty();
    // The SDK asserts that there are native roots where it is told to use them; a slim container has none.
    if !tls::system::native_roots().is_empty() {
        trust = trust.with_native_roots(true);
    }
    if let Some(path) = std::env::var_os(CA_BUNDLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        let refused = |cause| Error::CaBundle { path: path.clone(), cause };
        tls::system::system_roots(Some(&path)).map_err(|cause| refused(Arc::new(cause)))?;
        let pem = std::fs::read(&path).map_err(|cause| refused(Arc::new(cause)))?;
        trust = trust.with_pem_certificate(pem);
    }
    TlsContext::builder().with_trust_store(trust).build().map_err(|cause| Error::HttpClient(Arc::new(cause)))
}

/// Where the AWS variables and files say that `service` is, in place of AWS's own endpoint: `AWS_ENDPOINT_URL_<SERVICE>`,
/// `AWS_ENDPOINT_URL`, or the same in the profile. `service` is its id in those names.
pub(super) fn configured_endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = config.service_config().zip(key.ok()).and_then(|(service, key)| service.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

/// Whether the endpoint that the SDK will use for `service` was moved to this machine.
pub(super) fn endpoint_is_loopback(config: &SdkConfig, service: &str) -> bool {
    configured_endpoint(config, service).is_some_and(|url| is_loopback(&url))
}

fn is_loopback(url: &str) -> bool {
    let Ok(uri) = url.parse::<::http::Uri>() else { return false };
    let Some(host) = uri.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
