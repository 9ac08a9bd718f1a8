//! `rdsgate config init`: a first file, made from what AWS lists and at most five answers.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, BufRead, Write as _},
    path::{Path, PathBuf},
};

use clap::Args;

use super::check::{Choice, check};
use crate::{
    aws::{self, Account, Options, nodes::Node, rds::Database},
    cli::{
        account::{AccountArguments, Known},
        again::again,
        complete::exit_of,
        exit::Exit,
        ls::{self, Listed},
        output::Output,
        terminal,
    },
    config::{self, Environment},
    discover,
    service::Service,
    target::{Engine, Region},
};

/// The most questions that are asked. What a further one would ask is left out of the file, or the first choice is taken.
const MAX_QUESTIONS: usize = 5;

/// The arguments of `config init`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Another file to write
    #[arg(long, value_name = "FILE", default_value = config::PROJECT_FILE)]
    file: PathBuf,
    /// Ask nothing: write a target for each database of the account and region
    #[arg(long)]
    from_aws: bool,
    /// The database user to write
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    #[command(flatten)]
    account: AccountArguments,
}

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct Error {
    path: String,
    source: io::Error,
}

/// One target to be written.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    name: String,
    host: String,
    /// Where it is not the engine's default.
    port: Option<u16>,
    user: Option<String>,
    database: Option<String>,
    bastion: Option<String>,
}

/// The questions, and how many of them were asked.
struct Questions<'a> {
    output: &'a mut Output,
    input: &'a mut dyn BufRead,
    asked: usize,
}

/// The input has ended before an answer.
struct NoAnswer;

pub(super) fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { file, from_aws, user, account } = arguments;
    if file.exists() {
        return cannot_write(&file, io::ErrorKind::AlreadyExists.into(), output);
    }
    if from_aws {
        return from_list(&file, user.as_deref(), account, output);
    }
    if !terminal::is_attended() {
        let hint = "rdsgate config init --from-aws asks nothing: it describes each database of the account and region";
        output.problem("config init asks questions, and there is no terminal to ask on", Some(hint));
        return Exit::Usage;
    }
    let mut input = io::stdin().lock();
    let mut questions = Questions { output, input: &mut input, asked: 0 };
    match interview(user, account, &mut questions) {
        Ok(Ok((described, profile))) => {
            drop(input);
            let exit = write(&file, std::slice::from_ref(&described), output);
            if exit != Exit::Success {
                return exit;
            }
            if let Some(profile) = profile {
                remember_profile(&profile, output);
            }
            let exit = checked(&file, output);
            if exit == Exit::Success { offer_doctor(&file, &described.name, output) } else { exit }
        }
        Ok(Err(exit)) => exit,
        Err(NoAnswer) => {
            output.note("nothing was written");
            Exit::Failure
        }
    }
}

/// A target for each database, without a question.
fn from_list(file: &Path, user: Option<&str>, account: AccountArguments, output: &mut Output) -> Exit {
    let listed = account.options(output).and_then(|(options, caller)| {
        let mut parts = caller.into_parts(output)?;
        let listed = ls::listed(&options, false, &mut parts, output);
        parts.end();
        let failed = |error: aws::Error| {
            output.error(&error, error.hint().as_deref());
            exit_of(&error)
        };
        listed.map(|listed| (options, listed)).map_err(failed)
    });
    let (options, Listed { databases, nodes }) = match listed {
        Ok(listed) => listed,
        Err(exit) => return exit,
    };
    // A member of a cluster is reached by the cluster's name, which survives a failover.
    let own = databases.iter().filter(|database| {
        let is_member = database.kind == Service::Instance && database.parent.is_some();
        !is_member && database.iam != Some(false)
    });
    let described: Vec<Described> = own
        .filter_map(|database| {
            let user = user.map(str::to_owned).or_else(|| database.user.clone());
            let bastion = beside(database, &nodes).first().map(|node| node.id.clone());
            Described::of(database, user, None, bastion)
        })
        .collect();
    if described.is_empty() {
        let hint = "rdsgate ls shows all databases; --profile and --region select another account and region";
        output.problem(&format!("no database in {} accepts IAM logins", options.region), Some(hint));
        return Exit::Failure;
    }
    match write(file, &described, output) {
        Exit::Success => checked(file, output),
        exit => exit,
    }
}

