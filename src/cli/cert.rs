//! `rdsgate cert`: the local certificate authority, and how clients come to trust it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde_json::json;

use super::{exit::Exit, output::Output};
use crate::{
    config::{self, Draft, Environment, Request},
    tls::local::{self, Authority},
};

/// Print the certificate that clients trust for TLS to rdsgate
///
/// The targets with `local_tls` prove themselves with certificates of an authority on this machine, which is made when it is first
/// needed. Its certificate goes to stdout, and the ways to trust it to stderr. It proves the names of this machine and those of
/// local_names, and no others.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Write the certificate to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long, conflicts_with = "out")]
    json: bool,
    /// Make a new authority, which clients have to trust again
    ///
    /// Running processes use the old one until they are started again.
    #[arg(long)]
    renew: bool,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate cert --out rdsgate-ca.pem
  PGSSLMODE=verify-full PGSSLROOTCERT=rdsgate-ca.pem psql -h localhost orders
  rdsgate cert --renew
";

/// A file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct Unwritten {
    path: PathBuf,
    source: io::Error,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let Arguments { out, json, renew } = arguments;
    let environment = match Environment::of_process() {
        Ok(environment) => environment,
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            return Exit::Usage;
        }
    };
    let authority = match authority(&environment, *renew, output) {
        Ok(authority) => authority,
        Err(error) => {
            output.error(&error, Some(&error.hint()));
            return Exit::Failure;
        }
    };
    let pem = authority.certificate_pem();
    let until = day(authority.not_after());
    if *json {
        return output.json(&json!({
            "certificate": pem,
            "path": authority.certificate_path(),
            "not_after": until,
            "names": authority.names(),
        }));
    }
    let path = match out {
        Some(path) => {
            if let Err(source) = fs::write(path, &pem) {
                output.error(&Unwritten { path: path.clone(), source }, None);
                return Exit::Failure;
            }
            path.canonicalize().unwrap_or_else(|_| path.clone())
        }
        None => authority.certificate_path().to_owned(),
    };
    let names = authority.names();
    let names = if names.is_empty() { "all names".into() } else { names.join(", ") };
    output.note(&format!("{} is valid until {until} for {names}. To trust it:", path.display()));
    for line in ways(&path) {
        output.note_to_copy(&line);
    }
    if *renew {
        output.note("Start running rdsgate processes again, and give the new certificate to your clients.");
    }
    if out.is_some() { Exit::Success } else { output.data(&pem) }
}

/// The authority, which is made if there is none. A new one may prove the names of all configured targets.
fn authority(environment: &Environment, renew: bool, output: &mut Output) -> Result<Authority, local::Error> {
    let plan = config::read(&Request::default(), environment, &mut Vec::new());
    let drafts = match plan {
        Ok(plan) => plan.drafts,
        Err(config::Error::NoTargets { .. }) => Vec::new(),
        Err(error) => {
            output.warning(&format!("the configuration is left out: {error}"), error.hint().as_deref());
            Vec::new()
        }
    };
    let folder = drafts.iter().find_map(Draft::authority_folder).map(Path::to_owned);
    let folder = folder.or_else(|| environment.authority_folder()).ok_or(local::Error::NoFolder)?;
    let names: Vec<String> = drafts.iter().flat_map(Draft::local_names).cloned().collect();
    if renew { Authority::renew(&folder, &names) } else { Authority::open(&folder, &names) }
}

/// How programs trust the certificate in a file.
fn ways(path: &Path) -> Vec<String> {
    let path = path.display();
    [
        ("libpq, psycopg", format!("sslmode=verify-full sslrootcert={path} (PGSSLMODE, PGSSLROOTCERT)")),
        ("pgjdbc", format!("?sslmode=verify-full&sslrootcert={path}")),
        ("Node", format!("ssl: {{ ca: fs.readFileSync('{path}') }}, or NODE_EXTRA_CA_CERTS={path}")),
        ("asyncpg", format!("ssl=ssl.create_default_context(cafile='{path}')")),
        ("mysql", format!("--ssl-mode=VERIFY_IDENTITY --ssl-ca={path}")),
        ("mariadb", format!("--ssl-verify-server-cert --ssl-ca={path}")),
        ("PyMySQL", format!("ssl={{'ca': '{path}'}}")),
        ("Connector/J", format!("keytool -importcert -noprompt -alias rdsgate -file {path} -keystore rdsgate.p12 -storepass changeit")),
        (
            "",
            "?sslMode=VERIFY_IDENTITY&trustCertificateKeyStoreUrl=file:rdsgate.p12&trustCertificateKeyStorePassword=changeit"
                .to_owned(),
        ),
    ]
    .map(|(program, way)| format!("  {program:15} {way}"))
    .to_vec()
}

/// A day in UTC, such as `2036-11-25`.
fn day(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map(|timestamp| timestamp.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}
