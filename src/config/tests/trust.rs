//! The rights of a file that comes with a repository.

use super::*;
use crate::target::{Auth, Guard, LocalTlsMode, PasswordSource};

/// The options that a project's file may not decide by itself, a line each.
const OWNERS: [&str; 24] = [
    "engine = 'tcp'\nport = 5432",
    "listen = ['/run/user/1000/', 5432]",
    "socket_mode = '0666'",
    "socket_group = 'root'",
    "allow_users = [999]",
    "local_password_file = '/known/to/others'",
    "local_ca = 'ca'",
    "local_names = ['bank.example']",
    "auth = 'password'",
    "secret = 'prod/orders'",
    "profile = 'live'",
    "role_arn = 'arn:aws:iam::123456789012:role/attacker'",
    "external_id = 'partner/7'",
    "session_name = 'somebody'",
    "mfa_serial = 'GAHT12345678'",
    "ca_file = 'ca.pem'",
    "document = 'Attackers-Document'",
    "document_parameters = ['host=evil.example', 'portNumber']",
    "reason = 'somebody else'",
    "ssmmessages_endpoint = 'evil.example'",
    "unsigned_stream = true",
    "keep_alive = true",
    "reuse = '60s'",
    "via = 'direct'",
];

/// A target that is not an RDS endpoint, so that `via` matters too.
fn alias(lines: &str) -> String {
    format!("[targets.orders]\nhost = 'db.evil.example'\nregion = 'eu-central-1'\nbastion = '{BASTION}'\n{lines}")
}

fn debug(targets: &[Target]) -> String {
    format!("{targets:#?}")
}

fn withheld(plan: &Plan) -> Vec<Key> {
    plan.consent.iter().flat_map(|consent| consent.withheld.iter().map(|request| request.key)).collect()
}

#[test]
fn owner_key_takes_effect_once_the_file_is_trusted() {
    for line in OWNERS {
        let name = line.split(' ').next().unwrap();
        for text in [alias(line), format!("[defaults]\n{line}\n{}", alias(""))] {
            let scene = Scene::new().project(&text);
            fs::write(scene.root.path().join("project/ca.pem"), "a root").unwrap();
            let plan = scene.read().unwrap();
            assert_eq!(withheld(&plan).iter().map(|key| key.name()).collect::<Vec<_>>(), [name], "{text}");
            let without = debug(&plan.finish().unwrap().config.targets);
            let plain = Scene::new().project(&alias("")).load().unwrap().config.targets;
            assert_eq!(without, debug(&plain), "nothing of it counts: {line}");
            let (complaint, hint) = scene.complaint();
            assert!(complaint.starts_with(".rdsgate.toml asks for what only you decide: "), "{complaint}");
            assert!(complaint.contains(&format!("{name} (line ")), "{complaint}");
            assert!(hint.contains("rdsgate trust") && hint.contains(&Key::of_name(name).unwrap().flag()), "{hint}");

            let trusting = scene.trusting();
            let with = debug(&trusting.load().unwrap().config.targets);
            assert_ne!(with, without, "{line}");
        }
    }
}

#[test]
fn keys_about_identity_and_certificates_belong_to_the_owner() {
    let owners: Vec<&str> = Key::ALL.into_iter().filter(|key| key.asks().is_some()).map(Key::name).collect();
    let mut expected: Vec<&str> = OWNERS.iter().map(|line| line.split(' ').next().unwrap()).collect();
    expected.extend(["admin", "open_browser"]);
    expected.sort_unstable_by_key(|name| Key::ALL.iter().position(|key| key.name() == *name));
    assert_eq!(owners, expected);
}

#[test]
fn repository_demands_tls_of_clients_and_does_not_lift_it() {
    for (project, own, mode) in [
        ("off", "require", LocalTlsMode::Require),
        ("offer", "require", LocalTlsMode::Require),
        ("require", "offer", LocalTlsMode::Require),
        ("offer", "off", LocalTlsMode::Offer),
    ] {
        let own = format!("[defaults]\nlocal_tls = '{own}'");
        let target = Scene::new().project(&orders(&format!("local_tls = '{project}'"))).user(&own).target();
        assert_eq!(target.local_tls.mode, mode, "{project} over {own}");
    }
}

