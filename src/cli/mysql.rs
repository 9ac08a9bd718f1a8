//! `rdsgate mysql`: MySQL's or MariaDB's client with a database at hand.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::Args;
use tokio::process::Command;

use super::{
    command::{self, Program, ProxyArguments},
    exit::Exit,
    output::Output,
};
use crate::{
    local_connection::Connection,
    target::{Engine, Target},
};

/// Open mysql or mariadb on a database
///
/// Runs whichever of the two is there, with host, port, user and database as arguments before yours.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    #[command(flatten)]
    proxy: ProxyArguments,
    /// Arguments of mysql, from the first that is not an option of rdsgate, or after --
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    own: Vec<OsString>,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate mysql my-cluster --user app_user     no file and no bastion needed
  rdsgate mysql shop
  rdsgate mysql shop -e 'select version()'
  rdsgate mysql shop other_db < report.sql
";

/// Options that both clients take as their first ones only.
const FIRST: [&str; 6] = [
    "--defaults-file",
    "--defaults-extra-file",
    "--defaults-group-suffix",
    "--login-path",
    "--no-defaults",
    "--print-defaults",
];

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let client = Client::find().unwrap_or(Client { program: "mysql".into(), of_mariadb: false });
    command::run(&Mysql { client, own: arguments.own }, arguments.proxy, output)
}

struct Mysql {
    client: Client,
    own: Vec<OsString>,
}

impl Program for Mysql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn check(&self, target: &Target, output: &mut Output) -> Result<(), Exit> {
        output.must_be(Engine::Mysql, target, "mysql")
    }

    fn command(&self, connection: &Connection<'_>) -> Command {
        let mut command = Command::new(&self.client.program);
        command.args(arguments(connection, self.client.of_mariadb, &self.own));
        command
    }
}

/// The arguments in the order that the clients want: the user's own go last, so that they win.
fn arguments(connection: &Connection<'_>, of_mariadb: bool, own: &[OsString]) -> Vec<OsString> {
    let first =
        |own: &&OsString| own.to_str().is_some_and(|own| FIRST.contains(&own.split('=').next().unwrap_or_default()));
    let leading = own.iter().take_while(first).count();
    let (leading, rest) = own.split_at(leading);
    let mut arguments = leading.to_vec();
    // An option file may say otherwise. MariaDB's client verifies where it does not encrypt, and then wants TLS after all.
    arguments.push(format!("--protocol={}", if connection.socket.is_some() { "socket" } else { "tcp" }).into());
    let without_tls: &[&str] =
        if of_mariadb { &["--skip-ssl", "--skip-ssl-verify-server-cert"] } else { &["--ssl-mode=DISABLED"] };
    arguments.extend(without_tls.iter().map(OsString::from));
    if let Some(path) = connection.socket {
        arguments.push(format!("--socket={path}").into());
    } else {
        arguments.push(format!("--host={}", connection.host).into());
        arguments.push(format!("--port={}", connection.port).into());
    }
    arguments.extend(connection.target.user.as_ref().map(|user| format!("--user={user}").into()));
    arguments.extend(connection.target.database.as_ref().map(|name| format!("--database={name}").into()));
    arguments.extend_from_slice(rest);
    arguments
}

/// The program of the two; they differ in the words for "no TLS".
struct Client {
    program: PathBuf,
    of_mariadb: bool,
}

impl Client {
    /// `mysql`, or `mariadb` when that is another name of the same or the only one there: newer ones of MariaDB complain
    /// about the old name.
    fn find() -> Option<Self> {
        let mariadb = in_path("mariadb");
        match in_path("mysql") {
            Some(mysql) => Some(match (says_mariadb(&mysql), mariadb) {
                (true, Some(program)) => Self { program, of_mariadb: true },
                (of_mariadb, _) => Self { program: mysql, of_mariadb },
            }),
            None => mariadb.map(|program| Self { program, of_mariadb: true }),
        }
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn says_mariadb(program: &Path) -> bool {
    let output = std::process::Command::new(program).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("MariaDB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_connection::tests::target;

    #[test]
    fn user_arguments_go_last_except_those_that_must_be_first() {
        let target = target(Engine::Mysql, Some("app"), Some("shop"), "3307");
        let connection = Connection::new(&target, &[]);
        let own = ["--defaults-file=/x", "--no-defaults", "-e", "--defaults-file"].map(OsString::from);
        assert_eq!(
            arguments(&connection, true, &own),
            [
                "--defaults-file=/x",
                "--no-defaults",
                "--protocol=tcp",
                "--skip-ssl",
                "--skip-ssl-verify-server-cert",
                "--host=127.0.0.1",
                "--port=3307",
                "--user=app",
                "--database=shop",
                "-e",
                "--defaults-file"
            ]
        );
        let bare = crate::local_connection::tests::target(Engine::Mysql, None, None, "3306");
        assert_eq!(
            arguments(&Connection::new(&bare, &[]), false, &[]),
            ["--protocol=tcp", "--ssl-mode=DISABLED", "--host=127.0.0.1", "--port=3306"]
        );
    }
}
