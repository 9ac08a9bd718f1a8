//! One failure, seen by everybody who may meet it: psql, the mysql command line, and `rdsgate doctor`.

use std::{panic::AssertUnwindSafe, path::PathBuf};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use sandbox::{Destination, Options, Sandbox};
use tempfile::TempDir;

use super::{
    gate::{CREDENTIALS, Gate, GateOptions, mariadb, sandbox_with},
    refusal::Refusal,
    report::Report,
    servers::Server,
};

/// A failure: how it is brought about, and what is said of it. `<host>`, `<id>`, `<region>` and `<resource>` in the words stand
/// for the database's endpoint, its identifier, its region and the `rds-db:connect` ARN of app_user; `<home>` and `<endpoint>` for
/// the home and the address of AWS.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The options of the far side.
    pub(crate) world: fn(Options, &Server) -> Options,
    /// The faults in it, and in the database.
    pub(crate) broken: fn(&Scene<'_>),
    /// How rdsgate is called.
    pub(crate) called: fn(GateOptions, &Scene<'_>) -> GateOptions,
    /// Variables of psql and of the mysql command line, beside their usual ones.
    pub(crate) client: &'static [(&'static str, &'static str)],
    /// SQLSTATE, and what MESSAGE, DETAIL and HINT say; `None` where it cannot be met there.
    pub(crate) psql: Option<[&'static str; 4]>,
    /// The output, with its code.
    pub(crate) mysql: Option<&'static [&'static str]>,
    /// Of doctor: exit code, what fails first, and the verdict, check, fact, and fix or cause that it is about.
    pub(crate) doctor: Found,
    /// After this the next client is served, without a restart.
    pub(crate) healed: Option<fn(&Scene<'_>)>,
}

/// The report of doctor: the exit code, and findings as (check, verdict, fact, fix or cause), of which the first that is a failure
/// is the first of all. `session|dial` is the check of these two that comes to it.
pub(crate) type Found = (i32, &'static [(&'static str, &'static str, &'static str, &'static str)]);

/// Nothing is wrong, and nothing is said.
pub(crate) const ROW: Row = Row {
    name: "",
    world: |options, _| options,
    broken: |_| {},
    called: |options, _| options,
    client: &[],
    psql: None,
    mysql: None,
    doctor: (0, &[]),
    healed: None,
};

/// Where a row happens.
pub(crate) struct Scene<'a> {
    pub(crate) server: &'a Server,
    pub(crate) sandbox: Sandbox,
    home: TempDir,
}

impl<'a> Scene<'a> {
    /// A world with a home of its own.
    pub(crate) async fn of(world: impl FnOnce(Options, &Server) -> Options, server: &'a Server) -> Self {
        let sandbox = sandbox_with(server, |options| world(options, server)).await;
        Self { server, sandbox, home: tempfile::tempdir().expect("there is room for temporary files") }
    }

    async fn new(row: &Row, server: &'a Server) -> Self {
        let scene = Self::of(row.world, server).await;
        (row.broken)(&scene);
        scene
    }

    fn options(&self, row: &Row) -> GateOptions {
        (row.called)(GateOptions::new(self.server, &self.sandbox), self)
    }

    async fn gate(&self, row: &Row) -> Gate {
        let mut gate = self.options(row).start().await;
        gate.client_env = row.client;
        gate
    }

    /// Writes a file into a home of its own.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below the home")).expect("it is ours");
        std::fs::write(&path, text).expect("it is ours");
        path
    }

    /// Finds credentials in that home and nowhere else.
    pub(crate) fn at_home(&self, options: GateOptions) -> GateOptions {
        let files = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
        let options = CREDENTIALS.into_iter().chain(files).fold(options, GateOptions::without_env);
        options.env("HOME", &self.home.path().display().to_string())
    }

    pub(crate) fn id(&self) -> &str {
        self.server.rds_host.split('.').next().expect("a host has a label")
    }

    pub(crate) fn in_words(&self, words: &str) -> String {
        let (host, region) = (&self.server.rds_host, &self.server.region);
        let tag = self.id().to_uppercase().replace('-', "");
        let resource = format!("arn:aws:rds-db:{region}:123456789012:dbuser:db-{tag:A<26.26}/app_user");
        let words = words.replace("<resource>", &resource).replace("<host>", host).replace("<region>", region);
        let endpoint = self.sandbox.address().to_string();
        let words = words.replace("<endpoint>", &endpoint).replace("<home>", &self.home.path().display().to_string());
        words.replace("<id>", self.id())
    }

    /// Writes to the database's log of IAM logins, which is there from then on.
    pub(crate) fn logged(&self, entry: Option<&str>) {
        self.sandbox.log(&format!("/aws/rds/instance/{}/iam-db-auth-error", self.id()), entry);
    }

    /// Points the database's name elsewhere, seen from the bastion.
    pub(crate) fn leads(&self, to: Destination) {
        self.sandbox.name(&self.server.rds_host, self.server.engine.rds_port(), to);
    }
}

/// Runs the rows, some at a time, and fails with the names of those that do not say what they should.
pub(crate) async fn all(rows: &[Row], postgres: &Server, mysql: &Server, at_a_time: usize) {
    let row = async |row: &Row| {
        let psql = async {
            if row.psql.is_some() || row.mysql.is_none() {
                in_postgres(row, postgres).await;
            }
        };
        let both = async {
            psql.await;
            if let Some(words) = row.mysql {
                in_mysql(row, words, mysql).await;
            }
        };
        AssertUnwindSafe(both).catch_unwind().await.is_err().then_some(row.name)
    };
    let failed = stream::iter(rows).map(row).buffer_unordered(at_a_time);
    let failed: Vec<&str> = failed.filter_map(async |failed| failed).collect().await;
    assert!(failed.is_empty(), "rows that say something else: {failed:?}");
}

async fn in_postgres(row: &Row, server: &Server) {
    let scene = Scene::new(row, server).await;
    let told = async {
        let Some([sqlstate, message, detail, hint]) = row.psql else { return };
        let gate = scene.gate(row).await;
        let refusal = Refusal::of(&gate).await;
        let [message, detail, hint] = [message, detail, hint].map(|words| scene.in_words(words));
        refusal.says(sqlstate, &message, &detail, &hint);
        refusal.within(25);
        if let Some(heal) = row.healed {
            heal(&scene);
            assert_eq!(gate.query("select 'served'").await, "served", "{}", row.name);
        }
    };
    // What is healed is no longer there to be found.
    let found = async || found(row, &scene).await;
    if row.healed.is_some() {
        found().await;
        told.await;
    } else {
        tokio::join!(told, found());
    }
}

async fn in_mysql(row: &Row, words: &[&str], server: &Server) {
    let scene = Scene::new(row, server).await;
    let told = async {
        let gate = scene.gate(row).await;
        let ran = mariadb(&gate, &["-e", "select 1"]).await;
        assert_eq!(ran.status.code(), Some(1), "{}: {ran:?}\n{}", row.name, gate.log());
        for word in words.iter().map(|word| scene.in_words(word)) {
            assert!(ran.stderr.contains(&word), "{}: {word:?} is missing: {}", row.name, ran.stderr);
        }
        if let Some(heal) = row.healed {
            heal(&scene);
            assert_eq!(mariadb(&gate, &["-e", "select 'served'"]).await.stdout, "served", "{}", row.name);
        }
    };
    if row.psql.is_some() {
        return told.await;
    }
    found(row, &scene).await;
    told.await;
}

async fn found(row: &Row, scene: &Scene<'_>) {
    let report = Report::of(scene.options(row), &scene.sandbox).await;
    let (exit, findings) = row.doctor;
    report.exits(exit);
    let which = |checks: &'static str, verdict: &str| {
        let mut checks = checks.split('|');
        checks.clone().find(|check| report.stage(check)["verdict"] == verdict).or(checks.next()).unwrap_or_default()
    };
    for (checks, verdict, fact, fix) in findings {
        report.says(which(checks, verdict), verdict, &scene.in_words(fact), &scene.in_words(fix));
    }
    if let Some((checks, verdict, ..)) = findings.iter().find(|(_, verdict, ..)| *verdict == "fail") {
        report.first_fails(which(checks, verdict));
    }
}
