//! The remedies for a login that a server refused. Decided by error code: the same in every language and version, the
//! message is not.

use database_wire::{
    Error,
    mysql::{self, ServerError},
};

use crate::{
    engine::{Applicant, failure::REFUSED_SECRET},
    login::Login,
};

/// [`hint`] for an error that is a refusal.
pub(super) fn of_refusal(error: &Error, applicant: &Applicant<'_>) -> Option<String> {
    match error {
        Error::Mysql(mysql::Error::Refused(server)) => hint(server, applicant),
        _ => None,
    }
}

/// The next thing to try, or `None` when the server's message says all there is.
pub fn hint(error: &ServerError, applicant: &Applicant<'_>) -> Option<String> {
    let Applicant { login, permission, .. } = *applicant;
    let user = quote(applicant.user);
    let hint = match error.code() {
        1045 | 1698 if applicant.is_unnamed => return applicant.choice(),
        1045 | 1698 if login == Login::Secret => REFUSED_SECRET.into(),
        1045 | 1698 if login == Login::Password => {
            "Check the password and the user name. A user of IAM logs in without --auth \
             password."
                .into()
        }
        // ER_ACCESS_DENIED_ERROR, ER_ACCESS_DENIED_NO_PASSWORD_ERROR
        1045 | 1698 => format!(
            "Check, in this order: 1. the IAM policy allows {permission} 2. CREATE USER {user} \
             IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'; 3. the user name's spelling 4. IAM authentication \
             is enabled on the database 5. this machine's clock. {OR_PASSWORD}"
        ),
        // ER_DBACCESS_DENIED_ERROR
        1044 => {
            let database = error.database()?.replace('`', "``");
            format!("As an administrator: GRANT SELECT ON `{database}`.* TO {user};")
        }
        // ER_BAD_DB_ERROR
        1049 => "Name a database that exists, or none.".into(),
        // ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED
        1040 | 1203 | 1226 => "The database is out of connections. Close idle ones, make pools smaller, or raise \
             max_connections (or the user's limit)."
            .into(),
        // ER_HOST_IS_BLOCKED
        1129 => "The database has blocked the bastion's address after too many broken handshakes. As an \
             administrator: FLUSH HOSTS;"
            .into(),
        // ER_HOST_NOT_PRIVILEGED
        1130 => format!("No user may log in from the bastion's address. CREATE USER {user}@'%' …;"),
        // ER_SERVER_SHUTDOWN, ER_SERVER_OFFLINE_MODE
        1053 | 3032 => "The database is starting, stopping or failing over. Try again in a moment.".into(),
        // ER_PLUGIN_IS_NOT_LOADED
        1524 => "Enable IAM database authentication on the instance or cluster.".into(),
        // ER_ACCOUNT_HAS_BEEN_LOCKED, of MySQL and of MariaDB
        3118 | 4151 => format!("As an administrator: ALTER USER {user} ACCOUNT UNLOCK;"),
        _ => return None,
    };
    Some(hint)
}

/// For a user that may have a password instead.
const OR_PASSWORD: &str = "Or use its password: --auth password.";

/// The remedy for a user whom the server asks for something other than a token.
pub fn alter_user_hint(user: &str) -> String {
    format!(
        "As an administrator: ALTER USER {} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'; (CREATE USER for one that does \
         not exist), and see that IAM database authentication is on. {OR_PASSWORD}",
        quote(user)
    )
}

/// A user name as SQL takes it.
fn quote(name: &str) -> String {
    format!("'{}'", name.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::UserMapping;
    use database_wire::mysql::ReplyPosition;

    const APPLICANT: Applicant<'_> = Applicant {
        user: "app_user",
        is_unnamed: false,
        login: Login::Iam,
        permission: "rds-db:connect on arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/app_user",
        mapping: UserMapping::OfUser,
    };

    fn error(code: u16) -> ServerError {
        let error = [&b"\xff"[..], &code.to_le_bytes(), b"#HY000whatever, in any language"].concat();
        ServerError::parse(&error).unwrap().of_database(Some(b"app`db"))
    }

    #[test]
    fn each_way_to_be_refused_has_its_advice() {
        for (code, advice) in [
            (1045, "CREATE USER 'app_user' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS';"),
            (1698, "rds-db:connect on arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/app_user"),
            (1044, "GRANT SELECT ON `app``db`.* TO 'app_user';"),
            (1049, "or none"),
            (1040, "max_connections"),
            (1129, "FLUSH HOSTS"),
            (1130, "'app_user'@'%'"),
            (1053, "Try again"),
            (1524, "Enable IAM"),
            (3118, "ACCOUNT UNLOCK"),
        ] {
            let unnamed = hint(&error(code), &Applicant { user: "ada", is_unnamed: true, ..APPLICANT });
            let names = unnamed.is_some_and(|hint| hint.starts_with("Name a user of the database"));
            assert_eq!(names, [1045, 1698].contains(&code), "{code}");
            let hint = hint(&error(code), &APPLICANT);
            assert!(hint.as_ref().is_some_and(|hint| hint.contains(advice)), "{code}: {hint:?}");
            let told = error(code).encode_with(ReplyPosition::RESPONSE, hint.as_deref());
            assert!(String::from_utf8(told[13..].to_vec()).unwrap().contains(advice), "{code}: fits");
        }
        assert_eq!(hint(&error(1227), &APPLICANT), None);
        let no_database = error(1044).of_database(None);
        assert_eq!(hint(&no_database, &APPLICANT), None, "there is no database to name");
    }

    #[test]
    fn a_user_is_named_as_sql_takes_it() {
        assert_eq!(quote("app+iam@example.com"), "'app+iam@example.com'");
        assert_eq!(quote("a'; drop user \\"), "'a''; drop user \\\\'");
        assert!(
            alter_user_hint("app_user").starts_with("As an administrator: ALTER USER 'app_user' IDENTIFIED WITH AWS")
        );
    }
}