#[test]
fn address_that_other_machines_reach_offers_tls_unless_its_owner_says_off() {
    let open = "listen = '0.0.0.0:5432'\nlocal_password_file = '/password'";
    for (said, mode) in [
        ("", LocalTlsMode::Offer),
        ("local_tls = 'require'", LocalTlsMode::Require),
        ("local_tls = 'off'", LocalTlsMode::Off),
    ] {
        let target = Scene::new().user(&orders(&format!("{open}\n{said}"))).target();
        assert_eq!(target.local_tls.mode, mode, "{said}");
    }
    let scene = Scene::new().project(&orders(&format!("{open}\nlocal_tls = 'off'")));
    assert_eq!(scene.trusting().target().local_tls.mode, LocalTlsMode::Offer);
}

#[test]
fn switching_off_requires_no_trust() {
    let own = "[defaults]\nkeep_alive = true\nopen_browser = true";
    let text = format!("[defaults]\nopen_browser = false\n{}", orders("keep_alive = false"));
    let config = Scene::new().project(&text).user(own).load().unwrap().config;
    assert!(!config.open_browser && !config.targets[0].session.keep_alive);
    let target = Scene::new().project(&orders("auth = 'iam'")).user("[defaults]\nauth = 'password'").target();
    assert_eq!(target.auth, Auth::Iam);
    assert_eq!(withheld(&Scene::new().project(&orders("profile = 'false'")).read().unwrap()), [Key::Profile]);
}

#[test]
fn flags_and_variables_require_no_trust() {
    let scene = Scene::new().project(&orders("profile = 'live'\nca_file = 'ca.pem'"));
    let scene = scene.flag(Key::Profile, "dev").variable("RDSGATE_CA_FILE", "/own.pem");
    let target = scene.target();
    assert_eq!(target.identity.profile.as_deref(), Some("dev"));
    assert_eq!(target.ca_file, Some(Path::new("/own.pem").into()));
}

#[test]
fn project_may_choose_direct_only_for_an_rds_endpoint() {
    let via = |host: &str, via: &str| {
        let text =
            format!("[targets.orders]\nhost = '{host}'\nregion = 'eu-central-1'\nbastion = '{BASTION}'\nvia = '{via}'");
        withheld(&Scene::new().project(&text).read().unwrap())
    };
    let arn = "arn:aws:rds:eu-central-1:123456789012:db:orders";
    for (host, way, expected) in [
        (ORDERS, "direct", &[][..]),
        (ORDERS, "auto", &[]),
        (arn, "direct", &[]),
        ("shop.global-0123456789abcdef.global.rds.amazonaws.com", "direct", &[]),
        ("db.evil.example", "direct", &[Key::Via]),
        ("db.evil.example", "auto", &[Key::Via]),
        ("db.evil.example", "ssm", &[]),
        ("orders.rds.amazonaws.com.evil.example", "direct", &[Key::Via]),
    ] {
        assert_eq!(via(host, way), expected, "{host} {way}");
    }
}

#[test]
fn trust_covers_path_content_and_named_files() {
    let scene = Scene::new().project(&orders("profile = 'live'\nca_file = 'ca.pem'"));
    let root = scene.root.path().to_owned();
    let path = |name: &str| root.join(name);
    fs::write(path("project/ca.pem"), "a root").unwrap();
    let scene = scene.trusting();
    assert_eq!(scene.target().identity.profile.as_deref(), Some("live"));
    let complaint = |what: &str| {
        let (complaint, _) = scene.complaint();
        assert!(
            complaint.starts_with(".rdsgate.toml has changed since you trusted it, and asks"),
            "{what}: {complaint}"
        );
    };
    fs::write(path("project/ca.pem"), "another root").unwrap();
    complaint("the named file");
    fs::write(path("project/ca.pem"), "a root").unwrap();
    let text = fs::read_to_string(path("project/.rdsgate.toml")).unwrap();
    fs::write(path("project/.rdsgate.toml"), format!("{text}\n# a comment")).unwrap();
    complaint("the file");
    fs::write(path("project/.rdsgate.toml"), &text).unwrap();
    scene.load().unwrap();
    // A copy elsewhere is another file, and a link to it is the file itself.
    fs::create_dir(path("copy")).unwrap();
    for name in [".rdsgate.toml", "ca.pem"] {
        fs::copy(path("project").join(name), path("copy").join(name)).unwrap();
    }
    assert!(matches!(scene.load_in("copy").unwrap_err(), Error::NotTrusted { changed: false, .. }));
    fs::remove_file(path("copy/.rdsgate.toml")).unwrap();
    std::os::unix::fs::symlink(path("project/.rdsgate.toml"), path("copy/.rdsgate.toml")).unwrap();
    fs::write(path("copy/ca.pem"), "an attacker's root").unwrap();
    let loaded = scene.load_in("copy").unwrap();
    let ca_file = loaded.config.targets[0].ca_file.clone().unwrap();
    assert_eq!(ca_file.path, path("project/ca.pem"), "beside the file itself, not beside the link");
    // A moved file is asked about again, and so is one whose record was taken back.
    fs::rename(path("project"), path("moved")).unwrap();
    assert!(matches!(scene.load_in("moved").unwrap_err(), Error::NotTrusted { changed: false, .. }));
    fs::rename(path("moved"), path("project")).unwrap();
    assert!(revoke(Path::new(".rdsgate.toml"), &scene.environment("project")).unwrap());
    assert!(matches!(scene.load().unwrap_err(), Error::NotTrusted { changed: false, .. }));
}