/// The target that the user describes, and the profile that they chose.
fn interview(
    user: Option<String>,
    mut account: AccountArguments,
    questions: &mut Questions<'_>,
) -> Result<Result<(Described, Option<String>), Exit>, NoAnswer> {
    let profile = match profile_to_choose(&account) {
        Some(profiles) => {
            let chosen = questions.choose("AWS profile", &profiles)?;
            profiles.get(chosen).cloned()
        }
        None => None,
    };
    if let Some(profile) = &profile {
        account.set_profile(profile);
    }
    let Known { identity, region, caller, .. } = match account.known(questions.output) {
        Ok(known) => known,
        Err(exit) => return Ok(Err(exit)),
    };
    let region = match region {
        Some(region) => region,
        None => questions.region()?,
    };
    let options = Options { identity, region };
    let mut parts = match caller.into_parts(questions.output) {
        Ok(parts) => parts,
        Err(exit) => return Ok(Err(exit)),
    };
    let listed = ls::listed(&options, false, &mut parts, questions.output);
    parts.end();
    let Listed { databases, nodes } = match listed {
        Ok(listed) => listed,
        Err(error) => {
            questions.output.error(&error, error.hint().as_deref());
            return Ok(Err(exit_of(&error)));
        }
    };
    let open: Vec<&Database> = databases.iter().filter(|database| database.endpoint().is_some()).collect();
    if open.is_empty() {
        let hint = "--profile and --region select another account and region";
        questions.output.problem(&format!("there are no databases in {}", options.region), Some(hint));
        return Ok(Err(Exit::Failure));
    }
    let lines: Vec<String> = open.iter().map(|database| ls::describe(database)).collect();
    let Some(database) = open.get(questions.choose("database", &lines)?).copied() else {
        return Ok(Err(Exit::Failure));
    };
    let user = if let Some(user) = user {
        user
    } else {
        let usual = database.user.clone().or_else(|| std::env::var("USER").ok()).filter(|user| !user.is_empty());
        questions.text("database user (one that logs in with IAM)", usual.as_deref())?
    };
    let candidates = beside(database, &nodes);
    let bastion = match candidates.as_slice() {
        [] => {
            questions.output.warning(&format!("no managed node is online in the VPC of {}", database.id), None);
            None
        }
        [only] => Some(only.id.clone()),
        [first, ..] if questions.asked >= MAX_QUESTIONS => Some(first.id.clone()),
        several => {
            let lines: Vec<String> = several.iter().map(|node| discover::describe(node)).collect();
            several.get(questions.choose("bastion", &lines)?).map(|node| node.id.clone())
        }
    };
    let name = if questions.asked < MAX_QUESTIONS {
        // A client of such an engine that names none asks for a database called like the user.
        let usual = database.protocol().and_then(|engine| engine.facts().maintenance_database).unwrap_or("none");
        Some(questions.text("database inside it", Some(usual))?).filter(|name| name != "none")
    } else {
        None
    };
    Ok(match Described::of(database, Some(user), name, bastion) {
        Some(described) => Ok((described, profile)),
        None => Err(Exit::Failure),
    })
}

/// The profiles to choose from, where nothing else says which one is meant.
fn profile_to_choose(account: &AccountArguments) -> Option<Vec<String>> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables = ["RDSGATE_PROFILE", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID"];
    if account.names_a_profile() || variables.into_iter().any(set) {
        return None;
    }
    let profiles = Account::profiles();
    let is_default = |name: &String| name == "default";
    (profiles.len() > 1 || profiles.first().is_some_and(|name| !is_default(name))).then_some(profiles)
}

/// The nodes in the VPC of a database.
fn beside<'a>(database: &Database, nodes: &'a [Node]) -> Vec<&'a Node> {
    nodes.iter().filter(|node| database.vpc.is_some() && node.vpc == database.vpc).collect()
}

impl Questions<'_> {
    fn choose(&mut self, question: &str, lines: &[String]) -> Result<usize, NoAnswer> {
        if lines.len() == 1 {
            return Ok(0);
        }
        self.asked += 1;
        self.output.choose(question, lines, Some(0), self.input).ok_or(NoAnswer)
    }

    fn text(&mut self, question: &str, default: Option<&str>) -> Result<String, NoAnswer> {
        self.asked += 1;
        self.output.ask(question, default, self.input).ok_or(NoAnswer)
    }

    fn region(&mut self) -> Result<Region, NoAnswer> {
        self.asked += 1;
        loop {
            let answer = self.output.ask("AWS region", Some("us-east-1"), self.input).ok_or(NoAnswer)?;
            match answer.parse() {
                Ok(region) => return Ok(region),
                Err(error) => self.output.error(&error, None),
            }
        }
    }
}

