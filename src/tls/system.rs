//! TLS for connections other than databases. It trusts the machine's roots.
//!
//! These are the machine's store (or the files of `SSL_CERT_FILE` and `SSL_CERT_DIR`) and optionally one more file, which is needed
//! behind a company's TLS inspection.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::{Error, roots};

/// The machine's roots and those of `extra`. Machine roots that cannot be parsed are skipped, as in other programs; every
/// certificate of `extra` must be valid.
///
/// # Errors
/// [`Error::CaFile`] for `extra`.
pub fn system_roots(extra: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = native_roots();
    if let Some(path) = extra {
        roots::add_file(&mut store, &path.into())?;
    }
    Ok(store)
}

/// The machine's roots only.
pub fn native_roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

/// A client configuration over [`system_roots`]. With no root at all, every certificate is refused.
///
/// # Errors
/// [`Error::CaFile`] for `extra`.
pub fn system_client(extra: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::Handshake)?
        .with_root_certificates(system_roots(extra)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
