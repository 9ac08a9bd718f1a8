use std::{error::Error as _, fs};

use tempfile::TempDir;

use super::*;
use crate::target::{ExternalId, Identity, MfaCode, MfaSerial, Region, RoleArn, Route, SessionSettings};

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

    fn load_in(&self, folder: &str) -> Result<Loaded, Error> {
        let root = self.root.path();
        let environment = Environment::new(self.variables.iter().copied(), root.join(folder), Some(root.join("home")));
        load(&self.request, &environment)
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

    /// What is printed: the error with its causes, and the hint.
    fn complaint(&self) -> (String, String) {
        let error = self.load().unwrap_err();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        (text, error.hint().unwrap_or_default())
    }
}

/// A project file with one complete target and these lines more.
fn orders(lines: &str) -> String {
    format!("[targets.orders]\nhost = \"{ORDERS}\"\nbastion = \"{BASTION}\"\n{lines}")
}

#[test]
fn a_file_with_every_key_becomes_a_config() {
    let scene = Scene::new().project(
        r#"
        [defaults]
        profile = "dev"
        open_browser = true
        connect_timeout = "5s"
        resume_for = "1m30s"
        max_sigterm_delay = "0s"
        admin = "unix:run/admin.sock"

        [targets.orders]
        host = "Orders.c1abcdefghij.eu-central-1.rds.amazonaws.com:5544"
        engine = "aurora-postgresql"
        listen = "127.0.0.1:6000"
        bastion = "i-0123456789abcdef0"
        user = "app_user"
        database = "orders_db"
        region = "eu-central-1"
        role_arn = ["arn:aws:iam::123456789012:role/first", "arn:aws:iam::123456789012:role/second"]
        external_id = "partner/7"
        session_name = "ada@example"
        mfa_serial = "arn:aws:iam::123456789012:mfa/ada"
        ca_file = "certs/own.pem"
        via = "ssm"
        document = "Corp-Databases"
        document_parameters = ["portNumber", "stage=dev"]
        reason = "ticket 42"
        ssmmessages_endpoint = "https://messages.corp.example"
        payload_size = 4096
        keep_alive = true
        idle_timeout = "45m"
        "#,
    );
    let loaded = scene.load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.files, [scene.root.path().join("project/.rdsgate.toml")]);
    let Config { targets, connect_timeout, resume_for, max_sigterm_delay, admin, mfa_code, open_browser } =
        loaded.config;
    assert_eq!((mfa_code, open_browser), (None, true));
    assert_eq!([connect_timeout, resume_for, max_sigterm_delay].map(|time| time.as_secs()), [5, 90, 0]);
    let beside_the_file = scene.root.path().join("project/run/admin.sock");
    assert_eq!(admin, Some(admin::Address::Unix(beside_the_file)));
    let [target] = targets.as_slice() else { panic!("one target") };
    assert_eq!((&*target.name, target.engine.to_string().as_str()), ("orders", "postgres"));
    assert_eq!(target.endpoint.to_string(), format!("{ORDERS}:5544"));
    assert_eq!((target.listen.host.as_str(), target.listen.port), ("127.0.0.1", 6000));
    assert_eq!(target.route, Route::Ssm(BASTION.parse().unwrap()));
    assert_eq!((target.user.as_deref(), target.database.as_deref()), (Some("app_user"), Some("orders_db")));
    assert_eq!((target.identity.profile.as_deref(), target.region.as_str()), (Some("dev"), "eu-central-1"));
    let Identity { roles, external_id, session_name, mfa_serial, .. } = &target.identity;
    assert_eq!(roles.iter().map(RoleArn::name).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(external_id.as_ref().map(ExternalId::as_str), Some("partner/7"));
    assert_eq!(session_name.as_str(), "ada@example");
    assert_eq!(mfa_serial.as_ref().map(MfaSerial::as_str), Some("arn:aws:iam::123456789012:mfa/ada"));
    assert_eq!(target.ca_file, Some(scene.root.path().join("project/certs/own.pem")));
    let session = SessionSettings {
        document: "Corp-Databases".parse().unwrap(),
        parameters: Some(value::document_parameters("portNumber,stage=dev").unwrap()),
        reason: "ticket 42".parse().unwrap(),
        ssmmessages_endpoint: Some(value::service_endpoint("messages.corp.example").unwrap()),
        payload_size: 4096,
        keep_alive: true,
        idle_timeout: Some(Duration::from_mins(45)),
    };
    assert_eq!(target.session, session);
}

#[test]
fn the_command_line_alone_is_enough_and_the_rest_has_defaults() {
    let scene = Scene::new().up(&[ORDERS]).flag(Key::Bastion, BASTION);
    let Config { connect_timeout, resume_for, max_sigterm_delay, .. } = scene.load().unwrap().config;
    assert_eq!([connect_timeout, resume_for, max_sigterm_delay].map(|time| time.as_secs()), [30, 120, 30]);
    let target = scene.target();
    assert_eq!((&*target.name, target.endpoint.to_string()), ("orders", format!("{ORDERS}:5432")));
    assert_eq!((target.listen.host.as_str(), target.listen.port), ("localhost", 5432));
    assert_eq!(target.listen.addresses, value::both_loopbacks());
    assert_eq!((target.user, target.database, target.ca_file), (None, None, None));
    assert_eq!(target.identity, Identity::default(), "the scene has no user");
}