impl Described {
    /// `None` for a database without an endpoint.
    fn of(database: &Database, user: Option<String>, name: Option<String>, bastion: Option<String>) -> Option<Self> {
        let endpoint = database.endpoint()?;
        let usual = database.protocol().and_then(Engine::default_port);
        let suffix = if database.kind == Service::Reader { "-ro" } else { "" };
        Some(Self {
            name: format!("{}{suffix}", database.id),
            host: endpoint.host.to_string(),
            port: Some(endpoint.port).filter(|port| Some(*port) != usual),
            user,
            database: name,
            bastion,
        })
    }
}

/// The file. A first line says what it is for, since most readers meet it in a repository.
fn text(described: &[Described]) -> String {
    let mut text = String::from("# rdsgate up serves these databases. Every key: rdsgate config schema\n");
    for Described { name, host, port, user, database, bastion } in described {
        if described.len() > 1 {
            text.push('\n');
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let _ = writeln!(text, "[targets.{}]", quoted_key(name));
        let host = Some(format!("{host}{port}"));
        for (key, value) in [("host", &host), ("user", user), ("database", database), ("bastion", bastion)] {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {}", toml::Value::from(value.as_str()));
            }
        }
    }
    text
}

/// A name with a dot is one key only in quotes.
fn quoted_key(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { name.to_owned() } else { toml::Value::from(name).to_string() }
}

fn write(file: &Path, described: &[Described], output: &mut Output) -> Exit {
    let written = OpenOptions::new().write(true).create_new(true).open(file);
    match written.and_then(|mut file| file.write_all(text(described).as_bytes())) {
        Ok(()) => {
            output.note(&format!("wrote {}", file.display()));
            Exit::Success
        }
        Err(source) => cannot_write(file, source, output),
    }
}

fn cannot_write(file: &Path, source: io::Error, output: &mut Output) -> Exit {
    let exists = source.kind() == io::ErrorKind::AlreadyExists;
    let hint = exists.then_some("it is there already and stays as it is; see rdsgate config show");
    output.error(&Error { path: file.display().to_string(), source }, hint);
    Exit::Failure
}

/// Says who the user is in a file of their own: in a project's file it would need their trust.
fn remember_profile(profile: &str, output: &mut Output) {
    let Some(own) = Environment::of_process().ok().and_then(|environment| environment.own_file()) else { return };
    let text = format!("[defaults]\nprofile = {}\n", toml::Value::from(profile));
    let made = own.parent().map_or(Ok(()), std::fs::create_dir_all);
    let new = made.and_then(|()| OpenOptions::new().write(true).create_new(true).open(&own));
    match new.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => output.note(&format!("wrote {}, which names the profile {profile}", own.display())),
        Err(_) => output.warning(
            &format!("the profile {profile} is in no file"),
            Some(&format!("add profile = \"{profile}\" below [defaults] in {}, or use --profile", own.display())),
        ),
    }
}

fn checked(file: &Path, output: &mut Output) -> Exit {
    check(Choice::of_file(file), output)
}

fn offer_doctor(file: &Path, name: &str, output: &mut Output) -> Exit {
    let question = format!("check the way to {name} now, with rdsgate doctor? y or n");
    let answer = output.ask(&question, Some("y"), &mut io::stdin().lock());
    if answer.is_none_or(|answer| !answer.to_ascii_lowercase().starts_with('y')) {
        output.note(&format!("next: rdsgate up, or rdsgate doctor {name}"));
        return Exit::Success;
    }
    let config = format!("--config={}", file.display());
    let of_project = file == Path::new(config::PROJECT_FILE);
    let words = ["doctor".to_owned(), name.to_owned()].into_iter().chain((!of_project).then_some(config));
    again(words, output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{file::File, origin::Whose};

    fn described(name: &str) -> Described {
        Described {
            name: name.into(),
            host: "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".into(),
            port: Some(5433),
            user: Some("it's \"me\"".into()),
            database: Some("orders_db".into()),
            bastion: Some("i-0123456789abcdef0".into()),
        }
    }

    #[test]
    fn file_of_one_database_has_six_lines_that_all_count() {
        let text = text(&[described("orders")]);
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.contains("host = \"orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5433\"\n"), "{text}");
        let file = File::parse(PathBuf::from("/x.toml"), PathBuf::from("x.toml"), &text, Whose::Project).unwrap();
        assert_eq!(file.target_names().collect::<Vec<_>>(), ["orders"]);
        assert_eq!(
            file.target("orders").unwrap().get(config::Key::User).map(|set| set.value.as_str()),
            Some("it's \"me\"")
        );
    }

    #[test]
    fn files_of_several_databases_are_sound() {
        let text = text(&[described("orders"), described("orders-ro"), described("a.b")]);
        let file = File::parse(PathBuf::from("/x.toml"), PathBuf::from("x.toml"), &text, Whose::Project).unwrap();
        assert_eq!(file.target_names().count(), 3, "{text}");
    }
}
