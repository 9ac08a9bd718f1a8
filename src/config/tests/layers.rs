//! The values of all sources, and their precedence.

use super::*;

#[test]
fn file_with_every_key_becomes_a_config() {
    let scene = Scene::new().user(
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
        unsigned_stream = true
        payload_size = 4096
        keep_alive = true
        idle_timeout = "45m"
        "#,
    );
    let loaded = scene.load().unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.files, [scene.root.path().join("home/rdsgate/config.toml")]);
    let Config {
        targets,
        connect_timeout,
        resume_for,
        min_sigterm_delay,
        max_sigterm_delay,
        admin,
        mfa_code,
        open_browser,
    } = loaded.config;
    assert_eq!((mfa_code, open_browser), (None, true));
    assert_eq!(
        [connect_timeout, resume_for, max_sigterm_delay, min_sigterm_delay].map(|time| time.as_secs()),
        [5, 90, 0, 0]
    );
    let beside_the_file = scene.root.path().join("home/rdsgate/run/admin.sock");
    assert_eq!(admin, Some(listen::Address::Unix(beside_the_file)));
    let [target] = targets.as_slice() else { panic!("one target") };
    assert_eq!((&*target.name, target.engine.to_string().as_str()), ("orders", "postgres"));
    assert_eq!(target.endpoint.to_string(), format!("{ORDERS}:5544"));
    assert_eq!((target.tcp().unwrap().host.as_str(), target.tcp().unwrap().port), ("127.0.0.1", 6000));
    assert_eq!(target.route, Route::Ssm(BASTION.parse().unwrap()));
    assert_eq!((target.user.as_deref(), target.database.as_deref()), (Some("app_user"), Some("orders_db")));
    assert_eq!((target.identity.profile.as_deref(), target.region.as_str()), (Some("dev"), "eu-central-1"));
    let Identity { roles, external_id, session_name, mfa_serial, .. } = &target.identity;
    assert_eq!(roles.iter().map(RoleArn::name).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(external_id.as_ref().map(ExternalId::as_str), Some("partner/7"));
    assert_eq!(session_name.as_str(), "ada@example");
    assert_eq!(mfa_serial.as_ref().map(MfaSerial::as_str), Some("arn:aws:iam::123456789012:mfa/ada"));
    assert_eq!(target.ca_file, Some(scene.root.path().join("home/rdsgate/certs/own.pem").as_path().into()));
    let session = SessionSettings {
        document: "Corp-Databases".parse().unwrap(),
        parameters: Some(value::document_parameters("portNumber,stage=dev").unwrap()),
        reason: "ticket 42".parse().unwrap(),
        ssmmessages_endpoint: Some(value::service_endpoint("messages.corp.example").unwrap()),
        unsigned_stream: true,
        payload_size: 4096,
        keep_alive: true,
        idle_timeout: Some(Duration::from_mins(45)),
    };
    assert_eq!(target.session, session);
}

#[test]
fn command_line_alone_makes_a_complete_target() {
    let scene = Scene::new().up(&[ORDERS]).flag(Key::Bastion, BASTION);
    let Config { connect_timeout, resume_for, max_sigterm_delay, .. } = scene.load().unwrap().config;
    assert_eq!([connect_timeout, resume_for, max_sigterm_delay].map(|time| time.as_secs()), [30, 120, 30]);
    let target = scene.target();
    assert_eq!((&*target.name, target.endpoint.to_string()), ("orders", format!("{ORDERS}:5432")));
    assert_eq!((target.tcp().unwrap().host.as_str(), target.tcp().unwrap().port), ("localhost", 5432));
    assert_eq!(target.tcp().unwrap().addresses, value::both_loopbacks());
    assert_eq!((target.user, target.database, target.ca_file), (None, None, None));
    assert_eq!(target.identity, Identity::default(), "the scene has no user");
}

#[test]
fn stronger_layer_wins_for_each_key() {
    // Each row takes away the layer that won in the row before.
    for (layers, user) in [(4, "flag"), (3, "variable"), (2, "project"), (1, "project-default"), (0, "default")] {
        let line = |from: usize, text: &str| if layers >= from { text.to_owned() } else { String::new() };
        let mut scene = Scene::new()
            .project(&format!(
                "[defaults]\n{}\n{}",
                line(1, "user = 'project-default'"),
                orders(&format!("port = 5544\n{}", line(2, "user = 'project'")))
            ))
            .user("[defaults]\nuser = 'default'\ndatabase = 'from-default'");
        if layers >= 3 {
            scene = scene.variable("RDSGATE_USER", "variable");
        }
        if layers >= 4 {
            scene = scene.flag(Key::User, "flag");
        }
        let target = scene.target();
        assert_eq!(target.user.as_deref(), Some(user), "{layers} layers");
        assert_eq!((target.database.as_deref(), target.endpoint.port), (Some("from-default"), 5544), "others stay");
    }
}

