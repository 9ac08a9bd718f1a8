//! `install.sh` in three shells and the script of the GitHub Action, from a server on loopback that has what a release has; and what
//! it does about downloads that are damaged, cut short or not there, and folders that it may not write to.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use crate::support::{desk::Desk, documents::root, servers::PgServer};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What the server does with a file.
#[derive(Clone)]
enum Reply {
    Whole(Vec<u8>),
    /// Ends the connection in the middle of the body.
    Cut(Vec<u8>),
}

/// A release on loopback, and an empty home.
struct Release {
    address: SocketAddr,
    files: Arc<Mutex<HashMap<String, Reply>>>,
    home: TempDir,
}

impl Release {
    /// Version 1.2.3 with archives for these targets, whose program says its version and its target.
    fn of(targets: &[&str]) -> Self {
        Self::with(targets, |target| format!("echo 'rdsgate 1.2.3 ({target})'"))
    }

    /// The same with another program, the lines of a shell.
    fn with(targets: &[&str], program: impl Fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        let address = listener.local_addr().expect("it is bound");
        let files = Arc::new(Mutex::new(HashMap::new()));
        let served = Arc::clone(&files);
        // It ends with the process: a thread that waits in accept costs nothing.
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let _ = answer(connection, &served);
            }
        });
        let release = Self { address, files, home: tempfile::tempdir().expect("there is room for temporary files") };
        let mut sums = String::new();
        for target in targets {
            let name = format!("rdsgate-1.2.3-{target}.tar.gz");
            let archive = archive(release.home.path(), target, &program(target));
            sums += &format!("{}  {name}\n", sha256(&archive));
            release
                .serve(&format!("/download/v1.2.3/{name}"), Reply::Whole(fs::read(archive).expect("it was written")));
        }
        sums += &format!("{}  rdsgate_1.2.3-1_amd64.deb\n", "0".repeat(64));
        for path in ["/latest/download/SHA256SUMS", "/download/v1.2.3/SHA256SUMS"] {
            release.serve(path, Reply::Whole(sums.clone().into()));
        }
        release
    }

    fn serve(&self, path: &str, reply: Reply) {
        self.files.lock().expect("no holder panics").insert(path.into(), reply);
    }

    /// Changes what the server does with the archive of the usual target.
    fn archive(&self, change: impl FnOnce(Vec<u8>) -> Reply) {
        let path = format!("/download/v1.2.3/rdsgate-1.2.3-{TARGET}.tar.gz");
        let whole = self.files.lock().expect("no holder panics").get(&path).cloned();
        let Some(Reply::Whole(bytes)) = whole else { panic!("{path} is there") };
        self.serve(&path, change(bytes));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Runs the script to its end: whether it succeeded, and what it wrote.
    fn install(&self, shell: &mut Command, arguments: &[&str]) -> (bool, String) {
        let script = fs::File::open(root().join("install.sh")).expect("it is part of the repository");
        // As a person pipes it into a shell.
        shell.args(["-s", "--", "--from", &format!("http://{}", self.address)]).args(arguments).stdin(script);
        shell.env("HOME", self.home.path()).env_remove("http_proxy").current_dir(self.home.path());
        let ran = shell.output().expect("the shell is there");
        (ran.status.success(), String::from_utf8_lossy(&ran.stderr).into_owned())
    }

    /// Asserts that nothing is installed and nothing is left over.
    fn is_empty(&self) {
        fs::create_dir_all(self.path(".local")).expect("the folder is ours");
        let left =
            Command::new("find").arg(self.path(".local")).args(["-type", "f", "-o", "-name", ".rdsgate*"]).output();
        assert_eq!(String::from_utf8_lossy(&left.expect("find is there").stdout), "");
    }
}