#[test]
fn a_stronger_layer_wins_key_by_key() {
    // Each row takes away the layer that won in the row before.
    for (layers, user) in
        [(5, "flag"), (4, "variable"), (3, "project"), (2, "own"), (1, "project-default"), (0, "default")]
    {
        let line = |from: usize, text: &str| if layers >= from { text.to_owned() } else { String::new() };
        let mut scene = Scene::new()
            .project(&format!(
                "[defaults]\n{}\n{}",
                line(1, "user = 'project-default'"),
                orders(&line(3, "user = 'project'"))
            ))
            .user(&format!(
                "[defaults]\nuser = 'default'\ndatabase = 'from-default'\n[targets.orders]\nport = 5544\n{}",
                line(2, "user = 'own'")
            ));
        if layers >= 4 {
            scene = scene.variable("RDSGATE_USER", "variable");
        }
        if layers >= 5 {
            scene = scene.flag(Key::User, "flag");
        }
        let target = scene.target();
        assert_eq!(target.user.as_deref(), Some(user), "{layers} layers");
        assert_eq!((target.database.as_deref(), target.endpoint.port), (Some("from-default"), 5544), "others stay");
    }
}

#[test]
fn every_key_is_a_flag_a_variable_and_a_line_in_a_file() {
    for (key, value, line) in [
        (Key::Engine, "postgresql", "engine = 'postgresql'"),
        (Key::Port, "5544", "port = 5544"),
        (Key::Listen, "[::1]:5544", "listen = '[::1]:5544'"),
        (Key::Bastion, "mi-0123456789abcdef0", "bastion = 'mi-0123456789abcdef0'"),
        (Key::User, "app", "user = 'app'"),
        (Key::Database, "db", "database = 'db'"),
        (Key::Profile, "dev", "profile = 'dev'"),
        (Key::Region, "eu-central-1", "region = 'eu-central-1'"),
        (Key::RoleArn, ROLES, "role_arn = ['arn:aws:iam::123456789012:role/a', 'arn:aws:iam::123456789012:role/b']"),
        (Key::ExternalId, "partner/7", "external_id = 'partner/7'"),
        (Key::SessionName, "ada", "session_name = 'ada'"),
        (Key::MfaSerial, "GAHT12345678", "mfa_serial = 'GAHT12345678'"),
        (Key::CaFile, "/own.pem", "ca_file = '/own.pem'"),
        (Key::Via, "direct", "via = 'direct'"),
        (Key::Compress, "zlib", "compress = 'zlib'"),
        (Key::ReadOnly, "true", "read_only = true"),
        (Key::StatementTimeout, "1m30s", "statement_timeout = '1m30s'"),
        (Key::Label, "PRODUCTION", "label = 'PRODUCTION'"),
        (Key::Confirm, "true", "confirm = true"),
        (Key::MaxSessions, "8", "max_sessions = 8"),
        (Key::WarmSessions, "0", "warm_sessions = 0"),
        (Key::IdleClose, "1m", "idle_close = '1m'"),
        (Key::Isolation, "connection", "isolation = 'connection'"),
        (Key::RotateAfter, "10m", "rotate_after = '10m'"),
    ] {
        let base = |line: &str| Scene::new().project(&format!("[targets.orders]\nhost = '{ORDERS}'\n{line}"));
        // Without a bastion nothing loads; the row that sets one, or needs none, does without.
        let base = |line: &str| {
            let scene = base(line);
            if matches!(key, Key::Bastion | Key::Via) { scene } else { scene.flag(Key::Bastion, BASTION) }
        };
        let variable: &'static str = key.variable().leak();
        let value: &'static str = value;
        let results =
            [base("").flag(key, value).target(), base("").variable(variable, value).target(), base(line).target()]
                .map(|target| format!("{target:?}"));
        assert_eq!(results[0], results[1], "{key:?}");
        assert_eq!(results[1], results[2], "{key:?}");
        if !matches!(key, Key::Bastion | Key::Via | Key::Engine | Key::Region) {
            assert_ne!(results[0], format!("{:?}", base("").target()), "{key:?} changes something");
        }
    }
}

