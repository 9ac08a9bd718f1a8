//! Holds the sources to `docs/architecture.md`: who may import whom, and which files know no socket, task or clock.

mod circles;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The vocabulary, which any module above it may use.
const WORDS: [&str; 9] =
    ["causes", "limits", "outbound", "platform", "regular_file", "safe_display", "service", "stream", "target"];

/// The imports of a module beside itself; a module that is missing here fails the test.
fn allowed(module: &str) -> Option<Vec<&'static str>> {
    let with_words = |more: &[&'static str]| [&WORDS[..], more].concat();
    Some(match module {
        "limits" | "platform" | "service" | "stream" => vec![],
        "regular_file" => vec!["platform"],
        "target" => vec!["regular_file", "service"],
        "causes" | "quote" => vec!["safe_display"],
        "outbound" => vec!["safe_display", "target"],
        "telemetry" => vec!["platform", "safe_display", "target"],
        "engine" => {
            vec![
                "connect",
                "database_wire",
                "limits",
                "local_password",
                "login",
                "quote",
                "safe_display",
                "stream",
                "target",
                "tls",
                "tunnel",
            ]
        }
        "tls" => vec!["platform", "regular_file", "service", "stream", "target"],
        "aws" => with_words(&["tls"]),
        "tunnel" => with_words(&["aws", "tls"]),
        "listen" => vec!["platform", "target"],
        "local_password" => vec!["causes", "database_wire", "platform", "regular_file", "safe_display"],
        "local_connection" => vec!["engine", "quote", "safe_display", "target"],
        "connect" => with_words(&["aws", "login", "tls", "tunnel"]),
        "proxy" => with_words(&[
            "aws",
            "connect",
            "database_wire",
            "engine",
            "listen",
            "local_password",
            "login",
            "telemetry",
            "tls",
            "tunnel",
        ]),
        "admin" => vec!["listen", "local_connection", "proxy", "safe_display", "target", "telemetry", "tunnel"],
        "config" => with_words(&["aws", "listen", "telemetry", "tls", "tunnel"]),
        "discover" | "login" => with_words(&["aws"]),
        "app" => with_words(&[
            "admin",
            "aws",
            "config",
            "connect",
            "database_wire",
            "discover",
            "listen",
            "local_password",
            "proxy",
            "telemetry",
            "tls",
            "tunnel",
        ]),
        "doctor" => with_words(&[
            "app",
            "aws",
            "connect",
            "database_wire",
            "engine",
            "listen",
            "local_password",
            "login",
            "tls",
            "tunnel",
        ]),
        "cli" => with_words(&[
            "admin",
            "app",
            "aws",
            "config",
            "connect",
            "discover",
            "doctor",
            "engine",
            "local_connection",
            "local_password",
            "login",
            "quote",
            "telemetry",
            "tls",
            "tunnel",
        ]),
        "main" => vec!["cli"],
        _ => return None,
    })
}

/// The one file of the tunnel that asks AWS for anything.
const ASKS_AWS: &str = "tunnel/control.rs";

