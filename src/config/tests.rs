mod complaints;
mod layers;
mod readme;
mod targets;
mod trust;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    causes, listen,
    target::{
        Engine, ExternalId, Identity, MfaCode, MfaSerial, Reference, Region, RoleArn, Route, SessionSettings, Target,
    },
};

const ORDERS: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";
const BILLING: &str = "billing.cluster-c1abcdefghij.us-east-1.rds.amazonaws.com";
/// Two roles as a flag has them.
const ROLES: &str = "arn:aws:iam::123456789012:role/a,arn:aws:iam::123456789012:role/b";
const BASTION: &str = "i-0123456789abcdef0";

/// A machine with a project, a home and an environment of its own.
struct Scene {
    root: TempDir,
    variables: Vec<(&'static str, &'static str)>,
    request: Request,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("project/src/deep")).unwrap();
        fs::create_dir_all(root.path().join("home/rdsgate")).unwrap();
        Self { root, variables: Vec::new(), request: Request::default() }
    }

    fn project(self, text: &str) -> Self {
        fs::write(self.root.path().join("project/.rdsgate.toml"), text).unwrap();
        self
    }

    fn user(self, text: &str) -> Self {
        fs::write(self.root.path().join("home/rdsgate/config.toml"), text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn flag(mut self, key: Key, value: &str) -> Self {
        self.request.flags.push((key, value.into()));
        self
    }

    fn up(mut self, targets: &[&str]) -> Self {
        self.request.targets = targets.iter().map(|target| (*target).to_owned()).collect();
        self
    }

    fn environment(&self, folder: &str) -> Environment {
        let root = self.root.path();
        let environment = Environment::new(self.variables.iter().copied(), root.join(folder), Some(root.join("home")));
        environment.remembering(Some(root.join("state")))
    }

    /// The user trusts the project's file as it is.
    fn trusting(self) -> Self {
        let consent = project(None, &self.environment("project"), &mut Vec::new()).unwrap();
        consent.expect("there is a file").give().unwrap();
        self
    }

    fn read(&self) -> Result<Plan, Error> {
        read(&self.request, &self.environment("project"), &mut Vec::new())
    }

    fn load_in(&self, folder: &str) -> Result<Loaded, Error> {
        load(&self.request, &self.environment(folder))
    }

    fn load(&self) -> Result<Loaded, Error> {
        self.load_in("project")
    }

    /// The only target.
    fn target(&self) -> Target {
        let mut targets = self.load().unwrap().config.targets;
        assert_eq!(targets.len(), 1);
        targets.remove(0)
    }

    /// The printed text: the error with its causes, and the hint.
    fn complaint(&self) -> (String, String) {
        let error = self.load().unwrap_err();
        (causes::one_line(&error), error.hint().unwrap_or_default())
    }
}

/// A project file with one complete target and these lines more.
fn orders(lines: &str) -> String {
    format!("[targets.orders]\nhost = \"{ORDERS}\"\nbastion = \"{BASTION}\"\n{lines}")
}

/// Two complete targets on ports of their own, out of alphabetical order.
fn two() -> String {
    format!("{}\n[targets.billing]\nhost = '{BILLING}'\nbastion = '{BASTION}'\nlisten = 5433", orders(""))
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.targets.iter().map(|target| &*target.name).collect()
}