#[test]
fn only_the_sessions_to_a_cluster_rotate_and_no_more_are_warm_than_there_may_be() {
    let pooling = |host: &str| Scene::new().up(&[host]).flag(Key::Bastion, BASTION).target().pooling;
    assert_eq!(pooling(ORDERS).rotate_after, None);
    let name = |label: &str| format!("orders.{label}c1abcdefghij.eu-central-1.rds.amazonaws.com");
    for cluster in ["cluster-", "cluster-ro-", "cluster-custom-"] {
        assert_eq!(pooling(&name(cluster)).rotate_after, Some(Duration::from_mins(30)), "{cluster}");
    }
    assert_eq!(pooling(&name("proxy-")).rotate_after, None);
    assert_eq!((pooling(ORDERS).max_sessions, pooling(ORDERS).warm_sessions), (4, 1));
    let isolated = Scene::new().up(&[ORDERS]).flag(Key::Bastion, BASTION).flag(Key::Isolation, "connection");
    assert_eq!(isolated.target().pooling.max_sessions, 16);
    let (text, hint) = Scene::new().project(&orders("max_sessions = 2\nwarm_sessions = 3")).complaint();
    assert_eq!(text, "target orders is to keep 3 sessions warm, but may have 2");
    assert_eq!(hint, "set max_sessions to 3 or more");
}

#[test]
fn the_project_file_is_found_upwards_and_its_paths_are_relative_to_it() {
    let scene = Scene::new().project(&orders("ca_file = 'own.pem'"));
    let loaded = scene.load_in("project/src/deep").unwrap();
    assert_eq!(loaded.config.targets[0].ca_file, Some(scene.root.path().join("project/own.pem")));
    assert!(matches!(scene.load_in("home").unwrap_err(), Error::NoTargets { .. }));
}

#[test]
fn a_named_file_replaces_the_two_that_are_looked_for() {
    let mut scene = Scene::new().project("broken").user("broken").variable("RDSGATE_CONFIG", "other.toml");
    fs::write(scene.root.path().join("project/other.toml"), orders("user = 'variable'")).unwrap();
    fs::write(scene.root.path().join("project/third.toml"), orders("user = 'flag'")).unwrap();
    assert_eq!(scene.target().user.as_deref(), Some("variable"));
    scene.request.file = Some("third.toml".into());
    assert_eq!(scene.target().user.as_deref(), Some("flag"));
    scene.request.file = Some("missing.toml".into());
    let (text, _) = scene.complaint();
    assert_eq!(text, "cannot read the configuration file missing.toml: No such file or directory (os error 2)");
}

/// Two complete targets on ports of their own, out of alphabetical order.
fn two() -> String {
    format!("{}\n[targets.billing]\nhost = '{BILLING}'\nbastion = '{BASTION}'\nlisten = 5433", orders(""))
}

fn names(loaded: &Loaded) -> Vec<&str> {
    loaded.config.targets.iter().map(|target| &*target.name).collect()
}

#[test]
fn targets_are_all_of_the_files_or_those_named() {
    let also = format!("[targets.third]\nhost = '{BILLING}'\nvia = 'direct'\nlisten = 0\n[targets.orders]\nuser = 'x'");
    for (wanted, expected) in [
        (vec![], vec!["orders", "billing", "third"]),
        (vec!["billing"], vec!["billing"]),
        (vec!["third", "orders", "third"], vec!["third", "orders"]),
    ] {
        let loaded = Scene::new().project(&two()).user(&also).up(&wanted).load().unwrap();
        assert_eq!(names(&loaded), expected);
    }
}

#[test]
fn an_endpoint_on_the_command_line_takes_defaults_but_no_target_of_a_file() {
    let scene = Scene::new()
        .project(&format!(
            "[defaults]\nbastion = '{BASTION}'\nuser = 'everyone'\n[targets.orders]\nhost = '{BILLING}'\nuser = 'other'"
        ))
        .up(&[&format!("{}:5544", ORDERS.to_uppercase())]);
    let target = scene.target();
    assert_eq!((&*target.name, target.endpoint.to_string()), (ORDERS, format!("{ORDERS}:5544")));
    assert_eq!(target.user.as_deref(), Some("everyone"));
}

#[test]
fn endpoints_that_start_alike_get_names_of_their_own() {
    let other = "orders.c1abcdefghij.us-east-1.rds.amazonaws.com";
    let third = format!("{other}:5433");
    let loaded = Scene::new()
        .up(&[ORDERS, other, ORDERS, &third])
        .flag(Key::Via, "direct")
        .flag(Key::Listen, "0")
        .load()
        .unwrap();
    assert_eq!(names(&loaded), ["orders", other, &third]);
}

#[test]
fn a_port_in_the_host_belongs_to_the_hosts_layer() {
    let in_file = format!("[targets.orders]\nvia = 'direct'\nhost = '{ORDERS}:5001'");
    assert_eq!(Scene::new().project(&in_file).target().endpoint.port, 5001);
    assert_eq!(Scene::new().project(&in_file).variable("RDSGATE_PORT", "5002").target().endpoint.port, 5002);
    let on_command_line = format!("{ORDERS}:5003");
    let scene = Scene::new().up(&[&on_command_line]).flag(Key::Via, "direct").variable("RDSGATE_PORT", "5002");
    assert_eq!(scene.target().endpoint.port, 5003);
    let (text, _) = scene.flag(Key::Port, "5004").complaint();
    assert_eq!(text, "invalid TARGET: the host says port 5003, port says 5004");
}

