//! The trusted roots for a database: the bundled ones of its region, Amazon Trust Services, and `ca_file`.
//!
//! RDS has private roots, three for each region, and a root of another region is not trusted. RDS Proxy and Aurora Serverless v1
//! use public certificates under Amazon Trust Services. The machine's own roots are never used, so that a company's TLS inspection
//! cannot intercept a database connection.

use std::sync::LazyLock;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use x509_parser::parse_x509_certificate;

use super::{CaFileError, Error};
use crate::{
    regular_file,
    service::{Anchors, Region},
    target::{CaFile, Host},
};

/// AWS's `global-bundle.pem`; source and date in certs/README.md.
static RDS: LazyLock<Vec<(Scope, CertificateDer<'static>)>> = LazyLock::new(|| {
    bundled(include_bytes!("../../certs/rds-global-bundle.pem"))
        .map(|certificate| (Scope::of(&certificate), certificate))
        .collect()
});

/// Amazon Root CA 1-4 and Starfield Services Root G2.
static TRUST_SERVICES: LazyLock<Vec<CertificateDer<'static>>> =
    LazyLock::new(|| bundled(include_bytes!("../../certs/amazon-trust-services.pem")).collect());

fn bundled(pem: &'static [u8]) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.expect("the bundle is well-formed, as tested below"))
}

/// The endpoints for which a root of the bundle is trusted, from its common name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// `Amazon RDS eu-central-1 Root CA RSA2048 G1`
    Region(Region),
    /// `Amazon RDS Preview us-east-2 Root CA RSA2048 G1`
    Preview,
    /// Any other name, `Amazon RDS Beta …` included: never trusted.
    Other,
}

impl Scope {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return Self::Other };
        let mut names = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let Some(scope) = names.next().and_then(|name| name.strip_prefix("Amazon RDS ")?.split(" Root CA ").next())
        else {
            return Self::Other;
        };
        match scope.parse() {
            Ok(region) => Self::Region(region),
            Err(_) if scope.starts_with("Preview ") => Self::Preview,
            Err(_) => Self::Other,
        }
    }

    fn covers(&self, host: &Host) -> bool {
        match (self, host.anchors()) {
            (Self::Region(own), Anchors::Region(region)) => *own == region,
            (Self::Region(_), Anchors::AnyRegion) | (Self::Preview, Anchors::Preview) => true,
            (Self::Region(_) | Self::Preview | Self::Other, _) => false,
        }
    }
}

/// The roots for one endpoint.
///
/// # Errors
/// [`Error::CaFile`]; the bundled roots cannot fail.
pub(super) fn for_host(host: &Host, ca_file: Option<&CaFile>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let rds = RDS.iter().filter(|(scope, _)| scope.covers(host)).map(|(_, certificate)| certificate);
    roots.add_parsable_certificates(rds.chain(TRUST_SERVICES.iter()).cloned());
    if let Some(file) = ca_file {
        add_file(&mut roots, file)?;
    }
    Ok(roots)
}

/// Adds all certificates of a PEM file, or fails. A silently skipped certificate would be hard to notice.
pub(super) fn add_file(roots: &mut RootCertStore, file: &CaFile) -> Result<(), Error> {
    let path = file.path.as_path();
    let refused = |cause| Error::CaFile { path: path.into(), cause };
    let pem = regular_file::read(path).map_err(|cause| refused(CaFileError::Read(cause)))?.bytes;
    if file.sha256.is_some_and(|trusted| trusted != regular_file::sha256(&pem)) {
        return Err(refused(CaFileError::Changed));
    }
    // A byte order mark, which editors on Windows write, would hide the first line.
    let pem = pem.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&pem);
    if let Some(line) = misplaced_marker(pem) {
        return Err(refused(CaFileError::Marker { line }));
    }
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| refused(CaFileError::Pem(cause)))?;
    if certificates.is_empty() {
        return Err(refused(CaFileError::Empty));
    }
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots.add(certificate).map_err(|cause| refused(CaFileError::Certificate { number: index + 1, cause }))?;
    }
    Ok(())
}

/// The first line that begins a certificate in a form that the parser would skip silently: after a blank or other text, or with
/// another label (`TRUSTED CERTIFICATE`, `X509 CERTIFICATE`).
fn misplaced_marker(pem: &[u8]) -> Option<usize> {
    const BEGIN: &str = "-----BEGIN ";
    let line = pem.split(|byte| matches!(byte, b'\n')).position(|line| {
        let line = String::from_utf8_lossy(line);
        let begins = line.split_once(BEGIN).is_some_and(|(_, label)| label.contains("CERTIFICATE-----"));
        begins && !line.starts_with("-----BEGIN CERTIFICATE-----")
    })?;
    Some(line + 1)
}

