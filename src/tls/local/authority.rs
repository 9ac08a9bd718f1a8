//! The local certificate authority: a key and a certificate in a folder of the user's own, made once and shared by all processes.
//!
//! | file | content |
//! |---|---|
//! | `ca.key` | key and certificate, PEM, for its owner's eyes only |
//! | `ca.pem` | the certificate again, for clients |
//! | `lock` | held while the others are made |
//!
//! A folder of the user's own choice may hold a key alone, with its certificate in `ca.pem`, as a Kubernetes Secret does. What is there
//! is never written.
//!
//! Clients that trust the certificate trust it for the names in its constraints alone: those of this machine, and those that were
//! configured when it was made. So its key is of no use for the names of others.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, prelude::X509Certificate};
use zeroize::Zeroizing;

use super::{CLOCK_SKEW, error::Error, own_names};
use crate::{platform::files, regular_file};

/// The folder below that for state.
const FOLDER: &str = "rdsgate/local-ca";
/// Its life. Every renewal has to reach every client, so that a short one would be worked around.
const LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// The most characters of a name in a subject (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// An authority that is ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
    not_after: SystemTime,
    /// `None` for a certificate without constraints, which is not ours.
    permitted: Option<Permitted>,
}

/// The names in the constraints of an authority.
struct Permitted {
    dns: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Authority {
    /// Its folder below `state`, the user's folder for state.
    pub fn folder(state: &Path) -> PathBuf {
        state.join(FOLDER)
    }

    /// The certificate's file in the folder.
    pub fn certificate_in(folder: &Path) -> PathBuf {
        folder.join("ca.pem")
    }

    /// Reads the authority in `folder`. If there is none, makes one for the names of this machine and `names`. Processes that do so
    /// at once get the same.
    ///
    /// # Errors
    /// [`Error`]; what is damaged or open to others is not replaced.
    pub fn open(folder: &Path, names: &[String]) -> Result<Self, Error> {
        if let Some(there) = Self::read(folder)? {
            return Ok(there);
        }
        let _lock = lock(folder)?;
        match Self::read(folder)? {
            Some(there) => Ok(there),
            None => Self::make(folder, names),
        }
    }

    /// The authority in `folder`; `None` if there is none.
    fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join("ca.key");
        let file = match regular_file::read(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::File { path, cause }),
        };
        let mut pem = Zeroizing::new(file.bytes);
        if files::may_hold_secret(&path, &file.metadata).is_err() {
            return Err(Error::Exposed(path));
        }
        if CertificateDer::from_pem_slice(&pem).is_err() {
            let beside = Self::certificate_in(folder);
            let certificate = regular_file::read(&beside).map_err(|cause| Error::File { path: beside, cause })?;
            *pem = [&pem[..], b"\n", &certificate.bytes].concat();
        }
        Self::parse(folder, &pem).map(Some).map_err(|why| Error::Damaged { path, why })
    }

    /// Makes a new authority in the place of one that may be there.
    ///
    /// # Errors
    /// [`Error`]; the old one stays.
    pub fn renew(folder: &Path, names: &[String]) -> Result<Self, Error> {
        let _lock = lock(folder)?;
        Self::make(folder, names)
    }

    /// The caller holds the lock.
    fn make(folder: &Path, names: &[String]) -> Result<Self, Error> {
        let own = own_names();
        let host = own.last().map_or("localhost", String::as_str);
        let mut params = CertificateParams::default();
        let common_name: String = format!("rdsgate local CA of {host}").chars().take(MAX_COMMON_NAME).collect();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let permitted_subtrees = own.iter().chain(names).map(|name| subtree(name)).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - CLOCK_SKEW).into(), (now + LIFE).into());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        let both = Zeroizing::new(Zeroizing::new(key.serialize_pem()).to_string() + &certificate);
        let path = folder.join("ca.key");
        let authority =
            Self::parse(folder, both.as_bytes()).map_err(|why| Error::Damaged { path: path.clone(), why })?;
        // The key last: it is the sign that all is there.
        write(&authority.path, authority.certificate_pem().as_bytes())?;
        write(&path, both.as_bytes())?;
        Ok(authority)
    }

    fn parse(folder: &Path, pem: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(pem).map_err(|_| "it is not text")?;
        let key = KeyPair::from_pem(text).map_err(|_| "it has no key")?;
        let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| "it has no certificate")?;
        let (_, x509) = parse_x509_certificate(&certificate).map_err(|_| "its certificate is malformed")?;
        if x509.public_key().raw != key.subject_public_key_info() {
            return Err("key and certificate do not belong together");
        }
        let not_after = u64::try_from(x509.validity().not_after.timestamp()).unwrap_or_default();
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(not_after);
        let permitted = Permitted::of(&x509);
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| "its certificate is malformed")?;
        Ok(Self { issuer, path: Self::certificate_in(folder), not_after, permitted, certificate })
    }

    /// The certificate that clients trust, PEM.
    pub fn certificate_pem(&self) -> String {
        pem(&self.certificate)
    }

    /// The file of the certificate.
    pub fn certificate_path(&self) -> &Path {
        &self.path
    }

    /// The end of its life.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The names and addresses that it may prove; none if it is not limited to some.
    pub fn names(&self) -> Vec<String> {
        let Some(Permitted { dns, addresses }) = &self.permitted else { return Vec::new() };
        dns.iter().cloned().chain(addresses.iter().map(ToString::to_string)).collect()
    }

    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Whether its constraints permit a name or address.
    pub(super) fn may_prove(&self, name: &str) -> bool {
        let Some(Permitted { dns, addresses }) = &self.permitted else { return true };
        match name.parse::<IpAddr>() {
            Ok(address) => addresses.contains(&address),
            Err(_) => dns.iter().any(|base| {
                let name = name.to_ascii_lowercase();
                name.strip_suffix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }),
        }
    }
}