#[test]
fn the_region_is_the_hosts_then_ours_then_the_sdks() {
    let region = |scene: Scene| scene.flag(Key::Via, "direct").target().region;
    let is = |name: &str| name.parse::<Region>().unwrap();
    let plain = || Scene::new().up(&["db.internal.example"]);
    // A default or an AWS variable says nothing about a host that knows better.
    let known = Scene::new().project("[defaults]\nregion = 'us-west-2'").variable("AWS_REGION", "us-west-1");
    assert_eq!(region(known.up(&[ORDERS])), is("eu-central-1"));
    assert_eq!(region(plain().variable("AWS_DEFAULT_REGION", "us-west-1")), is("us-west-1"));
    assert_eq!(
        region(plain().variable("AWS_DEFAULT_REGION", "a-b-1").variable("AWS_REGION", "us-west-2")),
        is("us-west-2")
    );
    let default = plain().project("[defaults]\nregion = 'us-west-2'").variable("AWS_REGION", "a-b-1");
    assert_eq!(region(default), is("us-west-2"));
    assert_eq!(region(plain().flag(Key::Region, "us-west-2").variable("RDSGATE_REGION", "a-b-1")), is("us-west-2"));
}

#[test]
fn a_session_is_started_for_the_reason_that_this_user_serves_this_target() {
    let by = |name, value| Scene::new().project(&orders("")).variable(name, value).target().session;
    let reason = format!("rdsgate/{} by alice for orders ({ORDERS}:5432)", env!("CARGO_PKG_VERSION"));
    assert_eq!(by("USER", "alice"), SessionSettings { reason: reason.parse().unwrap(), ..SessionSettings::default() });
    assert_eq!(by("LOGNAME", "alice").reason.as_str(), reason);
    assert_eq!(by("USER", "").reason.as_str(), reason.replace(" by alice", ""));
}

#[test]
fn a_document_without_parameters_is_an_empty_array_or_none() {
    let file = Scene::new().project(&orders("document_parameters = []")).target();
    let variable = Scene::new().project(&orders("")).variable("RDSGATE_DOCUMENT_PARAMETERS", "none").target();
    assert_eq!((file.session.parameters, variable.session.parameters), (Some(vec![]), Some(vec![])));
}

#[test]
fn the_route_is_the_bastion_unless_direct_is_said() {
    let route =
        |lines: &str| Scene::new().project(&format!("[targets.orders]\nhost = '{ORDERS}'\n{lines}")).target().route;
    let ssm = Route::Ssm(BASTION.parse().unwrap());
    assert_eq!(route(&format!("bastion = '{BASTION}'")), ssm);
    assert_eq!(route(&format!("bastion = '{BASTION}'\nvia = 'ssm'")), ssm);
    assert_eq!(route(&format!("bastion = '{BASTION}'\nvia = 'direct'")), Route::Direct);
    assert_eq!(route("via = 'direct'"), Route::Direct);
    assert_eq!(route(&format!("bastion = '{BASTION}'\nvia = 'auto'")), Route::Auto(BASTION.parse().unwrap()));
    let (complaint, _) = Scene::new().up(&[ORDERS]).flag(Key::Via, "auto").complaint();
    assert!(complaint.contains("bastion"), "auto needs one: {complaint}");
}

#[test]
fn an_empty_variable_is_not_set_and_an_unknown_one_is_a_warning() {
    let scene = Scene::new()
        .project(&orders(""))
        .variable("RDSGATE_PORT", "")
        .variable("RDSGATE_BASTON", BASTION)
        .variable("RDSGATE_LOG", "debug")
        .variable("RDSGATE_XYZZY", "1");
    let warnings = scene.load().unwrap().warnings;
    let lines: Vec<_> = warnings.iter().map(|warning| (warning.to_string(), warning.hint())).collect();
    let says = |name: &str| format!("the variable {name} means nothing to rdsgate");
    assert_eq!(
        lines,
        [(says("RDSGATE_BASTON"), Some("did you mean RDSGATE_BASTION?".into())), (says("RDSGATE_XYZZY"), None)]
    );
}

#[cfg(unix)]
#[test]
fn a_file_that_everyone_can_write_is_a_warning_and_one_for_the_group_is_none() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().project(&orders(""));
    let path = scene.root.path().join("project/.rdsgate.toml");
    for (mode, warnings) in [(0o664, 0), (0o666, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let found = scene.load().unwrap().warnings;
        assert_eq!(found.len(), warnings, "{mode:o}");
        for warning in found {
            assert_eq!(warning.to_string(), ".rdsgate.toml can be written by every user of this machine");
            assert_eq!(warning.hint().as_deref(), Some("chmod o-w .rdsgate.toml"));
        }
    }
}

