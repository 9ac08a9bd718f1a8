//! A run of `rdsgate` to its end.

use std::{path::Path, process::Stdio};

use tokio::{process::Command, time::timeout};

use super::gate::PATIENCE;

/// Exit code, standard output and standard error.
pub(crate) type Ran = (i32, String, String);

/// Runs the program with a folder of its own as its home, in that folder.
pub(crate) async fn ran(arguments: &[&str], env: &[(String, String)]) -> Ran {
    let home = tempfile::tempdir().expect("there is room for temporary files");
    ran_in(home.path(), arguments, env).await
}

/// The same in a home that stays.
pub(crate) async fn ran_in(home: &Path, arguments: &[&str], env: &[(String, String)]) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_rdsgate"))
        .args(arguments)
        .current_dir(home)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("RDSGATE_LOG", "error")
        .envs(env.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.expect("it ends").expect("cargo built rdsgate");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