impl Permitted {
    fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let constraints = certificate.name_constraints().ok()??;
        let (mut dns, mut addresses) = (Vec::new(), Vec::new());
        for subtree in constraints.value.permitted_subtrees.as_ref()? {
            match subtree.base {
                GeneralName::DNSName(name) => dns.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => addresses.extend(single_address(bytes)),
                _ => {}
            }
        }
        Some(Self { dns, addresses })
    }
}

/// The address of a network that has no other: address and mask.
fn single_address(bytes: &[u8]) -> Option<IpAddr> {
    let (address, mask) = bytes.split_at_checked(bytes.len() / 2)?;
    if mask.iter().any(|byte| *byte != 0xff) {
        return None;
    }
    let v4 = || <[u8; 4]>::try_from(address).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(address).ok().map(IpAddr::from))
}

fn subtree(name: &str) -> GeneralSubtree {
    match name.parse() {
        Ok(IpAddr::V4(address)) => GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [0xff; 4])),
        Ok(IpAddr::V6(address)) => GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [0xff; 16])),
        Err(_) => GeneralSubtree::DnsName(name.to_ascii_lowercase()),
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let encoded = STANDARD.encode(certificate);
    let lines: Vec<&str> = encoded.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Makes the folder, which must be its owner's alone, and takes its lock until the file is dropped.
fn lock(folder: &Path) -> Result<File, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause: io::Error| Error::File { path, cause }
    };
    files::make_private_folder(folder).map_err(failed(folder))?;
    let meta = fs::metadata(folder).map_err(failed(folder))?;
    if !files::is_ours_alone(folder, &meta) {
        return Err(Error::OpenFolder(folder.to_owned()));
    }
    let path = folder.join("lock");
    let file = files::open_private(&path).map_err(failed(&path))?;
    file.lock().map_err(failed(&path))?;
    Ok(file)
}

/// Replaces a file in one step. The caller holds the lock.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |cause| Error::File { path: path.to_owned(), cause };
    let new = path.with_extension("new");
    // Of a process that was killed.
    let _ = fs::remove_file(&new);
    let written = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = files::private(options.write(true).create_new(true)).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn authority_is_made_once_and_shared() {
        let state = tempfile::tempdir().unwrap();
        let folder = Authority::folder(state.path());
        let made: Vec<String> = std::thread::scope(|scope| {
            let open = || Authority::open(&folder, &["db".into()]).unwrap().certificate_pem();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(made.iter().all(|pem| *pem == made[0]));
        assert_eq!(fs::read_to_string(folder.join("ca.pem")).unwrap(), made[0]);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join("ca.key")).unwrap().mode() & 0o777, 0o600);
        let authority = Authority::open(&folder, &[]).unwrap();
        assert!(authority.may_prove("db") && authority.may_prove("::1") && !authority.may_prove("xdb"));
        assert_ne!(Authority::renew(&folder, &[]).unwrap().certificate_pem(), made[0]);
    }

    #[test]
    fn key_that_is_damaged_or_open_to_others_is_refused_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("ca");
        let key = folder.join("ca.key");
        Authority::open(&folder, &[]).unwrap();
        let other = fs::read_to_string(&key).unwrap();
        Authority::renew(&folder, &[]).unwrap();
        let own = fs::read_to_string(&key).unwrap();
        let (_, certificate) = own.split_once("-----END PRIVATE KEY-----").unwrap();
        let (stray, _) = other.split_once("-----BEGIN CERTIFICATE").unwrap();
        for (text, said) in [
            (String::new(), "is damaged: it has no key"),
            (stray.to_owned(), "is damaged: key and certificate do not belong together"),
            (format!("{stray}{certificate}"), "is damaged: key and certificate do not belong together"),
        ] {
            fs::write(&key, &text).unwrap();
            let error = Authority::open(&folder, &[]).err().unwrap();
            assert!(error.to_string().ends_with(said), "{error}");
            assert!(error.hint().contains("rdsgate cert --renew"));
            assert_eq!(fs::read_to_string(&key).unwrap(), text);
        }
        fs::write(&key, own).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Authority::open(&folder, &[]), Err(Error::Exposed(_))));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        // What is there is read, as from a volume of somebody else's making.
        Authority::open(&folder, &[]).unwrap();
        let error = Authority::renew(&folder, &[]).err().unwrap();
        assert!(matches!(&error, Error::OpenFolder(_)) && error.hint().contains("chmod 700"), "{error}");
    }

    #[test]
    fn key_and_certificate_may_be_two_files_behind_links() {
        let made = tempfile::tempdir().unwrap();
        let made = made.path().join("ca");
        let pem = Authority::open(&made, &[]).unwrap().certificate_pem();
        let both = fs::read_to_string(made.join("ca.key")).unwrap();
        let (key, _) = both.split_once("-----BEGIN CERTIFICATE").unwrap();
        let volume = tempfile::tempdir().unwrap();
        let data = volume.path().join("..data");
        fs::create_dir(&data).unwrap();
        for (name, text) in [("ca.key", key), ("ca.pem", &pem)] {
            fs::write(data.join(name), text).unwrap();
            std::os::unix::fs::symlink(data.join(name), volume.path().join(name)).unwrap();
        }
        fs::set_permissions(data.join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Authority::open(volume.path(), &[]).unwrap().certificate_pem(), pem);
        let files = fs::read_dir(volume.path()).unwrap().count();
        assert_eq!(files, 3, "nothing is written");
    }
}