#[test]
fn a_broken_file_is_answered_with_its_place_the_reason_and_a_suggestion() {
    for (text, complaint, hint) in [
        ("[targets.orders", "1:16: not valid TOML: unclosed table, expected `]`", ""),
        ("x = 1\nx = 2", "2:1: not valid TOML: duplicate key", ""),
        ("\n[target.orders]\n", "2:2: unknown key \"target\" at the top level", "did you mean [targets]?"),
        ("[orders]\nuser = 'x'", "1:2: unknown key \"orders\" at the top level", "did you mean [targets.orders]?"),
        (
            "profile = 'dev'",
            "1:1: profile does not belong in the top level",
            "profile belongs in [targets.NAME], or in [defaults] for all of them",
        ),
        (
            "[defaults]\nhost = 'x'",
            "2:1: host does not belong in [defaults]",
            "host belongs in [targets.NAME], where NAME is yours to choose",
        ),
        (
            "[targets.orders]\nconnect_timeout = '3s'",
            "2:1: connect_timeout does not belong in [targets.orders]",
            "connect_timeout is the same for all targets: put it in [defaults]",
        ),
        ("[targets.orders]\n  prot = 1", "2:3: unknown key \"prot\" in [targets.orders]", "did you mean \"port\"?"),
        ("[defaults]\nca-file = 'x'", "2:1: unknown key \"ca-file\" in [defaults]", "did you mean \"ca_file\"?"),
        ("[targets.a]\nendpoint = 'x'", "2:1: unknown key \"endpoint\" in [targets.a]", "did you mean \"host\"?"),
        (
            "[defaults]\nxyzzy = 'x'",
            "2:1: unknown key \"xyzzy\" in [defaults]",
            &format!("the keys are: {}", {
                let in_files = Key::ALL.into_iter().filter(|key| *key != Key::MfaCode);
                in_files.map(Key::name).collect::<Vec<_>>().join(", ")
            }),
        ),
        ("targets = 3", "1:11: targets is an integer, expected a table", ""),
        ("[targets]\norders = 'x'", "2:10: orders is a string, expected a table", ""),
        ("[targets.orders]\nport = '5432'", "2:8: port is a string, expected an integer, such as 5432", ""),
        ("# zoë\n[targets.orders]\nuser = true", "3:8: user is a boolean, expected a string", ""),
        (
            "[targets.orders]\nlisten = 1.5",
            "2:10: listen is a float, expected a string or an integer, such as \"localhost:5433\" or 5433",
            "",
        ),
        (
            "[defaults]\nresume_for = 30",
            "2:14: resume_for is an integer, expected a string with a unit, such as \"30s\"",
            "",
        ),
        (
            "[targets.\"a b\"]\nhost = 'x'",
            "1:10: \"a b\" cannot name a target: expected at most 63 letters, digits, '-', '_' and '.'",
            "",
        ),
        (
            "[targets.a]\nhost = 'a.b:1'\nport = 2",
            "2:8: invalid host: the host says port 1, port says 2",
            "keep one of the two; the local port is listen's",
        ),
        (&orders("port = 65536"), "4:8: invalid port: \"65536\" is not a port: expected a number from 1 to 65535", ""),
        (
            &orders("region = 'Frankfurt'"),
            "4:10: invalid region: \"Frankfurt\" is not an AWS region: expected something like eu-central-1",
            "",
        ),
        (
            &orders("mfa_command = 'ykman oath accounts code -s aws'"),
            "4:1: mfa_command runs a command, which a project's file may not",
            "put it into your own file, ~/.config/rdsgate/config.toml, or use --mfa-command",
        ),
        (
            &orders("mfa_code = '123456'"),
            "4:1: mfa_code does not belong in [targets.orders]",
            "mfa_code is for one run: use --mfa-code or RDSGATE_MFA_CODE",
        ),
        (&orders("role_arn = [1]"), "4:12: role_arn is an array, expected an ARN or a list of them", ""),
        (&orders("role_arn = []"), "4:12: invalid role_arn: it is empty", ""),
        (
            &orders("role_arn = 'dba'"),
            "4:12: invalid role_arn: \"dba\" is not a role's ARN: expected something like \
             arn:aws:iam::123456789012:role/NAME",
            "",
        ),
        ("[defaults]\nopen_browser = 'yes'", "2:16: open_browser is a string, expected true or false", ""),
        (&orders("via = 'vpn'"), "4:7: invalid via: \"vpn\" is not a route: expected ssm, direct or auto", ""),
        (&orders("payload_size = '4k'"), "4:16: payload_size is a string, expected an integer, such as 1024", ""),
        (&orders("payload_size = 100"), "4:16: invalid payload_size: \"100\" is not a number from 256 to 65536", ""),
        (&orders("keep_alive = 'yes'"), "4:14: keep_alive is a string, expected true or false", ""),
        (
            &orders("idle_timeout = '2h'"),
            "4:16: invalid idle_timeout: 7200s is out of range: expected 60s to 3600s",
            "",
        ),
        (
            &orders("document_parameters = [5432]"),
            "4:23: document_parameters is an array, expected an array of strings, such as [\"portNumber\"]",
            "",
        ),
        (
            &orders("document_parameters = ['port']"),
            "4:23: invalid document_parameters: \"port\" is not a document parameter: expected host, portNumber or NAME=VALUE",
            "",
        ),
        (
            &orders("document = 'a document'"),
            "4:12: invalid document: \"a document\" is not the name of a session document: expected 3 to 128 letters, digits \
             and any of _ - . : /",
            "",
        ),
        (
            &orders("ssmmessages_endpoint = 'http://x.example'"),
            "4:24: invalid ssmmessages_endpoint: \"http://x.example\" is not an endpoint: expected HOST[:PORT], \
             https://HOST[:PORT] or wss://HOST[:PORT], without a path",
            "",
        ),
        (&orders("user = ''"), "4:8: invalid user: it is empty", ""),
        (&orders("ca_file = ''"), "4:11: invalid ca_file: it is empty", ""),
        (&orders("database = \"a\\u0000b\""), "4:12: invalid database: it holds a NUL byte", ""),
        (
            &orders("listen = '0.0.0.0:5432'"),
            "4:10: invalid listen: 0.0.0.0 is not a loopback address: whoever can reach it would use the database \
             without a password",
            "listen on localhost; for a container or another machine, forward a port to it",
        ),
        (
            &orders("[defaults]\nconnect_timeout = '1h'"),
            "5:19: invalid connect_timeout: 3600s is out of range: expected 1s to 600s",
            "",
        ),
        (
            &orders("[defaults]\nresume_for = '2 minutes'"),
            "5:14: invalid resume_for: \"2 minutes\" is not a duration: expected a whole number and a unit (ms, s, m, \
             h), such as 30s or 2m",
            "",
        ),
    ] {
        let found = Scene::new().project(text).complaint();
        assert_eq!(found, (format!(".rdsgate.toml:{complaint}"), hint.to_owned()), "{text}");
    }
}

