//! The output of `rdsgate env`, evaluated by the programs that it is for: whatever characters a name has, each reads the name
//! back, and nothing of it is run. Where a shell is not installed its test reports "ignored": libtest decides that when it
//! compiles, hence a harness of their own.

#![allow(clippy::indexing_slicing, clippy::format_push_string, reason = "a panic is a failure here")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::indexing_slicing, clippy::format_push_string, reason = "it is shared with `tests/it`")]
mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::OnceLock,
};

use libtest_mimic::{Arguments, Completion, Trial};
use tempfile::TempDir;

use support::clients;

fn main() -> ExitCode {
    let tests = vec![
        with("sh", "sh_reads_every_name_back", || evaluated("sh", &[], "sh", "eval \"$(cat FILE)\"")),
        with("bash", "bash_reads_every_name_back", || evaluated("bash", &["--norc"], "sh", "eval \"$(cat FILE)\"")),
        with("zsh", "zsh_reads_every_name_back", || evaluated("zsh", &["-f"], "sh", "eval \"$(cat FILE)\"")),
        with("fish", "fish_reads_every_name_back", || evaluated("fish", &["--no-config"], "fish", "source FILE")),
        with("sh", "sh_sources_a_dotenv_file", || evaluated("sh", &[], "dotenv", ". FILE")),
        with("bash", "bash_sources_a_dotenv_file", || evaluated("bash", &["--norc"], "dotenv", ". FILE")),
        with("zsh", "zsh_sources_a_dotenv_file", || evaluated("zsh", &["-f"], "dotenv", ". FILE")),
        with("python3", "python_dotenv_and_docker_read_the_names_back", python_dotenv_and_docker_read_the_names_back),
        with("bash", "bash_completes_targets_profiles_regions_engines_and_formats", bash_completes),
        with("zsh", "zsh_completes_targets_profiles_regions_engines_and_formats", zsh_completes),
        with("fish", "fish_completes_targets_profiles_regions_engines_and_formats", fish_completes),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test that needs a program, and says so where it does not run.
fn with(program: &'static str, name: &str, test: fn()) -> Trial {
    Trial::ignorable_test(name, move || {
        if Command::new(program).arg("-c").arg("").stdin(Stdio::null()).output().is_err() {
            return Ok(Completion::ignored_with(format!("{program} is not installed")));
        }
        test();
        Ok(Completion::Completed)
    })
}

/// Between values: no name has it.
const SEPARATOR: char = '\u{1}';
const NAMES: [&str; 2] = ["PGUSER", "PGDATABASE"];

/// Names with every printable character of ASCII at the start, in the middle and at the end, and what a shell may make of
/// several of them.
fn names() -> Vec<String> {
    let odd = [
        "%self",
        "=ls",
        "~",
        "~root",
        "a:~",
        "a=~root",
        "-n",
        "!!",
        "{a,b}",
        "$(touch run)",
        "`touch run`",
        "a&touch run",
        "a;touch run",
        "a|touch run",
        "a\\",
        "\\",
        "'",
        "''",
        "it's",
        "\"",
        "a\"b'c",
        "${HOME}",
        "$HOME",
        "$'a'",
        "#a",
        "a #b",
        " a ",
        "a\\'b",
        "a\\\\b",
        "\\n",
        "^a^b",
        "<(touch run)",
        "zoë",
        "日本",
        "[a]",
        "a?b&c=d",
        "%%",
        "(touch run)",
        "**",
    ];
    let each = (' '..='~').flat_map(|c| [format!("{c}a{c}b{c}"), format!("{c}")]);
    let names = odd.into_iter().map(str::to_owned).chain(each);
    // Text of white space alone is not a name.
    names.filter(|name| !name.trim().is_empty()).collect()
}

/// A user with a configuration file for each name, whose target has it as user and as database.
struct User(TempDir);

impl User {
    fn new(names: &[String]) -> Self {
        let root = tempfile::tempdir().expect("there is a folder for temporary files");
        for (number, name) in names.iter().enumerate() {
            let name = serde_json::to_string(name).expect("text");
            let target = format!(
                "[targets.orders]\nhost = \"orders.c1abcdefghij.eu-central-1.rds.amazonaws.com\"\nuser = {name}\n\
                 database = {name}\nbastion = \"i-0123456789abcdef0\"\n"
            );
            fs::write(root.path().join(format!("{number}.toml")), target).expect("the folder is ours");
        }
        Self(root)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The environment of the target in a format; `None` when the program refuses to write it.
    fn env(&self, number: usize, format: &str) -> Option<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_rdsgate"))
            .args(["env", "orders", "--format", format])
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("RDSGATE_CONFIG", self.path().join(format!("{number}.toml")))
            .env("XDG_RUNTIME_DIR", self.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .output()
            .expect("cargo built rdsgate");
        let stderr = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Some(String::from_utf8(output.stdout).expect("it prints UTF-8")),
            Some(2) if stderr.contains("cannot be written") => None,
            other => panic!("{number}.toml: {other:?}: {stderr}"),
        }
    }

    /// Runs a script that prints values behind each other.
    fn values(&self, command: &mut Command) -> Vec<String> {
        let command = command.current_dir(self.path()).env_clear().env("HOME", self.path());
        let command = command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let output = command.stdin(Stdio::null()).output();
        let output =
            output.unwrap_or_else(|error| panic!("{command:?}: {error}; tests/servers/install test installs it"));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut values: Vec<String> = text.split(SEPARATOR).map(str::to_owned).collect();
        assert_eq!(values.pop().as_deref(), Some(""), "each ends with the separator");
        values
    }

    fn ran_nothing(&self) {
        let files: Vec<_> =
            fs::read_dir(self.path()).expect("it is there").flatten().map(|file| file.file_name()).collect();
        assert!(!files.iter().any(|name| name == "run"), "a name was run: {files:?}");
    }
}

/// The output for each name in a format; `None` where that is refused.
fn printed(format: &'static str) -> &'static [Option<String>] {
    static PRINTED: [(&str, OnceLock<Vec<Option<String>>>); 4] =
        [("sh", OnceLock::new()), ("fish", OnceLock::new()), ("dotenv", OnceLock::new()), ("docker", OnceLock::new())];
    let (_, printed) = PRINTED.iter().find(|(name, _)| *name == format).expect("a format");
    printed.get_or_init(|| {
        let names = names();
        let user = User::new(&names);
        (0..names.len()).map(|number| user.env(number, format)).collect()
    })
}

/// Has a shell evaluate what is printed for it and say what it has understood.
fn evaluated(shell: &str, options: &[&str], format: &'static str, evaluate: &str) {
    let names = names();
    let user = User::new(&[]);
    let (mut script, mut expected) = (String::new(), Vec::new());
    for (number, (name, text)) in names.iter().zip(printed(format)).enumerate() {
        let Some(text) = text else {
            assert_eq!(format, "dotenv", "only .env files cannot have every name: {name}");
            continue;
        };
        fs::write(user.path().join(format!("env{number}")), text).expect("the folder is ours");
        script += &evaluate.replace("FILE", &format!("./env{number}"));
        let variables = NAMES.map(|name| format!("\"${name}\"")).join(" ");
        script += &format!("\nprintf '%s\\001' {variables}\n");
        expected.extend([name.clone(), name.clone()]);
    }
    assert!(expected.len() > names.len(), "most names can be written");
    fs::write(user.path().join("script"), script).expect("the folder is ours");
    assert_eq!(user.values(Command::new(shell).args(options).arg("./script")), expected);
    user.ran_nothing();
}

fn python_dotenv_and_docker_read_the_names_back() {
    let names = names();
    let user = User::new(&[]);
    let (mut files, mut expected) = (Vec::new(), Vec::new());
    for (number, name) in names.iter().enumerate() {
        // docker takes a line as it is (docs.docker.com, "docker container run", --env-file).
        let docker = printed("docker")[number].as_deref().expect("nothing in these names controls a terminal");
        let read: BTreeMap<&str, &str> = docker.lines().filter_map(|line| line.split_once('=')).collect();
        assert_eq!(NAMES.map(|variable| read[variable]), [name.as_str(); 2], "{docker}");
        let Some(text) = &printed("dotenv")[number] else { continue };
        let file = user.path().join(format!("env{number}"));
        fs::write(&file, text).expect("the folder is ours");
        files.push(file);
        expected.extend([name.clone(), name.clone()]);
    }
    let mut python = clients::python("reads_dotenv.py");
    assert_eq!(user.values(python.args(NAMES).args(files)), expected);
}

/// Command lines whose last word is being typed, and the whole words that complete it.
const TYPED: [(&str, &[&str]); 7] = [
    ("rdsgate psql or", &["orders", "orders-ro"]),
    ("rdsgate ls --profile de", &["dev", "demo"]),
    ("rdsgate ls --region eu-central-", &["eu-central-1", "eu-central-2"]),
    ("rdsgate up --engine my", &["mysql"]),
    ("rdsgate url orders --format jd", &["jdbc"]),
    ("rdsgate export data", &["datagrip"]),
    ("rdsgate config ch", &["check"]),
];

/// A folder with targets, profiles, the program in `bin`, and the script of a shell.
fn to_complete(shell: &str) -> TempDir {
    let root = tempfile::tempdir().expect("there is a folder for temporary files");
    let target = |name: &str| format!("[targets.{name}]\nhost = 'a.c1abcdefghij.eu-central-1.rds.amazonaws.com'\n");
    fs::write(root.path().join(".rdsgate.toml"), target("orders") + &target("orders-ro") + &target("billing"))
        .expect("the folder is ours");
    fs::create_dir(root.path().join(".aws")).expect("the folder is ours");
    fs::write(root.path().join(".aws/config"), "[profile dev]\n[profile demo]\n[profile prod]\n")
        .expect("the folder is ours");
    fs::create_dir(root.path().join("bin")).expect("the folder is ours");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rdsgate"), root.path().join("bin/rdsgate"))
        .expect("the folder is ours");
    let script =
        Command::new(env!("CARGO_BIN_EXE_rdsgate")).args(["completion", shell]).output().expect("cargo built it");
    fs::write(root.path().join("script"), script.stdout).expect("the folder is ours");
    root
}

/// The output of a shell that has run `script` in such a folder.
fn shell_in(root: &TempDir, shell: &str, options: &[&str], script: &str) -> String {
    let path = format!("{}/bin:{}", root.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(shell)
        .args(options)
        .args(["-c", script])
        .current_dir(root.path())
        .env_clear()
        .env("HOME", root.path())
        .env("PATH", path)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .expect("the shell is installed");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{script}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn bash_completes() {
    let root = to_complete("bash");
    for (line, expected) in TYPED {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let script = format!(
            "source ./script; COMP_WORDS=({}); COMP_CWORD={}; _rdsgate; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1
        );
        let printed = shell_in(&root, "bash", &["--norc"], &script);
        assert_eq!(sorted(printed.lines()), sorted(expected.iter().copied()), "{line}");
    }
}

fn fish_completes() {
    let root = to_complete("fish");
    for (line, expected) in TYPED {
        let printed = shell_in(&root, "fish", &["--no-config"], &format!("source ./script; complete -C '{line}'"));
        assert_eq!(sorted(printed.lines()), sorted(expected.iter().copied()), "{line}");
    }
}

fn zsh_completes() {
    let root = to_complete("zsh");
    for (line, expected) in TYPED {
        // A shell at a terminal of its own, in which the line and Tab are typed. Behind the list comes the line as it is then.
        let tabs = "\\t".repeat(expected.len());
        let script = format!(
            "zmodload zsh/zpty; zpty inner zsh -f -i; \
             zpty -w inner 'PS1=; PS2=; unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source ./script; \
             dump() {{ print -r -- \"<<$BUFFER>>\" }}; zle -N dump; bindkey \"^X\" dump; LISTMAX=10000; echo READY\"\"ED'; \
             zpty -r inner out '*READYED*'; \
             zpty -w -n inner $'{line}{tabs}\\x18'; zpty -r inner out '*<<*>>*'; print -r -- $out; zpty -d inner"
        );
        let printed = shell_in(&root, "zsh", &["-f"], &script);
        match expected {
            [only] => {
                let (before, _) = line.rsplit_once(' ').expect("several words");
                assert!(printed.contains(&format!("<<{before} {only} >>")), "{line}: {printed:?}");
            }
            several => assert!(several.iter().all(|word| printed.contains(word)), "{line}: {printed:?}"),
        }
    }
}

fn sorted<'a>(words: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut words: Vec<&str> = words.collect();
    words.sort_unstable();
    words
}