#[test]
fn named_file_that_cannot_be_read_is_never_trusted() {
    let scene = Scene::new().project(&orders("ca_file = 'fifo'"));
    let fifo = scene.root.path().join("project/fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let consent = project(None, &scene.environment("project"), &mut Vec::new()).unwrap().unwrap();
    let error = causes::one_line(&consent.give().unwrap_err());
    let named = format!("`{}`, which it names, cannot be read", fifo.display());
    assert_eq!(error, format!("cannot record that .rdsgate.toml is trusted: {named}"));
    assert!(matches!(scene.load().unwrap_err(), Error::NotTrusted { .. }));
}

#[test]
fn project_defaults_apply_to_its_targets_and_user_defaults_to_all() {
    let project = format!(
        "[defaults]\nuser = 'attacker'\nbastion = 'i-0000000000000000a'\nport = 1\nconnect_timeout = '1s'\n\
         max_sessions = 1\n[targets.theirs]\nhost = '{BILLING}'"
    );
    let own = format!(
        "[defaults]\nbastion = '{BASTION}'\nprofile = 'me'\nlabel = 'MINE'\nuser = 'me'\nmax_sigterm_delay = '5s'\n\
         [targets.mine]\nhost = '{ORDERS}'"
    );
    let scene = |targets: &[&str]| Scene::new().project(&project).user(&own).up(targets).load().unwrap().config;
    for mine in ["mine", &*format!("{ORDERS}:5432")] {
        let Config { targets, connect_timeout, max_sigterm_delay, .. } = scene(&[mine]);
        let Target { user, route, endpoint, pooling, .. } = &targets[0];
        assert_eq!((user.as_deref(), endpoint.port, pooling.max_sessions), (Some("me"), 5432, 4), "{mine}");
        assert_eq!(*route, Route::Ssm(BASTION.parse().unwrap()), "{mine}");
        assert_eq!([connect_timeout, max_sigterm_delay].map(|time| time.as_secs()), [30, 5], "{mine}");
    }
    let Config { targets, connect_timeout, max_sigterm_delay, .. } = scene(&["theirs"]);
    let Target { user, identity, guard, .. } = &targets[0];
    assert_eq!((user.as_deref(), identity.profile.as_deref()), (Some("attacker"), Some("me")));
    assert_eq!((guard.label.as_deref(), connect_timeout.as_secs(), max_sigterm_delay.as_secs()), (Some("MINE"), 1, 5));
    // Beside one of the owner's the process is the owner's.
    assert_eq!(scene(&["theirs", "mine"]).connect_timeout.as_secs(), 30);
    // Trust is for the project's own targets too.
    let trusted =
        Scene::new().project(&project.replace("[defaults]", "[defaults]\nprofile = 'live'")).user(&own).trusting();
    let targets = trusted.up(&["theirs", "mine", ORDERS]).load().unwrap().config.targets;
    let profiles: Vec<_> = targets.iter().map(|target| target.identity.profile.as_deref()).collect();
    assert_eq!(profiles, [Some("live"), Some("me"), Some("me")]);
}

#[test]
fn user_target_wins_over_project_target_of_the_same_name_and_keeps_both_guards() {
    let project = "[targets.orders]\nhost = 'db.evil.example'\nuser = 'attacker'\nport = 1\nregion = 'us-east-1'\n\
         bastion = 'i-0000000000000000a'\nread_only = true\nstatement_timeout = '1s'\nconfirm = false\nlabel = 'THEIRS'";
    let own = orders("confirm = true\nstatement_timeout = '30s'\nlabel = 'MINE'\nlisten = 6000");
    for scene in [Scene::new().project(project).user(&own), Scene::new().project(project).user(&own).trusting()] {
        let loaded = scene.load().unwrap();
        let [Target { endpoint, user, route, guard, .. }] = loaded.config.targets.as_slice() else { panic!("one") };
        assert_eq!((endpoint.to_string(), user.as_deref()), (format!("{ORDERS}:5432"), None));
        assert_eq!(*route, Route::Ssm(BASTION.parse().unwrap()));
        assert_eq!((guard.read_only, guard.confirm, guard.label.as_deref()), (true, true, Some("MINE")));
        assert_eq!(guard.statement_timeout, Some(Duration::from_secs(1)));
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        let own = scene.root.path().join("home/rdsgate/config.toml");
        assert_eq!(
            warnings,
            [format!(
                "orders is the one of {}; .rdsgate.toml has another of that name, which only adds its guards",
                own.display()
            )]
        );
    }
}

#[test]
fn project_can_only_tighten_guards_and_a_flag_can_lift_them() {
    let own = "[defaults]\nread_only = true\nconfirm = true\nstatement_timeout = '10s'\nlabel = 'MINE'";
    let loose = "read_only = false\nconfirm = false\nstatement_timeout = '1h'\nlabel = 'harmless'";
    let guard = |scene: Scene| scene.target().guard;
    let owners = Guard {
        read_only: true,
        statement_timeout: Some(Duration::from_secs(10)),
        label: Some("MINE".into()),
        confirm: true,
        pin_user: false,
    };
    for text in [orders(loose), format!("[defaults]\n{loose}\n{}", orders(""))] {
        assert_eq!(guard(Scene::new().project(&text).user(own)), owners);
        assert_eq!(guard(Scene::new().project(&text).user(own).trusting()), owners, "not by trust either");
    }
    let tight = "read_only = true\nconfirm = true\nstatement_timeout = '2s'\nlabel = 'PRODUCTION'";
    let tightened = guard(Scene::new().project(&orders(tight)).user("[defaults]\nread_only = false"));
    let two_seconds = Some(Duration::from_secs(2));
    assert_eq!(tightened, Guard { statement_timeout: two_seconds, label: Some("PRODUCTION".into()), ..owners.clone() });
    let lifted = Scene::new().project(&orders(tight)).user(own).flag(Key::ReadOnly, "false");
    assert!(!guard(lifted).read_only, "the owner's own word at this moment");
    let (complaint, _) = Scene::new().project(&orders("statement_timeout = '0s'")).user(own).complaint();
    assert!(complaint.starts_with(".rdsgate.toml:4:21: invalid statement_timeout"), "{complaint}");
}

#[test]
fn full_endpoint_never_means_a_target_of_a_project() {
    for name in [ORDERS, "db.corp.example"] {
        let text = format!("[targets.'{name}']\nhost = 'db.evil.example'\n");
        let (complaint, _) = Scene::new().project(&text).up(&[name]).complaint();
        assert_eq!(
            complaint,
            format!(".rdsgate.toml:1:10: {name:?} is a host name, which cannot name a target of a project's file")
        );
        Scene::new().user(&format!("{text}via = 'direct'\nregion = 'eu-central-1'")).load().unwrap();
    }
    assert_eq!(
        names(&Scene::new().project(&orders("").replace("orders]", "'orders.live']")).load().unwrap()),
        ["orders.live"]
    );
}

#[test]
fn trust_is_required_only_for_settings_in_use() {
    let text = format!("[defaults]\nadmin = 'unix:x'\n{}[targets.b]\nhost = '{BILLING}'\nprofile = 'b'", orders(""));
    let scene = Scene::new().project(&text).up(&["orders"]);
    let plan = scene.read().unwrap();
    assert_eq!(withheld(&plan), [Key::Admin]);
    let shown: Vec<Key> = plan.consent.unwrap().requests.iter().map(|request| request.key).collect();
    assert_eq!(shown, [Key::Admin, Key::Profile]);
    assert_eq!(withheld(&scene.flag(Key::Admin, "0").read().unwrap()), []);
    let place = |scene: &Scene| place(&scene.request, &scene.environment("project")).unwrap();
    let of_defaults = Scene::new().project("[defaults]\nprofile = 'live'\nca_file = 'x'\nregion = 'us-east-1'");
    let found = place(&of_defaults);
    assert_eq!((found.identity.profile, found.region.unwrap().as_str()), (None, "us-east-1"));
    assert_eq!(found.consent.unwrap().withheld.len(), 1);
    assert!(place(&Scene::new().project("[defaults]\nca_file = 'x'")).consent.is_none());
}

#[test]
fn untrusted_values_must_parse() {
    for (line, said) in [
        ("role_arn = 'dba'", "4:12: invalid role_arn"),
        ("ca_file = ''", "4:11: invalid ca_file"),
        ("[defaults]\nadmin = 'db.example:1'", "5:9: invalid admin"),
    ] {
        let (complaint, _) = Scene::new().project(&orders(line)).complaint();
        assert!(complaint.starts_with(&format!(".rdsgate.toml:{said}")), "{complaint}");
    }
}

#[test]
fn file_writable_by_others_is_ignored_with_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    for (path, said) in [("project/.rdsgate.toml", ".rdsgate.toml"), ("project", "")] {
        let scene = Scene::new().project(&orders("")).up(&[ORDERS]).flag(Key::Bastion, BASTION);
        let path = scene.root.path().join(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let loaded = scene.load().unwrap();
        assert!(loaded.files.is_empty(), "{said}");
        let [warning] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
        let path = path.display();
        assert_eq!(warning.to_string(), format!(".rdsgate.toml is not read: others can write `{path}` (mode 0777)"));
        assert_eq!(warning.hint(), Some(format!("chmod go-w {path}")));
    }
    // The user names the file, and so trusts everyone who can write it.
    let scene = Scene::new().project(&orders("profile = 'x'"));
    let path = scene.root.path().join("project/.rdsgate.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let named = Scene { request: Request { file: Some(path), ..Request::default() }, ..scene };
    assert_eq!(named.target().identity.profile.as_deref(), Some("x"));
}

#[test]
fn password_of_the_owner_goes_to_the_databases_of_the_owner_alone() {
    let own = "[defaults]\nsecret = 'prod/orders'\n";
    let of = |scene: Scene| {
        let target = scene.target();
        (target.auth, target.password)
    };
    let mine = (Auth::Secret, "prod/orders".parse().unwrap());
    assert_eq!(of(Scene::new().user(&format!("{own}{}", orders("")))), mine);
    assert_eq!(of(Scene::new().user(own).project(&orders(""))), (Auth::Iam, PasswordSource::Rds));
    assert_eq!(of(Scene::new().user(own).project(&orders("")).trusting()), mine);
    assert_eq!(of(Scene::new().flag(Key::Secret, "prod/orders").project(&orders(""))), mine);
    let own = "[defaults]\nauth = 'password'\n";
    assert_eq!(of(Scene::new().user(own).project(&orders(""))).0, Auth::Iam);
    assert_eq!(of(Scene::new().user(own).project(&orders("")).trusting()).0, Auth::Password);
    assert_eq!(of(Scene::new().flag(Key::Auth, "password").project(&orders(""))).0, Auth::Password);
}

#[test]
fn source_of_a_password_asks_for_a_login_with_it() {
    let of = |lines: &str| {
        let target = Scene::new().user(&orders(lines)).target();
        (target.auth, target.password)
    };
    let command = PasswordSource::Command("pass show orders".into());
    assert_eq!(of("password_command = 'pass show orders'"), (Auth::Secret, command));
    assert_eq!(of("secret = 'rds'"), (Auth::Secret, PasswordSource::Rds));
    assert_eq!(of("auth = 'secret'"), (Auth::Secret, PasswordSource::Rds));
    assert_eq!(of("auth = 'iam'\nsecret = 'rds'").0, Auth::Iam);
    let (complaint, hint) = Scene::new().user(&orders("secret = 'a'\npassword_command = 'b'")).complaint();
    assert_eq!(
        (complaint.as_str(), hint.as_str()),
        ("target orders has both secret and password_command", "keep one of the two")
    );
}
