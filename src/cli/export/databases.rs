//! The settings files of the databases' own programs.

use std::fmt::Write as _;

use crate::local_connection::{Connection, Unwritable};

/// Sections of libpq's connection service file (PostgreSQL, "The Connection Service File").
///
/// # Errors
/// A value ends with its line and loses white space at its end; there is no way to say otherwise.
pub(super) fn pgservice(connections: &[Connection<'_>]) -> Result<String, Unwritable> {
    let mut sections = Vec::new();
    for connection in connections {
        let mut text = format!("[{}]\nhost={}\nport={}\n", connection.target.name, connection.host, connection.port);
        for (key, what, value) in [
            ("user", "the user", connection.target.user.as_deref()),
            ("dbname", "the database", connection.target.database.as_deref()),
        ] {
            let Some(value) = value else { continue };
            if value.contains(['\n', '\r']) || value.trim() != value {
                return Err(Unwritable { what, name: value.into(), form: "a line of pg_service.conf" });
            }
            let _ = writeln!(text, "{key}={value}");
        }
        match connection.ca() {
            Some(ca) => _ = writeln!(text, "sslmode=verify-full\nsslrootcert={ca}"),
            None => text.push_str("sslmode=disable\n"),
        }
        sections.push(text);
    }
    Ok(sections.join("\n"))
}

/// Groups of an option file (MySQL and MariaDB, "Using Option Files"), chosen with `--defaults-group-suffix`.
/// Values stand in quotes with their escapes.
pub(super) fn mycnf(connections: &[Connection<'_>]) -> String {
    let mut groups = Vec::new();
    for connection in connections {
        let name = &connection.target.name;
        let mut text = match connection.socket {
            Some(path) => format!("[client_{name}]\nprotocol=socket\nsocket={}\n", option(path)),
            None => format!("[client_{name}]\nprotocol=tcp\nhost={}\nport={}\n", connection.host, connection.port),
        };
        if let Some(user) = &connection.target.user {
            let _ = writeln!(text, "user={}", option(user));
        }
        // MariaDB's programs insist on TLS since 11.4. Those of MySQL do not know its words, nor it theirs.
        let _ = match connection.ca() {
            Some(ca) => write!(
                text,
                "ssl-ca={}\nloose-ssl-mode=VERIFY_IDENTITY\n[client-mariadb_{name}]\nssl-verify-server-cert\n",
                option(ca)
            ),
            None => write!(text, "[client-mariadb_{name}]\nskip-ssl\nskip-ssl-verify-server-cert\n"),
        };
        if let Some(database) = &connection.target.database {
            // Not every program of the group [client] knows the option.
            let _ = write!(text, "[mysql_{name}]\ndatabase={}\n", option(database));
        }
        groups.push(text);
    }
    groups.join("\n")
}

/// A value in double quotes with the escapes of option files.
fn option(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@/".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    let mut text = String::from('"');
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