/// Files without sockets, tasks and clocks: time comes in as `now`, what must happen goes out as a value.
const SANS_IO: &[&str] = &[
    "admin/page/chart.rs",
    "admin/page/html.rs",
    "admin/page/mod.rs",
    "admin/page/words.rs",
    "aws/profiles/chain.rs",
    "aws/profiles/ini.rs",
    "aws/profiles/words.rs",
    "aws/time.rs",
    "causes.rs",
    "limits.rs",
    "crates/safe-display/src/printable.rs",
    "cli/policy/document.rs",
    "discover/dns.rs",
    "doctor/words.rs",
    "crates/safe-display/src/secret.rs",
    "service/anchors.rs",
    "service/mod.rs",
    "service/name.rs",
    "service/partition.rs",
    "service/permission.rs",
    "service/region.rs",
    "target.rs",
    "target/session.rs",
    "target/pooling.rs",
    "target/reference.rs",
    "crates/database-wire/src/c_string.rs",
    "crates/database-wire/src/error_kind.rs",
    "crates/database-wire/src/lib.rs",
    "crates/database-wire/src/mysql/agreement.rs",
    "crates/database-wire/src/mysql/capabilities.rs",
    "crates/database-wire/src/mysql/error.rs",
    "crates/database-wire/src/mysql/error_packet.rs",
    "engine/client.rs",
    "engine/facts.rs",
    "engine/failure.rs",
    "engine/follow.rs",
    "engine/mysql/accept.rs",
    "engine/mysql/client.rs",
    "engine/mysql/hint.rs",
    "engine/mysql/reply.rs",
    "engine/names.rs",
    "engine/postgres/accept.rs",
    "engine/postgres/client.rs",
    "engine/postgres/guard.rs",
    "engine/postgres/reply.rs",
    "quote.rs",
    "crates/database-wire/src/mysql/message.rs",
    "crates/database-wire/src/mysql/response.rs",
    "crates/database-wire/src/mysql/plugin.rs",
    "crates/database-wire/src/mysql/last.rs",
    "crates/database-wire/src/mysql/watch.rs",
    "crates/database-wire/src/mysql/watch/answer.rs",
    "crates/database-wire/src/mysql/watch/packets.rs",
    "crates/database-wire/src/postgres/cancel.rs",
    "crates/database-wire/src/postgres/codec.rs",
    "crates/database-wire/src/postgres/error.rs",
    "crates/database-wire/src/postgres/error_response.rs",
    "crates/database-wire/src/postgres/exchange.rs",
    "engine/postgres/hint.rs",
    "crates/database-wire/src/postgres/message.rs",
    "crates/database-wire/src/postgres/method.rs",
    "crates/database-wire/src/postgres/version.rs",
    "crates/database-wire/src/postgres/startup.rs",
    "crates/database-wire/src/postgres/watch.rs",
    "crates/ssm-session/src/pool/plan.rs",
    "crates/ssm-session/src/backoff.rs",
    "crates/ssm-session/src/channel.rs",
    "crates/ssm-session/src/channel/inference.rs",
    "crates/ssm-session/src/channel/outbox.rs",
    "crates/ssm-session/src/channel/receiver.rs",
    "crates/ssm-session/src/channel/sender.rs",
    "crates/ssm-session/src/channel/stamps.rs",
    "crates/ssm-session/src/conversation.rs",
    "crates/ssm-session/src/conversation/answering.rs",
    "crates/ssm-session/src/conversation/end_reason.rs",
    "crates/ssm-session/src/conversation/options.rs",
    "crates/ssm-session/src/features.rs",
    "crates/ssm-session/src/handshake.rs",
    "crates/ssm-session/src/idle.rs",
    "crates/ssm-session/src/liveness.rs",
    "crates/ssm-session/src/load.rs",
    "crates/ssm-session/src/message.rs",
    "crates/ssm-session/src/payload.rs",
    "crates/ssm-session/src/request.rs",
    "crates/ssm-session/src/sequence.rs",
    "crates/ssm-session/src/silence.rs",
    "crates/ssm-session/src/smux/frame.rs",
    "crates/ssm-session/src/smux/mux.rs",
    "crates/ssm-session/src/smux/mux/error.rs",
    "crates/ssm-session/src/smux/mux/state.rs",
    "crates/ssm-session/src/smux/mux/stream.rs",
    "crates/ssm-session/src/tally.rs",
    "crates/ssm-session/src/trial.rs",
    "crates/ssm-session/src/window.rs",
];

/// The words that such a file cannot have. `IpAddr` alone is a word, not a socket.
const IMPURE: [&str; 12] = [
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "Instant::now",
    "SystemTime::now",
    ".await",
    "async fn",
    "aws_config",
    "aws_sdk",
    "aws_sigv4",
    "aws_types",
    "rustls",
];

/// A source file without comments and without its tests.
struct Source {
    /// Below `src/`, with slashes; of another crate, below the workspace: `crates/…`.
    path: String,
    code: String,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.trim_end_matches(".rs")
    }

    fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }
}

/// All product code. Modules behind `#[cfg(test)]` may import what they like.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("crates"), &mut files);
    let texts: Vec<(PathBuf, String)> =
        files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("sources are UTF-8"))).collect();
    let tests: BTreeSet<PathBuf> = texts.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let product = |path: &Path| !path.ancestors().any(|part| tests.contains(&part.with_extension("")));
    let kept = texts.into_iter().filter(|(path, _)| product(path));
    kept.map(|(path, text)| {
        let path = path.strip_prefix(root).expect("found below it").display().to_string();
        let path = path.strip_prefix("src/").unwrap_or(&path).to_owned();
        Source { path, code: without_comments(without_tests(&text)) }
    })
    .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a folder of sources").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Where the modules lie that this file has for tests only, without `.rs`.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = path.parent().expect("a file lies in a folder");
    let own = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") | None => folder.to_owned(),
        Some(stem) => folder.join(stem),
    };
    let after = text.split("#[cfg(test)]").skip(1).map(str::trim_start);
    after
        .filter_map(|declaration| {
            if let Some(rest) = declaration.strip_prefix("#[path = \"") {
                return Some(folder.join(rest.split(".rs\"").next()?));
            }
            let name = declaration.split("mod ").nth(1)?.split([';', ' ']).next()?;
            declaration.split_once(['\n', '{'])?.0.ends_with(';').then(|| own.join(name))
        })
        .collect()
}