fn answer(mut connection: TcpStream, files: &Mutex<HashMap<String, Reply>>) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(connection.try_clone()?).take(10_000);
    reader.read_line(&mut request)?;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let reply = files.lock().expect("no holder panics").get(path).cloned();
    match reply {
        None => write!(connection, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Some(reply) => {
            let (Reply::Whole(body) | Reply::Cut(body)) = &reply;
            let sent = if matches!(reply, Reply::Cut(_)) { &body[..body.len() / 2] } else { body };
            write!(connection, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            connection.write_all(sent)
        }
    }
}

/// Packs an archive as `make dist` lays it out.
fn archive(folder: &Path, target: &str, program: &str) -> PathBuf {
    let name = format!("rdsgate-1.2.3-{target}");
    let work = tempfile::tempdir_in(folder).expect("there is room for temporary files");
    for (path, text) in [
        ("rdsgate", format!("#!/bin/sh\n{program}\n")),
        ("README.md", String::new()),
        ("man/rdsgate.1", String::new()),
        ("man/rdsgate-up.1", String::new()),
        ("completions/rdsgate.bash", String::new()),
        ("completions/_rdsgate", String::new()),
        ("completions/rdsgate.fish", String::new()),
    ] {
        let path = work.path().join(&name).join(path);
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the folder is ours");
        fs::write(path, text).expect("the folder is ours");
    }
    let program = work.path().join(&name).join("rdsgate");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let archive = folder.join(format!("{name}.tar.gz"));
    let tar = Command::new("tar").arg("-czf").arg(&archive).arg("-C").arg(work.path()).arg(&name).status();
    assert!(tar.expect("tar is there").success());
    archive
}

fn sha256(file: &Path) -> String {
    let ran = Command::new("sha256sum").arg(file).output().expect("sha256sum is there");
    String::from_utf8_lossy(&ran.stdout).split(' ').next().expect("a sum").to_owned()
}

/// A folder of programs that answer with these words, which comes first in `PATH`.
fn pretending(shell: &mut Command, folder: &Path, programs: &[(&str, &str)]) {
    fs::create_dir_all(folder).expect("the folder is ours");
    for (name, says) in programs {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{says}\n")).expect("the folder is ours");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    }
    let path = std::env::var("PATH").unwrap_or_default();
    shell.env("PATH", format!("{}:{path}", folder.display()));
}

/// A shell, and the programs beside it where they are not those of this machine.
struct Shell {
    program: PathBuf,
    path: Option<PathBuf>,
}

impl Shell {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.path.as_ref().map(|path| ("PATH", path)));
        command
    }
}

fn shells(folder: &Path) -> Vec<Shell> {
    // Nothing but busybox, as on Alpine: its tar, wget, sha256sum and mktemp too.
    let alone = folder.join("busybox");
    fs::create_dir_all(&alone).expect("the folder is ours");
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let busybox = std::env::split_paths(&paths).map(|folder| folder.join("busybox")).find(|path| path.is_file());
    let busybox = busybox.expect("busybox is there (tests/servers/install test installs it)");
    let installed = Command::new(busybox).args(["--install", "-s"]).arg(&alone).status();
    assert!(installed.expect("busybox runs").success());
    let here = ["dash", "bash"].map(|program| Shell { program: program.into(), path: None });
    here.into_iter().chain([Shell { program: alone.join("sh"), path: Some(alone) }]).collect()
}

#[test]
fn latest_release_is_installed_for_the_user_and_removed_again() {
    let release = Release::of(&[TARGET, "x86_64-unknown-linux-musl"]);
    for shell in shells(release.home.path()) {
        let (ok, said) = release.install(&mut shell.command(), &["--target", TARGET]);
        let bin = release.path(".local/bin");
        assert!(ok && said.contains(&format!("installed rdsgate 1.2.3 ({TARGET}): {}", bin.join("rdsgate").display())));
        assert!(said.contains(&format!("add {} to PATH", bin.display())), "{said}");
        let share = release.path(".local/share");
        for file in [
            "man/man1/rdsgate.1",
            "man/man1/rdsgate-up.1",
            "bash-completion/completions/rdsgate",
            "zsh/site-functions/_rdsgate",
            "fish/vendor_completions.d/rdsgate.fish",
        ] {
            assert!(share.join(file).is_file(), "{file}");
        }
        let names: Vec<_> = fs::read_dir(&bin).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["rdsgate"], "nothing is left over");

        let (ok, said) = release.install(&mut shell.command(), &["--remove"]);
        assert!(ok, "{said}");
        release.is_empty();
    }
}

