//! A person at a shell who types the lines of the documents.

use std::process::Stdio;

use sandbox::Sandbox;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use super::{
    gate::{BASTION, PATIENCE, Ran, sandbox},
    servers::{Engine, Server},
};

/// A person at a shell, whose own file describes the database as `orders`.
pub(crate) struct Desk {
    pub(crate) sandbox: Sandbox,
    pub(crate) home: TempDir,
}

impl Desk {
    pub(crate) async fn new(server: &Server) -> Self {
        Self::with(sandbox(server).await, server)
    }

    pub(crate) fn with(sandbox: Sandbox, server: &Server) -> Self {
        let home = tempfile::tempdir().expect("there is room for temporary files");
        let desk = Self { sandbox, home };
        desk.describe(server, &target("orders", server));
        desk
    }

    /// Writes the person's own file.
    pub(crate) fn describe(&self, server: &Server, targets: &str) {
        let folder = self.home.path().join(".config/rdsgate");
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let defaults = format!("[defaults]\nbastion = \"{BASTION}\"\nca_file = \"{}\"\n\n", server.ca.display());
        std::fs::write(folder.join("config.toml"), defaults + targets).expect("the folder is ours");
    }

    /// The shell that runs `lines`, with rdsgate in its path. Processes of the lines end with it.
    fn shell(&self, lines: &str) -> Command {
        let rdsgate = std::path::Path::new(env!("CARGO_BIN_EXE_rdsgate"));
        let path = std::env::var("PATH").unwrap_or_default();
        let folder = rdsgate.parent().expect("a file is in a folder").display();
        let mut shell = Command::new("bash");
        shell
            .args(["--norc", "-c", &format!("set -e\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{lines}")])
            .current_dir(self.home.path())
            .env_clear()
            .envs(self.sandbox.env())
            .env("PATH", format!("{folder}:{path}"))
            .env("HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path().join("run"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        shell
    }

    /// The output of the lines, each of which must succeed.
    pub(crate) async fn types(&self, lines: &str) -> String {
        self.types_with(lines, &[]).await.stdout
    }

    pub(crate) async fn types_with(&self, lines: &str, env: &[(&str, &str)]) -> Ran {
        let output = self.shell(lines).envs(env.iter().copied()).output();
        let output = timeout(PATIENCE, output).await.expect("the shell ends").expect("bash is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let ran = Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(ran.status.success(), "{lines}\n{ran:?}");
        ran
    }
}

/// The description of a target that listens on a port of the system's choice.
pub(crate) fn target(name: &str, server: &Server) -> String {
    let engine = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
    format!(
        "[targets.{name}]\nhost = \"{}\"\nengine = \"{engine}\"\nuser = \"app_user\"\ndatabase = \"appdb\"\n\
         listen = \"localhost:0\"\n\n",
        server.rds_host
    )
}

/// Starts the targets in the background, waits for one, and learns its port, which is 5432 in the documents.
pub(crate) const UP: &str =
    "rdsgate up 2>>log >>log & rdsgate wait orders\nport=$(rdsgate url orders | sed 's,.*:\\([0-9]*\\)/.*,\\1,')\n";

/// Forwards a port in the background, and learns the local one, which is 9090 or 6432 in the documents.
pub(crate) fn forward(what: &str) -> String {
    format!(
        "mkfifo said; rdsgate forward {what} --listen localhost:0 >said 2>>log & exec 3<said\n\
         while read -r word address _ <&3; do [ \"$word\" = forwarding ] && break; done; port=${{address##*:}}\n"
    )
}
