//! The remedies for a login that a server refused.
//!
//! Decided by SQLSTATE and, where PostgreSQL uses one for several things, by the routine that reported it: both are
//! the same in every language and version, the message is not.

use database_wire::{
    Error,
    postgres::{self, ServerError},
};

use crate::{
    engine::{Applicant, failure::REFUSED_SECRET},
    login::Login,
    target::UserMapping,
};

/// [`hint`] for an error that is a refusal.
pub(super) fn of_refusal(error: &Error, applicant: &Applicant<'_>) -> Option<String> {
    match error {
        Error::Postgres(postgres::Error::Refused(server)) => hint(server, applicant),
        _ => None,
    }
}

/// The next thing to try, or `None` when the server's message says all there is.
pub fn hint(error: &ServerError, applicant: &Applicant<'_>) -> Option<String> {
    let Applicant { user, login, permission, mapping, .. } = *applicant;
    let role = quote_identifier(user);
    if mapping == UserMapping::ByGrant {
        return of_dsql(error, &role, permission);
    }
    let hint = match error.sqlstate().as_str() {
        "28000" | "28P01" if applicant.is_unnamed => return applicant.choice(),
        "28000" => match error.routine() {
            Some(b"InitializeSessionUserId") => format!("As an administrator: {}", let_log_in(user, login)),
            Some(b"read_client_first_message") => {
                "Turn channel binding off in the client: it needs TLS between the client and \
                 the server itself."
                    .into()
            }
            Some(b"ClientAuthentication") => "The server does not accept this user for this database from the \
                 bastion over TLS. On RDS, rdsadmin and replication are closed to all users."
                .into(),
            _ if login != Login::Iam => format!(
                "A member of rds_iam logs in with a token only: leave out {}, or, as an administrator: REVOKE \
                 rds_iam FROM {role};",
                if login == Login::Password { "--auth password" } else { "--secret" }
            ),
            _ => format!(
                "Check, in this order:\n\
                 1. the credentials' IAM policy allows {permission}\n\
                 2. the role may use IAM: GRANT rds_iam TO {role};\n\
                 3. the user name is spelled as in the database, upper and lower case included\n\
                 4. IAM database authentication is enabled on the instance, cluster or RDS Proxy\n\
                 5. this machine's clock is right: a token is valid for 15 minutes\n\
                 The log group iam-db-auth-error of the database, where exported, has the reason."
            ),
        },
        "28P01" => match login {
            Login::Iam => format!(
                "As an administrator: GRANT rds_iam TO {role}; the server checked the token as a password, because the role \
                 is not a member. {OR_PASSWORD}"
            ),
            Login::Secret => REFUSED_SECRET.into(),
            Login::Password => {
                "Check the password and the spelling of the user name. A role that does not exist, has no \
                 password or an expired one is refused in the same words."
                    .into()
            }
        },
        "3D000" => {
            "Name a database that exists: postgres is on every server of RDS. Without a name, clients ask for a \
             database named like the user."
                .into()
        }
        "42501" => {
            let database = quote_identifier(error.database().unwrap_or(user));
            format!("As an administrator: GRANT CONNECT ON DATABASE {database} TO {role};")
        }
        "53300" => "The database is out of connections. Close idle ones, make pools smaller, or raise \
             max_connections (or the role's or database's CONNECTION LIMIT)."
            .into(),
        "57P01" | "57P02" | "57P03" => {
            "The database is starting, stopping or failing over. Try again in a moment.".into()
        }
        _ => return None,
    };
    Some(hint)
}

/// The same for Aurora DSQL ("Troubleshooting issues in Aurora DSQL").
fn of_dsql(error: &ServerError, role: &str, permission: &str) -> Option<String> {
    let map = format!("CREATE ROLE {role} WITH LOGIN; AWS IAM GRANT {role} TO 'ARN of the IAM role';");
    let hint = match error.sqlstate().as_str() {
        // The class of feature_not_supported: a setting of the guard or of the client.
        "0A000" => {
            "Aurora DSQL lacks some settings of PostgreSQL, statement_timeout among them: remove the setting that the \
                    message names from the configuration of rdsgate or of the client."
                .into()
        }
        "3D000" => "A cluster of Aurora DSQL has one database: postgres.".into(),
        // Invalid authorization, and refused connections.
        sqlstate if sqlstate.starts_with("28") || sqlstate.starts_with("08") => format!(
            "Check, in this order:\n\
             1. the credentials' IAM policy allows {permission}\n\
             2. the role exists and is mapped to your IAM role, as admin: {map}\n\
             3. the user name is spelled as in the database, upper and lower case included\n\
             4. this machine's clock is right: a token is valid for 15 minutes"
        ),
        _ => return None,
    };
    Some(hint)
}