#[test]
fn build_fits_the_machine() {
    let release =
        Release::of(&[TARGET, "x86_64-unknown-linux-musl", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin"]);
    for (number, (programs, target)) in [
        (&[("uname", "[ $1 = -m ] && echo x86_64 || echo Linux"), ("getconf", "echo glibc 2.36")][..], TARGET),
        (&[("uname", "[ $1 = -m ] && echo amd64 || echo Linux"), ("getconf", "echo glibc 2.17")], TARGET),
        (
            &[("uname", "[ $1 = -m ] && echo x86_64 || echo Linux"), ("getconf", "echo glibc 2.12")],
            "x86_64-unknown-linux-musl",
        ),
        (&[("uname", "[ $1 = -m ] && echo aarch64 || echo Linux")], "aarch64-unknown-linux-gnu"),
        (&[("uname", "[ $1 = -m ] && echo arm64 || echo Darwin")], "aarch64-apple-darwin"),
        (&[("uname", "[ $1 = -m ] && echo x86_64 || echo Darwin"), ("sysctl", "echo 1")], "aarch64-apple-darwin"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut shell = Command::new("sh");
        pretending(&mut shell, &release.path(&format!("pretending-{number}")), programs);
        let (ok, said) = release.install(&mut shell, &[]);
        assert!(ok && said.contains(&format!("installed rdsgate 1.2.3 ({target})")), "{programs:?}: {said}");
    }
    for (name, machine, hint) in [("SunOS", "x86_64", "Linux and macOS"), ("Linux", "riscv64", "cargo install --git")] {
        let mut shell = Command::new("sh");
        let uname = format!("[ $1 = -m ] && echo {machine} || echo {name}");
        pretending(&mut shell, &release.path(name), &[("uname", &uname)]);
        let (ok, said) = release.install(&mut shell, &[]);
        assert!(!ok && said.contains(hint), "{name} {machine}: {said}");
    }
}

#[test]
fn damaged_or_interrupted_download_changes_nothing() {
    for (change, words) in [
        (
            (|mut body: Vec<u8>| {
                let middle = body.len() / 2;
                body[middle] ^= 1;
                Reply::Whole(body)
            }) as fn(Vec<u8>) -> Reply,
            &["is damaged: its SHA-256 is "][..],
        ),
        (|_| Reply::Whole(Vec::new()), &["is damaged: its SHA-256 is "]),
        // A client that does not compare the length finds a damaged file.
        (Reply::Cut, &["failed", "is damaged"]),
    ] {
        let release = Release::of(&[TARGET]);
        release.archive(change);
        for shell in shells(release.home.path()) {
            let (ok, said) = release.install(&mut shell.command(), &["--target", TARGET]);
            assert!(!ok && words.iter().any(|words| said.contains(words)), "{said}");
            assert!(said.contains("hint: run it again; nothing was changed"), "{said}");
            release.is_empty();
        }
    }
}

#[test]
fn earlier_installation_stays_when_another_one_fails() {
    let release = Release::of(&[TARGET]);
    let (ok, said) = release.install(&mut Command::new("sh"), &["--target", TARGET]);
    assert!(ok, "{said}");
    release.archive(Reply::Cut);
    let (ok, _) = release.install(&mut Command::new("sh"), &["--target", TARGET]);
    assert!(!ok);
    let ran = Command::new(release.path(".local/bin/rdsgate")).output().expect("it is there");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("rdsgate 1.2.3 ({TARGET})\n"));
}

#[test]
fn release_or_build_that_does_not_exist_is_named() {
    let release = Release::of(&[TARGET]);
    let url = format!("http://{}", release.address);
    for (arguments, words) in [
        (&["--version", "9.9.9"][..], format!("cannot get release 9.9.9 from {url}")),
        (&["--target", "x86_64-apple-darwin"], "the latest release has no build for x86_64-apple-darwin".into()),
        (
            &["--version", "v1.2.3", "--target", "x86_64-apple-darwin"],
            "release 1.2.3 has no build for x86_64-apple-darwin".into(),
        ),
        (&["--version", "1/../2"], "other characters".into()),
        (&["--version"], "--version needs a value".into()),
        (&["--porfix", "x"], "unknown argument --porfix".into()),
    ] {
        let (ok, said) = release.install(&mut Command::new("sh"), arguments);
        assert!(!ok && said.contains(&words), "{arguments:?}: {said}");
        release.is_empty();
    }
    let gone = Release { address: free_address(), ..Release::of(&[]) };
    let (ok, said) = gone.install(&mut Command::new("sh"), &["--target", TARGET]);
    assert!(!ok && said.contains("cannot find the latest release at http://127.0.0.1:"), "{said}");
}

/// An address at which nothing listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback can be listened on")
}

#[test]
fn folder_that_cannot_be_written_is_found_before_the_download() {
    let release = Release::of(&[TARGET]);
    fs::write(release.path("file"), "").expect("the folder is ours");
    // Not even root makes a folder in /proc.
    for prefix in ["/proc/nowhere".into(), release.path("file").display().to_string()] {
        let (ok, said) = release.install(&mut Command::new("sh"), &["--target", TARGET, "--prefix", &prefix]);
        assert!(!ok && said.contains(&format!("{prefix}/bin cannot be written by ")), "{said}");
        assert!(said.contains("hint: choose a folder of your own: --prefix FOLDER"), "{said}");
        assert!(!said.contains("downloading"), "{said}");
    }
}

#[test]
fn plain_http_is_for_this_machine_only() {
    let release = Release::of(&[]);
    let (ok, said) = release.install(&mut Command::new("sh"), &["--from", "http://mirror.example/rdsgate"]);
    assert!(!ok && said.contains("neither https nor on this machine"), "{said}");
    release.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn action_runs_commands_with_a_database_and_ends_with_their_status() {
    let desk = Desk::new(PgServer::shared()).await;
    let program = |_: &str| format!("exec '{}' \"$@\"", env!("CARGO_BIN_EXE_rdsgate"));
    let release = Release::with(&[TARGET, "aarch64-unknown-linux-gnu"], program);
    let script = root().join("packaging/action").display().to_string();
    let [path, output] = ["path", "output"].map(|name| release.path(name).display().to_string());
    let url = format!("http://{}", release.address);
    let temporary = release.home.path().display().to_string();
    let commands = "test \"$DATABASE_URL\"\npsql -XAtc \"select current_user || ' of ' || current_database()\"";
    let mut environment = vec![
        ("RDSGATE_ACTION_RELEASES", url.as_str()),
        ("RUNNER_TEMP", &temporary),
        ("GITHUB_PATH", &path),
        ("GITHUB_OUTPUT", &output),
        ("RDSGATE_ACTION_TARGET", "orders"),
        ("RDSGATE_ACTION_OPTIONS", "--user app_user\n  --max-sessions 1\n"),
        ("RDSGATE_ACTION_RUN", commands),
    ];
    assert_eq!(desk.types_with(&script, &environment).await.stdout, "app_user of appdb");
    let read = |name: &str| fs::read_to_string(name).expect("it was written");
    assert_eq!(read(&path), format!("{temporary}/rdsgate/bin\n"));
    assert!(read(&output).starts_with("version=rdsgate "), "{}", read(&output));

    // A failure in the middle of a pipe, with lines behind it.
    environment.pop();
    environment.push(("RDSGATE_ACTION_RUN", "sh -c 'exit 7' | cat\necho not reached"));
    let said = desk.types_with(&format!("{script} && exit 1 || echo status $?"), &environment).await.stdout;
    assert_eq!(said, "status 7");

    // Without commands, a target is a mistake, and nothing is installed.
    environment.pop();
    let said = desk.types_with(&format!("{script} && exit 1 || echo status $?"), &environment).await.stdout;
    assert!(said.contains("::error title=rdsgate::") && said.ends_with("status 2"), "{said}");
}