#[test]
fn tilde_means_the_home_folder_in_every_source() {
    let base = || Scene::new().variable("HOME", "/home/alice").up(&[ORDERS]).flag(Key::Bastion, BASTION);
    let expected = Some(Path::new("/home/alice/ca.pem").into());
    for scene in [
        base().flag(Key::CaFile, "~/ca.pem"),
        base().variable("RDSGATE_CA_FILE", "~/ca.pem"),
        base().user("[defaults]\nca_file = '~/ca.pem'"),
    ] {
        assert_eq!(scene.target().ca_file, expected);
    }
    for other in ["~", "~bob/ca.pem", "/~/ca.pem"] {
        let target = base().flag(Key::CaFile, other).target();
        assert_eq!(target.ca_file, Some(Path::new(other).into()), "no other path is the user's home");
    }
    let admin = |scene: Scene| scene.load().unwrap().config.admin;
    let expected = Some(listen::Address::Unix("/home/alice/gate.sock".into()));
    assert_eq!(admin(base().flag(Key::Admin, "unix:~/gate.sock")), expected);
    assert_eq!(admin(base().user("[defaults]\nadmin = 'unix:~/gate.sock'")), expected);
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
        (Key::Auth, "password", "auth = 'password'"),
        (Key::Secret, "prod/orders", "secret = 'prod/orders'"),
        (Key::PasswordCommand, "pass show orders", "password_command = 'pass show orders'"),
        (Key::Profile, "dev", "profile = 'dev'"),
        (Key::Region, "eu-central-1", "region = 'eu-central-1'"),
        (Key::AllowUsers, "999 1", "allow_users = [999, '1']"),
        (Key::LocalPasswordFile, "/own", "local_password_file = '/own'"),
        (Key::LocalNames, "proxy 10.1.2.3", "local_names = ['proxy', '10.1.2.3']"),
        (Key::RoleArn, ROLES, "role_arn = ['arn:aws:iam::123456789012:role/a', 'arn:aws:iam::123456789012:role/b']"),
        (Key::ExternalId, "partner/7", "external_id = 'partner/7'"),
        (Key::SessionName, "ada", "session_name = 'ada'"),
        (Key::MfaSerial, "GAHT12345678", "mfa_serial = 'GAHT12345678'"),
        (Key::CaFile, "/own.pem", "ca_file = '/own.pem'"),
        (Key::Via, "direct", "via = 'direct'"),
        (Key::Compress, "zlib", "compress = 'zlib'"),
        (Key::PinUser, "true", "pin_user = true"),
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
        let base = |line: &str| Scene::new().user(&format!("[targets.orders]\nhost = '{ORDERS}'\n{line}"));
        // Without a bastion nothing loads; the row that sets one, or needs none, does without.
        let base = |line: &str| {
            let scene = base(line);
            let scene = if key == Key::PinUser { scene.flag(Key::User, "app") } else { scene };
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
fn project_file_is_found_upwards_and_its_paths_are_relative_to_it() {
    let scene = Scene::new().project(&orders("ca_file = 'own.pem'"));
    fs::write(scene.root.path().join("project/own.pem"), "PEM").unwrap();
    let scene = scene.trusting();
    let loaded = scene.load_in("project/src/deep").unwrap();
    let ca_file = loaded.config.targets[0].ca_file.clone().unwrap();
    assert_eq!(ca_file.path, scene.root.path().join("project/own.pem"));
    assert_eq!(ca_file.sha256, Some(crate::regular_file::sha256(b"PEM")), "as it was trusted");
    assert!(matches!(scene.load_in("home").unwrap_err(), Error::NoTargets { .. }));
}

#[test]
fn named_file_replaces_the_two_default_files() {
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

#[test]
fn port_in_the_host_belongs_to_the_layer_of_the_host() {
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
fn region_comes_from_the_host_then_options_then_aws_variables() {
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
    let default = plain().user("[defaults]\nregion = 'us-west-2'").variable("AWS_REGION", "a-b-1");
    assert_eq!(region(default), is("us-west-2"));
    assert_eq!(region(plain().flag(Key::Region, "us-west-2").variable("RDSGATE_REGION", "a-b-1")), is("us-west-2"));
}

#[test]
fn fixed_defaults_of_the_table_are_the_values_that_count() {
    let scene = Scene::new().project(&orders(""));
    let tables = explain(&scene.request, &scene.environment("project"), &mut Vec::new()).unwrap().tables;
    for explained in tables.iter().flat_map(|table| &table.values).filter(|explained| explained.origin.is_none()) {
        if let options::DefaultValue::Fixed(text) = explained.key.entry().default {
            assert_eq!(explained.value.as_deref(), Some(text), "{:?}", explained.key);
        }
    }
}
