//! The channel binding of a TLS connection to a server: `tls-server-end-point` (RFC 5929, section 4.1).

use aws_lc_rs::digest::{self, digest};
use tokio_rustls::client::TlsStream;
use x509_parser::{parse_x509_certificate, signature_algorithm::SignatureAlgorithm};

/// The hash of the server's certificate. `None` if the RFC defines none for its signature, as for Ed25519.
pub fn server_end_point<S>(stream: &TlsStream<S>) -> Option<Vec<u8>> {
    of_certificate(stream.get_ref().1.peer_certificates()?.first()?)
}

/// The hash function is that of the signature, but SHA-256 in the place of MD5 and SHA-1.
pub(super) fn of_certificate(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    let algorithm = &certificate.signature_algorithm;
    let name = match SignatureAlgorithm::try_from(algorithm).ok()? {
        SignatureAlgorithm::RSASSA_PSS(parameters) => parameters.hash_algorithm_oid().to_id_string(),
        _ => algorithm.algorithm.to_id_string(),
    };
    // RSA (PKCS #1), ECDSA, and the hash function alone, which PSS names.
    let hash = match name.as_str() {
        "1.2.840.113549.1.1.4" // MD5
        | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.3.14.3.2.26" // SHA-1
        | "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" | "2.16.840.1.101.3.4.2.1" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" | "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" | "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
        _ => return None,
    };
    Some(digest(hash, der).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    use super::*;

    #[test]
    fn hash_is_that_of_the_signature() {
        let cases: [(&SignatureAlgorithm, Option<&digest::Algorithm>); 3] = [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ];
        for (algorithm, hash) in cases {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = CertificateParams::new(["db.example".to_owned()]).unwrap().self_signed(&key).unwrap();
            let expected = hash.map(|hash| digest(hash, certificate.der()).as_ref().to_vec());
            assert_eq!(of_certificate(certificate.der()), expected);
        }
        assert_eq!(of_certificate(b"\x30\x03"), None);
    }
}