#[test]
fn roles_sessions_and_codes_have_the_form_that_sts_takes() {
    let scene = Scene::new().project(&orders("")).user("[targets.orders]\nmfa_command = 'code aws'");
    let Identity { session_name, mfa_command, .. } =
        scene.variable("LOGNAME", "x").variable("USER", "Ada Lovelace").target().identity;
    assert_eq!((session_name.as_str(), mfa_command.as_deref()), ("rdsgate-Ada-Lovelace", Some("code aws")));
    for (key, value, said) in [
        (Key::MfaCode, "12345", "invalid --mfa-code: not an MFA code: expected six digits"),
        (Key::SessionName, "a b", "invalid --session-name: \"a b\" is not a session name: expected 2 to 64"),
        (Key::ExternalId, "x", "invalid --external-id: \"x\" is not an external id: expected 2 to 1224"),
        (Key::MfaSerial, "x", "invalid --mfa-serial: \"x\" is not an MFA device: expected arn:aws:iam::"),
        (Key::OpenBrowser, "yes", "invalid --open-browser: \"yes\" is neither true nor false"),
    ] {
        let (text, _) = Scene::new().project(&orders("")).flag(key, value).complaint();
        assert!(text.starts_with(said), "{text}");
    }
    let code = Scene::new().project(&orders("")).flag(Key::MfaCode, "123456").load().unwrap().config.mfa_code;
    assert_eq!(code.as_ref().map(MfaCode::as_str), Some("123456"));
}

#[test]
fn a_bad_value_names_the_flag_or_variable_that_it_came_from() {
    let (text, _) = Scene::new().project(&orders("")).flag(Key::CaFile, "").complaint();
    assert_eq!(text, "invalid --ca-file: it is empty");
    let (text, _) = Scene::new().project(&orders("")).variable("RDSGATE_PORT", "http").complaint();
    assert_eq!(text, "invalid RDSGATE_PORT: \"http\" is not a port: expected a number from 1 to 65535");
    let (text, _) = Scene::new().up(&["10.0.0.1"]).complaint();
    assert!(text.starts_with("invalid TARGET: \"10.0.0.1\" is not a host name: expected"), "{text}");
    let scene = Scene::new().up(&["a.b"]).flag(Key::Via, "direct").variable("AWS_REGION", "x");
    assert_eq!(
        scene.complaint().0,
        "invalid AWS_REGION: \"x\" is not an AWS region: expected something like eu-central-1"
    );
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_an_error() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let variables = [("RDSGATE_USER", OsString::from_vec(vec![0xff]))];
    let error = load(&Request::default(), &Environment::new(variables, PathBuf::from("/nowhere"), None)).unwrap_err();
    assert_eq!(error.to_string(), "RDSGATE_USER is not valid UTF-8");
}