/// For a role that may have a password instead.
pub(super) const OR_PASSWORD: &str = "Or log in with the password of the role: --auth password.";

/// The statements for a role that may not log in or does not exist: the server refuses both with one code, by one routine.
pub fn let_log_in(user: &str, login: Login) -> String {
    let role = quote_identifier(user);
    let create = match login {
        Login::Iam => format!("CREATE USER {role}; GRANT rds_iam TO {role};"),
        Login::Password | Login::Secret => format!("CREATE USER {role} PASSWORD '…';"),
    };
    format!("ALTER ROLE {role} LOGIN; or, for a role that does not exist, {create}")
}

/// A role name as SQL takes it: quoted unless it is plain.
pub fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(sqlstate: &str, routine: &str) -> Option<String> {
        hint_of(Login::Iam, sqlstate, routine)
    }

    fn hint_of(login: Login, sqlstate: &str, routine: &str) -> Option<String> {
        let body = format!("SFATAL\0C{sqlstate}\0Mwhatever, in any language\0R{routine}\0\0");
        let error = ServerError::parse(body.as_bytes()).unwrap().of_database(Some(b"Shop"));
        let permission = "rds-db:connect on arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/app_user";
        super::hint(
            &error,
            &Applicant { user: "app_user", is_unnamed: false, login, permission, mapping: UserMapping::OfUser },
        )
    }

    #[test]
    fn role_with_a_password_gets_no_advice_about_tokens_that_it_does_not_have() {
        for (sqlstate, routine, advice) in [
            ("28P01", "auth_failed", "Check the password"),
            ("28000", "auth_failed", "REVOKE rds_iam FROM app_user;"),
            ("28000", "InitializeSessionUserId", "ALTER ROLE app_user LOGIN;"),
            ("28000", "read_client_first_message", "channel binding"),
            ("53300", "InitProcess", "max_connections"),
        ] {
            let hint = hint_of(Login::Password, sqlstate, routine).unwrap();
            assert!(hint.contains(advice) && !hint.contains("rds-db"), "{sqlstate} {routine}: {hint}");
        }
        assert!(hint("28P01", "auth_failed").unwrap().ends_with(OR_PASSWORD));
    }

    #[test]
    fn each_way_to_be_refused_has_its_advice() {
        for (sqlstate, routine, advice) in [
            (
                "28000",
                "auth_failed",
                "1. the credentials' IAM policy allows rds-db:connect on arn:aws:rds-db:eu-central-1",
            ),
            ("28000", "auth_failed", "GRANT rds_iam TO app_user;"),
            ("28000", "InitializeSessionUserId", "ALTER ROLE app_user LOGIN;"),
            ("28000", "ClientAuthentication", "does not accept this user"),
            ("28P01", "auth_failed", "GRANT rds_iam TO app_user;"),
            ("3D000", "InitPostgres", "postgres is on every server of RDS"),
            ("42501", "CheckMyDatabase", "GRANT CONNECT ON DATABASE \"Shop\" TO app_user;"),
            ("53300", "InitProcess", "max_connections"),
            ("57P03", "ProcessStartupPacket", "Try again"),
        ] {
            let hint = hint(sqlstate, routine).unwrap();
            assert!(hint.contains(advice), "{sqlstate} {routine}: {hint}");
        }
        assert_eq!(hint("22023", "set_config_option"), None);
    }

    #[test]
    fn advice_for_dsql_names_its_own_permission_and_mapping() {
        for (sqlstate, advice) in [
            ("28000", "AWS IAM GRANT \"App\" TO"),
            ("08006", "1. the credentials' IAM policy allows dsql:DbConnect on arn"),
            ("0A000", "statement_timeout"),
            ("3D000", "postgres"),
        ] {
            let error = ServerError::parse(format!("SFATAL\0C{sqlstate}\0Mno\0\0").as_bytes()).unwrap();
            let applicant = Applicant {
                user: "App",
                is_unnamed: false,
                login: Login::Iam,
                permission: "dsql:DbConnect on arn",
                mapping: UserMapping::ByGrant,
            };
            let hint = super::hint(&error, &applicant).unwrap();
            assert!(hint.contains(advice) && !hint.contains("rds_iam"), "{sqlstate}: {hint}");
        }
    }

    #[test]
    fn a_role_is_named_as_sql_takes_it() {
        for (name, sql) in [
            ("app_user1", "app_user1"),
            ("_x", "_x"),
            ("App", "\"App\""),
            ("1a", "\"1a\""),
            ("a b", "\"a b\""),
            ("a\"; drop role b; --", "\"a\"\"; drop role b; --\""),
            ("", "\"\""),
        ] {
            assert_eq!(quote_identifier(name), sql);
        }
    }
}
