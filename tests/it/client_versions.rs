//! The pinned clients must run on the oldest system that the tests are for, Ubuntu 22.04; `tests/servers/install` checks
//! the tools for the same versions.

use std::{fs, process::Command};

use crate::support::clients::{clients_python, moto_python, source};

const OLDEST_NODE: u32 = 12;
const OLDEST_PYTHON: [u32; 2] = [3, 10];

/// The oldest major version of Node that `engines` admits, as in `^18 || >=20`.
fn oldest_node(engines: &str) -> u32 {
    let first =
        |part: &str| part.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.').next()?.trim().parse().ok();
    engines.split("||").filter_map(first).min().unwrap_or(0)
}

#[test]
fn npm_packages_run_on_the_oldest_node() {
    assert_eq!([oldest_node("20 || >=22"), oldest_node(">= 10.x"), oldest_node("")], [20, 10, 0]);
    // The test in the browser reports "ignored" where Node is older.
    for (lock, oldest) in [("node/package-lock.json", OLDEST_NODE), ("browser/package-lock.json", 18)] {
        let lock = fs::read(source(lock)).expect("it is part of the repository");
        let lock: serde_json::Value = serde_json::from_slice(&lock).expect("JSON");
        for (name, package) in lock["packages"].as_object().expect("a map of packages") {
            let engines = package["engines"]["node"].as_str().unwrap_or_default();
            assert!(oldest_node(engines) <= oldest, "{name} {} needs Node {engines}", package["version"]);
        }
    }
}

#[test]
fn python_packages_run_on_the_oldest_python() {
    let script = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'], d.version, \
                  d.metadata['Requires-Python'] or '')";
    for python in [clients_python(), moto_python()] {
        let output = Command::new(python).args(["-c", script]).output().expect("it is installed");
        let listed = String::from_utf8_lossy(&output.stdout);
        assert!(listed.lines().count() > 5, "{output:?}");
        for line in listed.lines() {
            let Some(minimum) = line.split(">=3.").nth(1) else { continue };
            let minor: String = minimum.chars().take_while(char::is_ascii_digit).collect();
            let minor: u32 = minor.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!([3, minor] <= OLDEST_PYTHON, "{line}");
        }
    }
}