#[test]
fn what_is_missing_or_contradicts_is_said_with_the_next_step() {
    for (scene, complaint, hint) in [
        (
            Scene::new(),
            "no database to serve: none on the command line, and there is no configuration file",
            "name a database: rdsgate up ENDPOINT --bastion i-… --user USER, or put [targets.NAME] into .rdsgate.toml",
        ),
        (Scene::new().project(&two()).up(&["bilings"]), "no target is called \"bilings\"", "did you mean \"billing\"?"),
        (
            Scene::new().project(&two()).up(&["production"]),
            "no target is called \"production\"",
            "the targets are: orders, billing",
        ),
        (
            Scene::new().up(&["orders"]),
            "no target is called \"orders\"",
            "no configuration file has targets; to use no file, give an identifier, ARN or host name",
        ),
        (
            Scene::new().project("[targets.orders]\nuser = 'x'"),
            "target orders has no host",
            "set host = \"ENDPOINT\" in [targets.orders]",
        ),
        (
            Scene::new().up(&["db.internal.example"]).flag(Key::Via, "direct"),
            "the region of db is unknown: db.internal.example is not an RDS endpoint name",
            "use the endpoint name that RDS shows, or set --region (or region, or AWS_REGION)",
        ),
        (
            Scene::new().up(&[ORDERS]).flag(Key::Via, "direct").variable("RDSGATE_REGION", "us-east-1"),
            "target orders is in eu-central-1 by its host name, but its region is set to us-east-1",
            "remove the region: a token for another region than the database's cannot work",
        ),
        (
            Scene::new().project(&two()).variable("RDSGATE_LISTEN", "localhost:7000"),
            "targets orders and billing both listen on port 7000",
            "--listen and RDSGATE_LISTEN are for one target: set listen in [targets.billing] instead",
        ),
        (
            Scene::new().project(&two().replacen("bastion", "listen = 5433\nbastion", 1)),
            "targets orders and billing both listen on port 5433",
            "give billing another local port: listen = \"localhost:5434\" in [targets.billing]",
        ),
    ] {
        assert_eq!(scene.complaint(), (complaint.to_owned(), hint.to_owned()));
    }
    for via in [None, Some("ssm")] {
        let scene = Scene::new().up(&[ORDERS]);
        let (text, hint) = via.map_or(Scene::new().up(&[ORDERS]), |via| scene.flag(Key::Via, via)).complaint();
        assert_eq!(text, "target orders has no bastion to go through");
        assert!(hint.contains("--bastion") && hint.contains("aws ssm describe-instance-information"), "{hint}");
    }
}

#[test]
fn the_same_port_on_different_addresses_is_no_conflict() {
    let text = two().replace("listen = 5433", "listen = '127.0.0.2:5432'");
    Scene::new().project(&text).load().unwrap();
}

/// The local ports of targets, by name.
fn ports(scene: &Scene) -> Vec<(String, u16)> {
    let targets = scene.load().unwrap().config.targets;
    targets.iter().map(|target| (target.name.to_string(), target.listen.port)).collect()
}

#[test]
fn the_first_of_an_engine_has_its_port_and_the_others_their_own() {
    let target = |name: &str, more: &str| format!("[targets.{name}]\nhost = '{name}.example'\n{more}\n");
    let text = "[defaults]\nvia = 'direct'\nregion = 'eu-central-1'\n".to_owned()
        + &target("a", "listen = 7000")
        + &target("b", "")
        + &target("c", "")
        + &target("m", "engine = 'mysql'")
        + &target("n", "port = 3306");
    let all = ports(&Scene::new().project(&text));
    let [a, b, c, m, n] = all.as_slice() else { panic!("five targets: {all:?}") };
    assert_eq!([a.1, b.1, m.1], [7000, 5432, 3306]);
    assert!(ports::RANGE.contains(&c.1) && ports::RANGE.contains(&n.1) && c.1 != n.1, "{all:?}");
    // Whichever of them are served.
    for name in ["a", "b", "c", "m", "n"] {
        let alone = ports(&Scene::new().project(&text).up(&[name]));
        assert!(all.contains(&alone[0]), "{alone:?} of {all:?}");
    }
    // Not when another one claims it.
    let claimed = text.replace("listen = 7000", "listen = 5432");
    assert!(ports::RANGE.contains(&ports(&Scene::new().project(&claimed).up(&["b"]))[0].1));
    // On the command line the first is the first of those.
    let endpoints = ports(&Scene::new().up(&[ORDERS, BILLING]).flag(Key::Via, "direct"));
    assert_eq!(endpoints[0], ("orders".into(), 5432));
    assert!(ports::RANGE.contains(&endpoints[1].1), "{endpoints:?}");
}