#[cfg(test)]
mod tests {
    use std::{io::Write, path::Path};

    use tempfile::NamedTempFile;

    use super::*;

    const AMAZON: usize = 5;

    fn count(host: &str) -> usize {
        for_host(&host.parse().unwrap(), None).unwrap().len()
    }

    fn file(content: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn problem(content: &[u8]) -> CaFileError {
        let file = file(content);
        match for_host(&"db.internal.example".parse().unwrap(), Some(&file.path().into())) {
            Err(Error::CaFile { path, cause }) if path == file.path() => cause,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bundle_is_complete_and_each_root_has_its_region() {
        assert_eq!((RDS.len(), TRUST_SERVICES.len()), (108, AMAZON));
        let of = |wanted: fn(&Scope) -> bool| RDS.iter().filter(|(scope, _)| wanted(scope)).count();
        assert_eq!(of(|scope| matches!(scope, Scope::Region(_))), 34 * 3);
        assert_eq!(of(|scope| *scope == Scope::Preview), 3);
        assert_eq!(of(|scope| *scope == Scope::Other), 3);
    }

    #[test]
    fn a_host_trusts_only_the_roots_of_its_region() {
        for (scope, _) in RDS.iter() {
            let Scope::Region(region) = scope else { continue };
            assert_eq!(count(&format!("a.c1abcdefghij.{region}.rds.amazonaws.com")), 3 + AMAZON, "{region}");
        }
        assert_eq!(count("a.c1abcdefghij.us-east-2.rds-preview.amazonaws.com"), 3 + AMAZON);
        assert_eq!(count("a.c1abcdefghij.us-gov-west-1.rds.amazonaws.com"), AMAZON);
        assert_eq!(count("a.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn"), AMAZON);
        assert_eq!(count("db.internal.example"), 34 * 3 + AMAZON);
    }

    #[test]
    fn a_ca_file_adds_its_certificates_and_a_bad_one_says_why() {
        let good = include_bytes!("../../certs/amazon-trust-services.pem");
        let host = "a.c1abcdefghij.us-gov-west-1.rds.amazonaws.com".parse().unwrap();
        let roots = for_host(&host, Some(&file(good).path().into())).unwrap();
        assert_eq!(roots.len(), 2 * AMAZON);

        let with_mark = [b"\xef\xbb\xbf", &good[..]].concat();
        assert_eq!(
            for_host(&host, Some(&file(&with_mark).path().into())).unwrap().len(),
            2 * AMAZON,
            "byte order mark"
        );
        let crlf = String::from_utf8_lossy(good).replace('\n', "\r\n");
        assert_eq!(for_host(&host, Some(&file(crlf.as_bytes()).path().into())).unwrap().len(), 2 * AMAZON, "CRLF");
        for (hidden, line) in [(" -----BEGIN CERTIFICATE-----", 1), ("# a comment\nx-----BEGIN CERTIFICATE-----", 2)] {
            let text = String::from_utf8_lossy(good).into_owned();
            let at = text.find("-----BEGIN").unwrap();
            let hidden = text[at..].replacen("-----BEGIN CERTIFICATE-----", hidden, 1);
            assert!(
                matches!(problem(hidden.as_bytes()), CaFileError::Marker { line: at } if at == line),
                "{hidden:.40}"
            );
        }
        let trusted = b"-----BEGIN TRUSTED CERTIFICATE-----\nAAAA\n-----END TRUSTED CERTIFICATE-----\n";
        assert!(matches!(problem(&[good, &trusted[..]].concat()), CaFileError::Marker { .. }));

        let trusted = file(good);
        let mut pinned = CaFile { sha256: Some(regular_file::sha256(good)), ..trusted.path().into() };
        assert_eq!(for_host(&host, Some(&pinned)).unwrap().len(), 2 * AMAZON);
        pinned.sha256 = Some(regular_file::sha256(b"what the owner has seen"));
        let changed = for_host(&host, Some(&pinned)).unwrap_err();
        assert!(matches!(changed, Error::CaFile { cause: CaFileError::Changed, .. }));

        assert!(matches!(problem(b""), CaFileError::Empty));
        assert!(matches!(problem(b"nothing of the kind\n"), CaFileError::Empty));
        assert!(matches!(problem(&good[..good.len() - 100]), CaFileError::Pem(_)));
        let second_is_broken = [good, &b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"[..]].concat();
        assert!(matches!(problem(&second_is_broken), CaFileError::Certificate { number: 6, .. }));
        let missing = for_host(&host, Some(&Path::new("/nonexistent/ca.pem").into())).unwrap_err();
        assert_eq!(missing.to_string(), "cannot use the certificates in /nonexistent/ca.pem");
        assert!(matches!(missing, Error::CaFile { cause: CaFileError::Read(_), .. }));
    }
}
