//! The documents: their links lead somewhere, the site has each page, and each block of commands has a test that types it or a
//! reason why none can.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

use crate::support::{
    desk::{Desk, UP},
    documents::{block, blocks, files, root},
    servers::PgServer,
};

/// What shows that a block of commands works.
enum Shown {
    /// These tests, each `file::name` in tests/it.
    By(&'static [&'static str]),
    /// No test of this suite, for this reason.
    NotHere(&'static str),
}

use Shown::{By, NotHere};

const NEEDS_AWS: Shown = NotHere("needs AWS");
const NEEDS_A_CLUSTER: Shown = NotHere("needs a Kubernetes cluster; .ci/run checks the files against its schemas");

const NEEDS_A_RELEASE: Shown = NotHere("needs a published release; tests/it/install.rs runs install.sh");

/// How each block of commands begins, document by document.
const BLOCKS: &[(&str, &str, Shown)] = &[
    ("README.md", "cargo install --path .", NotHere("cargo has built the program of the tests from the same source")),
    ("README.md", "curl -fsSL", NEEDS_A_RELEASE),
    ("README.md", "rdsgate ls  ", By(&["docs::three_commands_of_the_readme_show_whether_all_is_in_place"])),
    ("README.md", "rdsgate psql orders --user app_user", By(&["docs::shortest_way_of_the_readme_opens_a_prompt"])),
    ("README.md", "$ rdsgate up orders.c1abc", By(&["run::up_says_where_it_listens_and_what_to_type"])),
    (
        "README.md",
        "rdsgate up  ",
        By(&[
            "seeds::several_databases_are_served_at_once",
            "seeds::psql_logs_in_with_a_password",
            "run::a_command_has_the_database_and_its_output_to_itself",
            "service::service_is_written_started_shown_and_removed",
            "status::status_shows_each_process_with_its_targets_connections_and_sessions",
            "verbs::env_for_every_reader",
            "forward::port_of_a_node_itself_needs_no_bastion",
        ]),
    ),
    ("RELEASING.md", "git tag -s", NEEDS_A_RELEASE),
    ("RELEASING.md", "   gh release download", NEEDS_A_RELEASE),
    ("deploy/README.md", "kubectl apply -k", NEEDS_A_CLUSTER),
    ("deploy/README.md", "rdsgate password --file password", NEEDS_A_CLUSTER),
    ("docs/aws.md", "export AWS_ENDPOINT_URL_SSM", NEEDS_AWS),
    (
        "docs/clients.md",
        "rdsgate cert --out",
        By(&[
            "docs::psql_verifies_the_certificate_that_the_page_has_it_write",
            "local_tls::clients_of_mysql_verify_the_gate",
        ]),
    ),
    ("docs/clients.md", "$ rdsgate password orders", By(&["docs::local_password_is_made_and_its_file_is_named"])),
    (
        "docs/configuration.md",
        "rdsgate up    ",
        By(&[
            "seeds::several_databases_are_served_at_once",
            "seeds::mysql_connects_without_plugin_certificate_or_token",
        ]),
    ),
    (
        "docs/containers.md",
        "rdsgate password --file",
        By(&["local_passwords::clients_of_postgresql_prove_that_they_know_the_local_password"]),
    ),
    (
        "docs/containers.md",
        "PGPASSWORD=$(cat",
        By(&["local_passwords::clients_of_postgresql_prove_that_they_know_the_local_password"]),
    ),
    (
        "docs/containers.md",
        "rdsgate up orders --listen localhost:5432,0.0.0.0:6432",
        NotHere("its clients are on another machine, which is a network namespace in tests/root"),
    ),
    (
        "docs/forward.md",
        "$ rdsgate forward",
        By(&["seeds::session_to_the_node_itself_is_started", "seeds::servers_of_every_kind_are_forwarded"]),
    ),
    (
        "docs/forward.md",
        "rdsgate forward orders",
        By(&["forward::psql_verifies_the_real_name_through_a_forwarded_port"]),
    ),
    (
        "docs/operations.md",
        "rdsgate up orders 2>",
        By(&["docs::lines_of_a_job_wait_for_the_database_and_find_its_url"]),
    ),
    ("docs/guides/ci.md", "curl -fsSL", NEEDS_A_RELEASE),
    (
        "docs/guides/environments.md",
        "rdsgate password orders",
        By(&["local_passwords::clients_of_postgresql_prove_that_they_know_the_local_password"]),
    ),
    (
        "docs/guides/migrations.md",
        "rdsgate run orders -- alembic",
        By(&[
            "guides::alembic_migrates_with_the_line_of_its_guide",
            "run::a_command_has_the_database_and_its_output_to_itself",
        ]),
    ),
    (
        "docs/guides/migrations.md",
        "rdsgate run orders -- sh -c 'liquibase",
        NotHere("Liquibase was tried by hand: its 127 MB are too many for each run"),
    ),
    ("docs/guides/tools.md", "psql -h localhost", By(&["guides::command_lines_of_the_guide_open_a_prompt"])),
    ("docs/guides/tools.md", "mysql -h 127.0.0.1", By(&["guides::command_lines_of_the_guide_open_a_prompt"])),
    ("docs/operations.md", "DATABASE_URL=$(grep", By(&["docs::lines_of_a_job_wait_for_the_database_and_find_its_url"])),
    (
        "docs/operations.md",
        "kill -HUP",
        By(&["reload::reload_adds_removes_and_changes_targets_and_leaves_connections_alone"]),
    ),
    (
        "docs/operations.md",
        "systemctl --user disable",
        By(&[
            "service::systemd_starts_rdsgate_at_the_first_connection",
            "service::systemd_accepts_the_unit_and_the_socket_of_the_documentation",
        ]),
    ),
    (
        "docs/operations.md",
        "curl -s localhost:9090/status",
        By(&["admin::a_unix_socket_is_for_our_user_alone_and_goes_with_the_process"]),
    ),
    (
        "docs/trust.md",
        "rdsgate trust  ",
        By(&["trust::repository_is_served_once_it_is_trusted_and_no_longer_when_it_changes"]),
    ),
];

