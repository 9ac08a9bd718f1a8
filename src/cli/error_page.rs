//! docs/errors.md: what fails, in the words of the program, with its hint. The sentences are those of the errors themselves.

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, io, path::Path, sync::Arc, time::Duration};

    use database_wire::{mysql, postgres};

    use crate::{
        app, aws,
        cli::exit::Exit,
        connect::{self, Step},
        engine::{self, Applicant},
        local_connection::tests::target,
        login::Login,
        target::{Engine, Remote, UserMapping},
        tls,
        tunnel::StreamError,
    };

    const INTRODUCTION: &str = "\
# Errors

Generated from the errors of the program; `RDSGATE_WRITE_DOCS=1 cargo test --lib committed` writes it again.

For looking up what psql, mysql or rdsgate has printed. The first line of a message has the cause and the first remedy; psql shows the
stage under `DETAIL` and all of the remedy under `HINT`. [Troubleshooting](troubleshooting.md) has the common messages with more words,
[`rdsgate doctor TARGET`](doctor.md) finds most causes by itself. The code is the [exit code](commands.md#exit-codes) of doctor, `run`,
`psql` and `mysql`.

In the examples the target is `orders`, the user `app_user`, and the bastion `i-0123456789abcdef0`.
";
    const SERVERS: &str = "
## Refused by the database

Decided by the server's code, which is the same in every language and version. With an IAM login:
";
    const PERMISSION: &str =
        "rds-db:connect on arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABCDEFGHIJKL01234/app_user";

    fn page() -> String {
        let mut page = String::from(INTRODUCTION);
        table(&mut page, "Steps that take too long", &["step", "remedy", "code"], steps());
        table(&mut page, "AWS credentials", &["message", "remedy", "code"], of_aws(credentials()));
        table(&mut page, "Calls to AWS, and the session", &["message", "remedy", "code"], of_aws(calls()));
        table(&mut page, "The connection to the database", &["message", "remedy", "code"], connections());
        page.push_str(SERVERS);
        for (name, rows) in [("PostgreSQL", postgres()), ("MySQL and MariaDB", mysql())] {
            let _ = write!(page, "\n### {name}\n");
            rows_of(&mut page, &["code", "remedy"], rows);
        }
        page
    }

    fn table<const N: usize>(page: &mut String, title: &str, head: &[&str; N], rows: Vec<[String; N]>) {
        let _ = write!(page, "\n## {title}\n");
        rows_of(page, head, rows);
    }

    fn rows_of<const N: usize>(page: &mut String, head: &[&str; N], rows: Vec<[String; N]>) {
        let _ = write!(page, "\n| {} |\n|{}\n", head.join(" | "), " --- |".repeat(N));
        for row in rows {
            let _ = writeln!(page, "| {} |", row.map(|cell| cell.replace('\n', "<br>")).join(" | "));
        }
    }

    fn code(cause: app::Cause) -> String {
        Exit::from(cause).code().to_string()
    }

    /// A sentence as text of Markdown.
    fn text(sentence: &str) -> String {
        let special = |c| ['|', '*', '_', '`', '<'].contains(&c);
        sentence.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
    }

    fn steps() -> Vec<[String; 3]> {
        let target = target(Engine::Postgres, Some("app_user"), None, "5432");
        let row = |step: Step| {
            let error = connect::Error::Timeout { step, after: Duration::from_secs(8), before: Duration::ZERO };
            [
                step.name(Remote::Database).into(),
                text(&step.timeout_hint(&target).unwrap_or_default()),
                code((&error).into()),
            ]
        };
        Step::ALL.map(row).into()
    }

    fn of_aws(errors: Vec<aws::Error>) -> Vec<[String; 3]> {
        let row =
            |error: aws::Error| [format!("`{error}`"), text(&error.hint().unwrap_or_default()), code((&error).into())];
        errors.into_iter().map(row).collect()
    }

    fn cause() -> Arc<dyn std::error::Error + Send + Sync> {
        Arc::new(io::Error::other("…"))
    }

    fn credentials() -> Vec<aws::Error> {
        use aws::Error;
        let profile = || "dev".to_owned();
        vec![
            Error::NoCredentials { profile: None, cause: cause() },
            Error::ProfileNotFound { profile: "dve".into(), known: vec![profile(), "live".into()], stray: None },
            Error::ChainBroken { profile: profile(), missing: "role_arn".into() },
            Error::SsoSessionOver { profile: profile(), cause: cause() },
            Error::SsoLogin { profile: profile(), reason: "…" },
            Error::SsoRole { profile: profile(), code: "ForbiddenException".into(), message: "No access".into() },
            Error::ConsoleSessionOver { profile: profile(), cause: cause() },
            Error::ConsoleLogin { profile: profile() },
            Error::CredentialsExpired {
                profile: Some(profile()),
                place: None,
                since: std::time::UNIX_EPOCH + Duration::from_secs(1_767_323_045),
            },
            Error::CredentialsRefused {
                operation: "StartSession",
                profile: None,
                code: "ExpiredTokenException".into(),
            },
            Error::CredentialsTimeout { after: Duration::from_secs(20) },
            Error::CredentialsTransport { cause: cause() },
            Error::Credentials { profile: Some(profile()), cause: cause() },
            Error::WebIdentity { file: "/var/run/token".into(), cause: cause() },
            Error::MfaNeeded { device: "arn:aws:iam::123456789012:mfa/ada".into() },
            Error::MfaCommand { reason: "…".into() },
            Error::MfaRefused { device: "arn:aws:iam::123456789012:mfa/ada".into(), message: "…".into() },
            Error::RoleDenied {
                role: "arn:aws:iam::123456789012:role/db".into(),
                external_id: false,
                message: "…".into(),
            },
            Error::TokenFile { path: "~/.aws/sso/cache/….json".into(), cause: Arc::new(io::Error::other("…")) },
            Error::Secret { secret: "the secret prod/orders".into(), problem: "…".into() },
            Error::NoMasterSecret { host: "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".into() },
            Error::PasswordCommand { reason: "…".into() },
            Error::PasswordRefused { secret: "the secret prod/orders".into() },
        ]
    }

    fn calls() -> Vec<aws::Error> {
        use aws::Error;
        let region = || "eu-central-1".parse().unwrap();
        let refused =
            |code: &str| Error::BadRequest { operation: "StartSession", code: code.into(), message: "…".into() };
        let denied = |operation| Error::AccessDenied { operation, message: "…".into() };
        vec![
            Error::TargetNotConnected { target: "i-0123456789abcdef0".parse().unwrap(), region: region() },
            Error::InvalidDocument { document: "AWS-StartPortForwarding".into(), region: region() },
            denied("StartSession"),
            denied("ResumeSession"),
            denied("GetSecretValue"),
            refused("ValidationException"),
            refused("BadRequest"),
            refused("InvalidSignatureException"),
            Error::Throttled { operation: "StartSession" },
            Error::Timeout { operation: "StartSession", cause: cause() },
            Error::Transport { operation: "StartSession", cause: cause() },
        ]
    }

    fn connections() -> Vec<[String; 3]> {
        let target = target(Engine::Postgres, Some("app_user"), None, "5432");
        let errors = [
            connect::Error::Stream(StreamError::Refused),
            connect::Error::Stream(StreamError::DialTimeout(Duration::from_secs(8))),
            connect::Error::Stream(StreamError::AgentSilent),
            connect::Error::Stream(StreamError::LinkLost),
            connect::Error::Stream(StreamError::SessionEnded("…".into())),
            connect::Error::Tls(tls::Error::CaFile { path: "roots.pem".into(), cause: tls::CaFileError::Empty }),
            connect::Error::Pace(connect::Overrun { ahead: 2000 }),
        ];
        let row = |error: connect::Error| {
            [
                format!("`{}`", error.message(Remote::Database)),
                text(&error.hint(&target).unwrap_or_default()),
                code((&error).into()),
            ]
        };
        errors.map(row).into()
    }

    fn applicant() -> Applicant<'static> {
        Applicant {
            user: "app_user",
            is_unnamed: false,
            login: Login::Iam,
            permission: PERMISSION,
            mapping: UserMapping::OfUser,
        }
    }

    fn postgres() -> Vec<[String; 2]> {
        let codes = [
            ("28000", "auth_failed"),
            ("28000", "InitializeSessionUserId"),
            ("28000", "ClientAuthentication"),
            ("28P01", "auth_failed"),
            ("3D000", "InitPostgres"),
            ("42501", "CheckMyDatabase"),
            ("53300", "InitProcess"),
            ("57P03", "ProcessStartupPacket"),
        ];
        let row = |(sqlstate, routine): (&str, &str)| {
            let body = format!("SFATAL\0C{sqlstate}\0M…\0R{routine}\0\0");
            let error = postgres::ServerError::parse(body.as_bytes()).unwrap().of_database(Some(b"orders_db"));
            let hint = engine::postgres::hint(&error, &applicant()).unwrap();
            [format!("{sqlstate} ({routine})"), text(&hint)]
        };
        codes.map(row).into()
    }

    fn mysql() -> Vec<[String; 2]> {
        let row = |code: u16| {
            let error = [&b"\xff"[..], &code.to_le_bytes(), b"#HY000..."].concat();
            let error = mysql::ServerError::parse(&error).unwrap().of_database(Some(b"orders_db"));
            [code.to_string(), text(&engine::mysql::hint(&error, &applicant()).unwrap())]
        };
        [1040, 1044, 1045, 1049, 1053, 1129, 1130, 1524, 3118].map(row).into()
    }

    #[test]
    fn committed_page_is_that_of_these_errors() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
        let page = page();
        if std::env::var_os("RDSGATE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/errors.md is out of date; RDSGATE_WRITE_DOCS=1 cargo test --lib committed writes it"
        );
    }
}