#[test]
fn of_targets_whose_engine_was_looked_up_the_first_unknown_one_has_the_engines_port() {
    let target = |name: &str, more: &str| {
        format!("[targets.{name}]\nhost = '{name}.c1abcdefghij.eu-central-1.rds.amazonaws.com'\n{more}\n")
    };
    let ports = |targets: &[(&str, &str)], found: &[(&str, Engine)]| -> Vec<u16> {
        let text = targets.iter().map(|(name, more)| target(name, more)).collect::<String>();
        let scene = Scene::new().project(&format!("[defaults]\nvia = 'direct'\n{text}"));
        let environment = Environment::new(scene.variables.iter().copied(), scene.root.path().join("project"), None);
        let mut plan = read(&scene.request, &environment).unwrap();
        for mut draft in plan.drafts.clone() {
            let (_, engine) =
                found.iter().find(|(name, _)| *name == &*draft.name).copied().unwrap_or(("", Engine::Postgres));
            draft.engine = draft.engine.or(Some(engine));
            plan.replace(draft);
        }
        plan.finish().unwrap().config.targets.iter().map(|target| target.listen.port).collect()
    };
    let own = |port: u16| ports::RANGE.contains(&port);
    // Nobody has said an engine: the first has its own's port, whichever that is.
    let found = [("shop", Engine::Mysql), ("orders", Engine::Postgres)];
    let [shop, orders] = ports(&[("shop", ""), ("orders", "")], &found)[..] else { panic!("two targets") };
    assert!(shop == 3306 && own(orders), "{shop} {orders}");
    let [orders, shop] = ports(&[("orders", ""), ("shop", "")], &found)[..] else { panic!("two targets") };
    assert!(orders == 5432 && own(shop), "{orders} {shop}");
    // Where one has said it, that is the first of its engine, and the unknown one is not.
    let said = [("shop", ""), ("ledger", "engine = 'mysql'")];
    let [shop, ledger] = ports(&said, &found)[..] else { panic!("two targets") };
    assert!(own(shop) && ledger == 3306, "{shop} {ledger}");
}

const README: &str = include_str!("../../README.md");

#[test]
fn the_readmes_file_is_one_that_loads() {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    let (text, _) = rest.split_once("```").unwrap();
    let loaded = Scene::new().project(text).load().unwrap();
    assert_eq!(names(&loaded), ["orders", "billing", "shop"]);
    let billing = &loaded.config.targets[1];
    assert_eq!((billing.endpoint.port, billing.listen.port), (5433, 6543));
}

#[test]
fn the_readme_has_every_option() {
    for key in Key::ALL.into_iter().filter(|key| *key != Key::Host) {
        assert!(README.contains(&format!("\n| `{}` |", key.flag())), "{}", key.flag());
    }
}

/// What is read before anything is looked up.
fn draft(scene: &Scene) -> Draft {
    let environment = Environment::new(scene.variables.iter().copied(), scene.root.path().join("project"), None);
    let mut drafts = read(&scene.request, &environment).unwrap().drafts;
    assert_eq!(drafts.len(), 1);
    drafts.remove(0)
}

#[test]
fn a_database_may_be_called_by_its_identifier_or_arn_and_is_looked_up_by_others() {
    let arn = "arn:aws:rds:eu-central-1:123456789012:db:orders";
    for (word, name, reference, region, port) in [
        ("Orders", "orders", Reference::Identifier("orders".into()), None, None),
        ("orders:5544", "orders", Reference::Identifier("orders".into()), None, Some(5544)),
        (arn, "orders", Reference::Arn(arn.parse().unwrap()), Some("eu-central-1"), None),
        ("db.internal.example", "db", Reference::Host("db.internal.example".parse().unwrap()), None, None),
    ] {
        let found = draft(&Scene::new().up(&[word]));
        assert_eq!((&*found.name, &found.reference, found.port), (name, &reference, port), "{word}");
        assert_eq!(found.region.as_ref().map(Region::as_str), region, "{word}");
        assert!(found.lacks_bastion());
    }
    let in_file = draft(&Scene::new().project(&format!("[targets.shop]\nhost = '{arn}'\nvia = 'direct'")));
    assert_eq!((&*in_file.name, in_file.lacks_bastion()), ("shop", false));
    assert_eq!(in_file.reference, Reference::Arn(arn.parse().unwrap()));
    let (text, _) = Scene::new().project(&format!("[targets.shop]\nhost = '{arn}'")).complaint();
    assert_eq!(text, format!("target shop has no endpoint: {arn} was not looked up"));
    let (text, _) = Scene::new().up(&[&arn.replace(":db:", ":snapshot:")]).complaint();
    assert!(text.starts_with("invalid TARGET: \"arn:aws:rds:eu-central-1:123456789012:snapshot:orders\""), "{text}");
}

#[test]
fn what_is_found_out_is_held_to_the_same_rules() {
    let mut found = draft(&Scene::new().up(&["orders"]).flag(Key::Region, "us-east-1").flag(Key::Bastion, BASTION));
    found.reference = Reference::Host(ORDERS.parse().unwrap());
    let error = found.clone().finish().unwrap_err();
    assert!(matches!(error, Error::RegionMismatch { .. }), "{error}");
    found.reference = Reference::Host(BILLING.parse().unwrap());
    let target = found.finish().unwrap();
    assert_eq!((target.region.as_str(), target.endpoint.port), ("us-east-1", 5432));
}