/// The documents that users and contributors read.
fn documents() -> Vec<String> {
    let all = files("md").into_iter().filter(|file| !file.starts_with("tests/vectors"));
    let all: Vec<String> = all.collect();
    assert!(all.len() > 20, "{all:?}");
    all
}

#[test]
fn each_block_of_commands_has_its_test_or_a_reason() {
    let mut wrong = Vec::new();
    let mut unused: Vec<(&str, &str)> = BLOCKS.iter().map(|(page, begins, _)| (*page, *begins)).collect();
    for page in documents() {
        for block in blocks(&page).into_iter().filter(|block| ["sh", "console"].contains(&block.language.as_str())) {
            match unused.iter().position(|(of, begins)| *of == page && block.text.starts_with(begins)) {
                Some(at) => drop(unused.remove(at)),
                None => wrong.push(format!("{page}:{}: no row of BLOCKS for {:?}", block.line, block.text)),
            }
        }
    }
    wrong.extend(unused.iter().map(|(page, begins)| format!("{page} has no block that begins with {begins:?}")));
    for (page, begins, shown) in BLOCKS {
        match shown {
            By(tests) => wrong.extend(
                tests
                    .iter()
                    .filter(|test| !is_a_test(test))
                    .map(|test| format!("{page}, {begins:?}: there is no test {test}")),
            ),
            NotHere(reason) => assert!(!reason.is_empty(), "{page}, {begins:?}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn is_a_test(name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else { return false };
    let source = fs::read_to_string(root().join(format!("tests/it/{file}.rs"))).unwrap_or_default();
    source.contains(&format!("fn {function}()"))
}

#[test]
fn each_link_leads_to_a_file_and_a_heading() {
    let mut places: HashMap<PathBuf, BTreeSet<String>> = HashMap::new();
    let (mut wrong, mut seen) = (String::new(), 0);
    for page in documents() {
        let text = fs::read_to_string(root().join(&page)).expect("documents are UTF-8");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let path = match file {
                "" => PathBuf::from(&page),
                file => normal(&Path::new(&page).parent().expect("a file is in a folder").join(file)),
            };
            let leads = root().join(&path).exists()
                && (heading.is_empty()
                    || places.entry(path.clone()).or_insert_with(|| headings(&path)).contains(heading));
            if !leads {
                wrong += &format!("{page}: {link}\n");
            }
        }
    }
    assert!(seen > 100, "{seen} links");
    assert!(wrong.is_empty(), "links that lead nowhere:\n{wrong}");
}

/// The targets of the links in a document, `[text](target)` and `src="target"`, outside of code.
fn links(text: &str) -> Vec<String> {
    let text = without_code(text);
    let ends = [("](", ')'), ("src=\"", '"'), ("href=\"", '"')];
    let all = ends.into_iter().flat_map(|(begin, end)| {
        let after = text.split(begin).skip(1);
        after.filter_map(move |rest| rest.split_once(end)).map(|(link, _)| link.to_owned()).collect::<Vec<_>>()
    });
    all.collect()
}

/// A document without its blocks of code and without the words in backticks.
fn without_code(text: &str) -> String {
    let mut inside = false;
    let prose = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let prose: Vec<&str> = prose.collect();
    prose.join("\n").split('`').step_by(2).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn headings(page: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_default();
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        inside ^= line.starts_with("```");
        !inside && line.starts_with('#')
    });
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    lines.map(anchor).collect()
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn site_has_each_page_of_the_folder() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("it is in docs");
    let listed = links(&summary).into_iter().map(|link| normal(&Path::new("docs").join(link)).display().to_string());
    let listed: BTreeSet<String> = listed.collect();
    let pages = documents().into_iter().filter(|page| page.starts_with("docs/") && page != "docs/SUMMARY.md");
    let missing: Vec<String> = pages.filter(|page| !listed.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not list {missing:?}");
}

/// Types the commands of a block, one by one as a person does, without input.
async fn typed(desk: &Desk, commands: &str) -> String {
    desk.types(&format!("export PSQLRC=/dev/null\n{commands}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_commands_of_the_readme_show_whether_all_is_in_place() {
    let desk = Desk::new(PgServer::shared()).await;
    let commands = block("README.md", "rdsgate ls  ").replace(" X ", " orders ").replace("USER ", "app_user ");
    assert_eq!(commands.matches(" orders ").count(), 3, "{commands}");
    let said = typed(&desk, &commands).await;
    assert!(said.contains("orders") && said.contains("GRANT rds_iam TO \"app_user\";"), "{said}");
    assert_eq!(desk.sandbox.sessions().iter().filter(|session| session.streams > 0).count(), 1, "psql came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn shortest_way_of_the_readme_opens_a_prompt() {
    let desk = Desk::new(PgServer::shared()).await;
    let command = block("README.md", "rdsgate psql orders --user app_user");
    let said = typed(&desk, &format!("echo 'select 42' | {} -XAt", command.trim_end())).await;
    assert_eq!(said, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_verifies_the_certificate_that_the_page_has_it_write() {
    let server = PgServer::shared();
    let desk = Desk::new(server).await;
    let block = block("docs/clients.md", "rdsgate cert --out");
    // The first two lines; the third is that of MySQL.
    let lines: Vec<String> = block.lines().take(2).map(on_the_free_port).collect();
    let said =
        typed(&desk, &format!("export RDSGATE_LOCAL_TLS=require\n{UP}{}\n{} -Atc 'select 42'", lines[0], lines[1]))
            .await;
    assert!(said.ends_with("42"), "{said}");
}

/// A line of a document for the server of the tests, which is at `$port`.
fn on_the_free_port(line: &str) -> String {
    line.replace("orders_db", "appdb").replace("host=localhost ", "host=localhost port=$port ")
}

#[tokio::test(flavor = "multi_thread")]
async fn local_password_is_made_and_its_file_is_named() {
    let desk = Desk::new(PgServer::shared()).await;
    let block = block("docs/clients.md", "$ rdsgate password orders");
    let (command, printed) = block.split_once('\n').expect("a command and its output");
    let said = typed(&desk, &format!("{} 2>&1", command.trim_start_matches("$ "))).await;
    assert_eq!(said.replace(&desk.home.path().display().to_string(), "/home/ada"), printed.trim_end());
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_job_wait_for_the_database_and_find_its_url() {
    let desk = Desk::new(PgServer::shared()).await;
    let start =
        block("docs/operations.md", "rdsgate up orders 2>").replace("2>rdsgate.log", ">rdsgate.out 2>rdsgate.log");
    // The process is busy elsewhere for longer than a person expects.
    let start = start.replace("30s", "170s");
    let url = block("docs/operations.md", "DATABASE_URL=$(grep");
    assert_eq!(typed(&desk, &format!("{start}{url}psql \"$DATABASE_URL\" -XAtc 'select 42'")).await, "42");
}
