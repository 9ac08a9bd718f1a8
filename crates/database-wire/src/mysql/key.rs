//! The key with which clients encrypt their password for want of TLS, as `sha256_password` and `caching_sha2_password` do.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rsa::{KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// A key pair of RSA.
pub struct Key {
    private: OaepPrivateDecryptingKey,
    /// The public key, PEM.
    pem: Vec<u8>,
}

impl Key {
    /// A new key of 2048 bits, as servers have. Takes some hundred milliseconds of a processor; `None` when the library fails.
    pub fn generate() -> Option<Self> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).ok()?;
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().ok()?;
        let encoded = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n")).into_bytes();
        Some(Self { private: OaepPrivateDecryptingKey::new(private).ok()?, pem })
    }

    pub(super) fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// The password with its NUL, which was mixed with the salt before it was encrypted.
    pub(super) fn decrypt(&self, encrypted: &[u8], salt: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if salt.is_empty() {
            return None;
        }
        let mut plain = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let length = self.private.decrypt(&OAEP_SHA1_MGF1SHA1, encrypted, &mut plain, None).ok()?.len();
        plain.truncate(length);
        for (byte, salt) in plain.iter_mut().zip(salt.iter().cycle()) {
            *byte ^= salt;
        }
        Some(plain)
    }
}