/// The text before the module of its own tests.
fn without_tests(text: &str) -> &str {
    let begins = |at: &usize| {
        let rest = text[*at..].lines().nth(1).unwrap_or_default();
        rest.ends_with("mod tests {")
    };
    let at = text.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(begins);
    at.map_or(text, |at| &text[..at])
}

fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        // Inside a string it is a URL, whose rest does not matter here.
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The modules named after each `crate::`, and the crates of the workspace that not every module may know, with the place.
fn imports(source: &Source) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for name in ["database_wire", "safe_display"] {
        found.extend(
            source
                .code
                .match_indices(name)
                .filter(|(at, _)| {
                    let before = &source.code[..*at];
                    !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                        && source.code[at + name.len()..].starts_with("::")
                })
                .map(|(at, name)| (name, at)),
        );
    }
    for (at, keyword) in source.code.match_indices("crate::") {
        let rest = &source.code[at + keyword.len()..];
        if !rest.starts_with('{') {
            found.push((word(rest), at));
            continue;
        }
        let mut depth = 0;
        for (offset, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(c, '{' | ',') {
                let name = rest[offset + 1..].trim_start();
                let at = source.code.len() - name.len();
                found.push((word(name), at));
            }
        }
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let sources = sources();
    assert!(sources.len() > 60, "the sources are here");
    let mut wrong = String::new();
    let mut seen = 0;
    for source in sources.iter().filter(|source| source.path != "lib.rs" && source.module() != "crates") {
        let module = source.module();
        let Some(allowed) = allowed(module) else {
            let _ = writeln!(wrong, "src/{}: module {module} has no place in the table", source.path);
            continue;
        };
        for (import, at) in imports(source) {
            seen += 1;
            let only_session = (module, import) == ("tunnel", "aws") && source.path != ASKS_AWS;
            if import != module && !allowed.contains(&import) || only_session {
                let _ = writeln!(wrong, "src/{}:{}: {module} imports {import}", source.path, source.line_of(at));
            }
        }
    }
    assert!(seen > 50, "imports are found: {seen}");
    assert!(wrong.is_empty(), "see docs/architecture.md, Modules\n{wrong}");
}

#[test]
fn protocol_code_knows_no_socket_task_or_clock() {
    let sources = sources();
    let mut wrong = String::new();
    for path in SANS_IO {
        let source = sources.iter().find(|source| source.path == *path);
        let source = source.unwrap_or_else(|| panic!("{path} is gone: adjust the list"));
        for impure in IMPURE {
            for (at, _) in source.code.match_indices(impure) {
                let _ = writeln!(wrong, "{path}:{}: {impure}", source.line_of(at));
            }
        }
    }
    assert!(wrong.is_empty(), "sans-IO files hold none of these\n{wrong}");
}

#[test]
fn the_parser_sees_imports_of_every_form() {
    let code = "use safe_display::Secret;\nuse crate::{\n    aws::{Account, token},\n    tls,\n};\nuse crate::target::Host;\n\
                let x = crate::app::run();\n";
    let source = Source { path: "postgres/x.rs".into(), code: code.into() };
    let found: Vec<_> = imports(&source).into_iter().map(|(name, at)| (name, source.line_of(at))).collect();
    assert_eq!(found, [("safe_display", 1), ("aws", 3), ("tls", 4), ("target", 6), ("app", 7)]);
}

/// How often product code outside `engine` names a variant of `Engine`. Each is a place that a third engine would touch, so
/// the numbers may only fall: ask the engine's facts instead.
const ENGINE_NAMED: [(&str, usize); 4] =
    [("cli/export/mod.rs", 2), ("cli/mysql.rs", 1), ("cli/psql.rs", 1), ("doctor/connection.rs", 3)];

#[test]
fn an_engine_is_named_in_its_folder_and_in_fewer_places_elsewhere() {
    let mut found: Vec<(String, usize)> = Vec::new();
    for source in sources().iter().filter(|source| !["engine", "crates"].contains(&source.module())) {
        let code = source.code.split("mod tests {").next().unwrap_or_default();
        let named = code.match_indices("Engine::").filter(|(at, _)| {
            let behind = &code[at + "Engine::".len()..];
            ["Postgres", "Mysql", "Tcp"].contains(&word(behind))
        });
        let count = named.count();
        if count > 0 {
            found.push((source.path.clone(), count));
        }
    }
    found.sort();
    let expected: Vec<(String, usize)> =
        ENGINE_NAMED.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect();
    assert_eq!(found, expected, "a new place asks the engine's facts; one that is gone leaves the list");
}
