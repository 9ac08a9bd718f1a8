//! Errors and warnings with their places and remedies.

use super::*;

#[test]
fn empty_variable_counts_as_unset_and_unknown_one_is_a_warning() {
    let scene = Scene::new()
        .project(&orders(""))
        .variable("RDSGATE_PORT", "")
        .variable("RDSGATE_BASTON", BASTION)
        .variable("RDSGATE_LOG", "debug")
        .variable("RDSGATE_XYZZY", "1");
    let warnings = scene.load().unwrap().warnings;
    let lines: Vec<_> = warnings.iter().map(|warning| (warning.to_string(), warning.hint())).collect();
    let says = |name: &str| format!("unknown variable {name}");
    assert_eq!(
        lines,
        [(says("RDSGATE_BASTON"), Some("did you mean RDSGATE_BASTION?".into())), (says("RDSGATE_XYZZY"), None)]
    );
}

#[cfg(unix)]
#[test]
fn world_writable_user_file_is_a_warning_and_group_writable_is_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().user(&orders(""));
    let path = scene.root.path().join("home/rdsgate/config.toml");
    for (mode, warnings) in [(0o664, 0), (0o666, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let found = scene.load().unwrap().warnings;
        assert_eq!(found.len(), warnings, "{mode:o}");
        for warning in found {
            let path = path.display();
            assert_eq!(warning.to_string(), format!("{path} can be written by every user of this machine"));
            assert_eq!(warning.hint(), Some(format!("chmod o-w {path}")));
        }
    }
}

#[test]
fn broken_file_gives_place_reason_and_suggestion() {
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
            &orders("password_command = 'pass show orders'"),
            "4:1: password_command runs a command, which a project's file may not",
            "put it into your own file, ~/.config/rdsgate/config.toml, or use --password-command",
        ),
        (
            &orders("mfa_code = '123456'"),
            "4:1: mfa_code does not belong in [targets.orders]",
            "mfa_code is for one run: use --mfa-code or RDSGATE_MFA_CODE",
        ),
        (&orders("role_arn = [1]"), "4:12: role_arn is an array, expected an ARN or a list of them", ""),
        (
            &orders("allow_users = [true]"),
            "4:15: allow_users is an array, expected a name, or an array of names and user ids, such as [\"postgres\", 999]",
            "",
        ),
        (
            &orders("allow_users = ['no such user']"),
            "4:15: invalid allow_users: \"no\" is not a user of this machine: expected a user id, or a name that is in \
             /etc/passwd",
            "",
        ),
        (&orders("local_password_file = ''"), "4:23: invalid local_password_file: it is empty", ""),
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
fn address_that_others_reach_takes_a_password() {
    for host in ["0.0.0.0", "[::]", "192.0.2.7"] {
        let text = orders(&format!("listen = ['unix', '{host}:5432']"));
        let (complaint, hint) = Scene::new().user(&text).complaint();
        assert_eq!(
            complaint,
            format!(
                "target orders listens on {host}:5432, which is not a loopback address: anyone who can reach it could use the \
                 database without a password"
            )
        );
        assert_eq!(
            hint,
            "set local_password_file (rdsgate password makes the file), or listen on localhost or a unix socket"
        );
        let target = Scene::new().user(&format!("{text}\nlocal_password_file = '/nowhere/password'")).target();
        assert_eq!(target.tcp().map(ToString::to_string), Some(format!("{host}:5432")));
        let (complaint, _) = Scene::new().project(&text).complaint();
        assert!(complaint.starts_with(".rdsgate.toml asks for what only you decide: "), "{complaint}");
    }
    let (complaint, hint) = Scene::new().user(&orders("listen = 'db.example:5432'")).complaint();
    assert!(
        complaint.ends_with("config.toml:4:10: invalid listen: \"db.example\" is neither localhost nor an IP address"),
        "{complaint}"
    );
    assert_eq!(hint, "name localhost or an IP address of this machine");
    let both = two().replace("listen = 5433", "listen = '0.0.0.0:5432'\nlocal_password_file = '/nowhere/password'");
    let own = both.replacen("bastion", "listen = '127.0.0.2:5432'\nbastion", 1);
    assert_eq!(Scene::new().user(&own).complaint().0, "targets orders and billing both listen on port 5432");
    let ports: Vec<u16> = Scene::new()
        .user(&both)
        .load()
        .unwrap()
        .config
        .targets
        .iter()
        .map(|target| target.tcp().unwrap().port)
        .collect();
    assert!(ports[0] != 5432 && ports[1] == 5432, "{ports:?}");
}

#[test]
fn roles_sessions_and_codes_have_the_form_that_sts_takes() {
    let scene = Scene::new().project(&orders("")).user("[defaults]\nmfa_command = 'code aws'");
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
fn bad_value_names_its_flag_or_variable() {
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
fn variable_that_is_not_unicode_is_an_error() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let variables = [("RDSGATE_USER", OsString::from_vec(vec![0xff]))];
    let error = load(&Request::default(), &Environment::new(variables, PathBuf::from("/nowhere"), None)).unwrap_err();
    assert_eq!(error.to_string(), "RDSGATE_USER is not valid UTF-8");
}

#[test]
fn missing_or_contradicting_values_are_errors_with_a_hint() {
    for (scene, complaint, hint) in [
        (
            Scene::new(),
            "no database to serve: none on the command line, and there is no configuration file",
            "rdsgate ls lists your databases; rdsgate psql NAME --user USER opens one, without a file; rdsgate config init \
             describes them for this folder",
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
            Scene::new().up(&["orders.global-c1abcdefghij.global.rds.amazonaws.com"]).flag(Key::Via, "direct"),
            "the region of orders is unknown: orders.global-c1abcdefghij.global.rds.amazonaws.com is the writer of an Aurora \
             global database, which no region is part of",
            "set --region (or region) to the region of the writer's cluster; by itself rdsgate finds it where a name server of \
             this machine, or the one in RDSGATE_DNS, resolves the name",
        ),
        (
            Scene::new().up(&["arn:aws:rds:eu-central-1:123456789012:db:orders"]).flag(Key::Region, "us-east-1"),
            "target orders is in eu-central-1 by its ARN, but its region is set to us-east-1",
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
