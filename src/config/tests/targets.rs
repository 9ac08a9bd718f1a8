//! Targets from drafts: name, route, sessions and local port.

use super::*;
use crate::target::Address;

#[test]
fn only_cluster_sessions_rotate_and_warm_sessions_are_limited() {
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
fn tcp_target_leads_to_any_host_and_a_node_to_itself() {
    let tcp = |host: &str| Scene::new().up(&[host]).flag(Key::Engine, "tcp").flag(Key::Region, "eu-central-1");
    for (word, name, endpoint, port) in [
        ("redis:6379", "redis", "redis:6379", 6379),
        ("web.internal.example:8080", "web", "web.internal.example:8080", 8080),
        ("10.0.0.5:8080", "10.0.0.5", "10.0.0.5:8080", 8080),
        ("[fd00::1]:8080", "fd00::1", "[fd00::1]:8080", 8080),
        (&format!("{ORDERS}:1521"), "orders", &format!("{ORDERS}:1521"), 1521),
        (&format!("{ORDERS}:5432"), "orders", &format!("{ORDERS}:5432"), 5432),
    ] {
        let target = tcp(word).flag(Key::Bastion, BASTION).flag(Key::User, "ada").target();
        assert_eq!((&*target.name, target.endpoint.to_string().as_str()), (name, endpoint));
        assert_eq!((target.tcp().unwrap().port, target.user.as_deref()), (port, None), "{word}");
        assert!(!target.session.document.is_for_node(), "{word}");
    }
    for node in [BASTION, "mi-0123456789abcdef0", "ecs:Web_0123abc_0123abc-456"] {
        let target = tcp(&format!("{node}:80")).target();
        assert_eq!(target.route, Route::Ssm(node.parse().unwrap()));
        assert_eq!(target.endpoint.to_string(), format!("{node}:80"));
        assert!(target.session.document.is_for_node());
        assert!(
            ports::RANGE.contains(&target.tcp().unwrap().port),
            "a privileged port is not taken: {}",
            target.tcp().unwrap().port
        );
    }
    let (text, hint) = tcp("redis").flag(Key::Bastion, BASTION).complaint();
    assert_eq!(
        (text.as_str(), hint.as_str()),
        ("target redis has no port", "give it with the host, redis:PORT, or set port (--port)")
    );
    let (text, hint) = Scene::new().up(&[&format!("{BASTION}:80")]).flag(Key::Engine, "tcp").complaint();
    assert_eq!(text, format!("the region of {BASTION} is unknown"));
    assert!(hint.starts_with("set --region"), "{hint}");
    let (text, _) = tcp("redis:6379").flag(Key::Bastion, BASTION).flag(Key::ReadOnly, "true").complaint();
    assert_eq!(
        text,
        "target redis has pin_user, read_only or statement_timeout, and its engine has no protocol that keeps them"
    );
    let (text, _) = tcp("a/b:1").flag(Key::Bastion, BASTION).complaint();
    assert!(text.contains("no target is called"), "{text}");
}

#[test]
fn tcp_target_of_a_file_leaves_the_ports_of_databases_to_them() {
    let file = format!(
        "[defaults]\nbastion = '{BASTION}'\nregion = 'eu-central-1'\n[targets.raw]\nengine = 'tcp'\nhost = '{ORDERS}:5432'\n\
         [targets.cache]\nengine = 'tcp'\nhost = '10.0.0.5'\nport = 6379\n[targets.task]\nengine = 'tcp'\n\
         host = 'ecs:a_b_c'\nport = 8080\n[targets.orders]\nhost = '{ORDERS}'"
    );
    let targets = Scene::new().user(&file).load().unwrap().config.targets;
    let port = |name: &str| targets.iter().find(|target| &*target.name == name).unwrap().tcp().unwrap().port;
    assert_eq!((port("orders"), port("cache"), port("task")), (5432, 6379, 8080));
    assert!(ports::RANGE.contains(&port("raw")));
}

#[test]
fn first_target_of_an_engine_has_the_usual_socket_and_each_other_one_in_a_folder() {
    let file = format!(
        "[defaults]\nbastion = '{BASTION}'\nlisten = ['unix', 0]\n[targets.port]\nhost = '{ORDERS}'\nlisten = 5433\n\
         [targets.orders]\nhost = '{ORDERS}'\n[targets.billing]\nhost = '{BILLING}'\n[targets.shop]\nengine = 'mysql'\n\
         host = '{ORDERS}'"
    );
    let scene = || Scene::new().user(&file).variable("XDG_RUNTIME_DIR", "/run/user/7");
    let listen = |scene: Scene| -> Vec<String> {
        let targets = scene.load().unwrap().config.targets;
        targets
            .iter()
            .map(|target| target.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect()
    };
    let expected = [
        "localhost:5433",
        "unix:/run/user/7/rdsgate/.s.PGSQL.5432 localhost:0",
        "unix:/run/user/7/rdsgate/billing/.s.PGSQL.5432 localhost:0",
        "unix:/run/user/7/rdsgate/mysql.sock localhost:0",
    ];
    assert_eq!(listen(scene()), expected);
    assert_eq!(listen(scene().up(&["billing"])), expected[2..3], "the same whichever targets are served");
    assert_eq!(listen(scene().up(&[ORDERS]).flag(Key::Listen, "unix")), ["unix:/run/user/7/rdsgate/.s.PGSQL.5432"]);
}

#[test]
fn path_of_a_socket_is_a_folder_or_a_name_that_programs_find() {
    for (engine, configured, expected) in [
        ("postgres", "/nowhere/", "/nowhere/.s.PGSQL.5432"),
        ("postgres", "/", "/.s.PGSQL.5432"),
        ("postgres", "/nowhere/.s.PGSQL.5433", "/nowhere/.s.PGSQL.5433"),
        ("mysql", "~/sockets/", "/home/alice/sockets/mysql.sock"),
        ("mysql", "/nowhere/shop", "/nowhere/shop"),
        ("tcp", "/nowhere/", "/nowhere/tcp.sock"),
    ] {
        let text = orders(&format!("engine = '{engine}'\nport = 1521\nlisten = '{configured}'"));
        let target = Scene::new().user(&text).variable("HOME", "/home/alice").target();
        assert_eq!(target.listen, [Address::Unix(expected.into())], "{configured}");
    }
    let (text, hint) = Scene::new().user(&orders("listen = '/nowhere/orders'")).complaint();
    assert_eq!(text, "target orders: programs look for .s.PGSQL.5432 in a folder, not for /nowhere/orders");
    assert_eq!(hint, "end it in / for a folder: /nowhere/orders/, for the socket /nowhere/orders/.s.PGSQL.5432");
    let shared = format!("[defaults]\nlisten = '/nowhere/'\n{}", two().replace("listen = 5433", ""));
    let (text, hint) = Scene::new().user(&shared).complaint();
    assert_eq!(text, "targets orders and billing both listen on /nowhere/.s.PGSQL.5432", "{shared}");
    assert_eq!(hint, "give billing another path, or unix, with listen in [targets.billing]");
}

#[test]
fn pin_user_requires_a_user() {
    let pinned = Scene::new().project(&orders("user = 'app_user'\npin_user = true")).target();
    assert_eq!((pinned.user.as_deref(), pinned.guard.pin_user), (Some("app_user"), true));
    let (text, hint) = Scene::new().project(&format!("[defaults]\npin_user = true\n{}", orders(""))).complaint();
    assert_eq!(text, "target orders has pin_user but no user");
    assert_eq!(hint, "set user (--user), or remove pin_user");
}

#[test]
fn all_targets_of_the_files_are_served_unless_some_are_named() {
    let also = format!("[targets.third]\nhost = '{BILLING}'\nvia = 'direct'\nlisten = 0");
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
fn endpoint_on_the_command_line_takes_defaults_but_no_target_of_a_file() {
    let scene = Scene::new()
        .user(&format!(
            "[defaults]\nbastion = '{BASTION}'\nuser = 'everyone'\n[targets.orders]\nhost = '{BILLING}'\nuser = 'other'"
        ))
        .up(&[&format!("{}:5544", ORDERS.to_uppercase())]);
    let target = scene.target();
    assert_eq!((&*target.name, target.endpoint.to_string()), (ORDERS, format!("{ORDERS}:5544")));
    assert_eq!(target.user.as_deref(), Some("everyone"));
}

#[test]
fn endpoints_with_the_same_first_label_get_different_names() {
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
fn session_reason_names_version_user_and_endpoint() {
    let by = |name, value| Scene::new().project(&orders("")).variable(name, value).target().session;
    let reason = format!("rdsgate/{} by alice for {ORDERS}:5432", env!("CARGO_PKG_VERSION"));
    assert_eq!(by("USER", "alice"), SessionSettings { reason: reason.parse().unwrap(), ..SessionSettings::default() });
    assert_eq!(by("LOGNAME", "alice").reason.as_str(), reason);
    assert_eq!(by("USER", "").reason.as_str(), reason.replace(" by alice", ""));
}

#[test]
fn document_without_parameters_is_an_empty_array_or_none() {
    let file = Scene::new().user(&orders("document_parameters = []")).target();
    let variable = Scene::new().project(&orders("")).variable("RDSGATE_DOCUMENT_PARAMETERS", "none").target();
    assert_eq!((file.session.parameters, variable.session.parameters), (Some(vec![]), Some(vec![])));
}

#[test]
fn route_is_the_bastion_by_default() {
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
fn public_endpoint_of_dsql_needs_no_bastion_and_a_private_one_does() {
    let bastion = format!("bastion = '{BASTION}'\n");
    let ssm = Some(Route::Ssm(BASTION.parse().unwrap()));
    for (service, defaults, own, expected) in [
        ("dsql", "", "", Some(Route::Direct)),
        ("dsql", &*bastion, "", Some(Route::Direct)),
        ("dsql", "", &*bastion, ssm.clone()),
        ("dsql", "", "via = 'ssm'", None),
        ("dsql-fnh4", &bastion, "", ssm),
        ("dsql-fnh4", "", "", None),
    ] {
        let host = format!("weabcdefghijklmnopqrdqqm2e.{service}.eu-central-1.on.aws");
        let text = format!("[defaults]\n{defaults}[targets.d]\nhost = '{host}'\n{own}");
        let found = draft(&Scene::new().project(&text));
        assert_eq!((found.port, found.lacks_bastion()), (Some(5432), expected.is_none()), "{text}");
        assert_eq!(found.finish().ok().map(|target| target.route), expected, "{text}");
    }
}

#[test]
fn same_port_on_different_addresses_is_allowed() {
    let text = two().replace("listen = 5433", "listen = '127.0.0.2:5432'");
    Scene::new().project(&text).load().unwrap();
}

#[test]
fn first_target_of_an_engine_gets_its_port_and_others_derived_ones() {
    let target = |name: &str, more: &str| format!("[targets.{name}]\nhost = '{name}.example'\n{more}\n");
    let text = "[defaults]\nvia = 'direct'\nregion = 'eu-central-1'\n".to_owned()
        + &target("a", "listen = 7000")
        + &target("b", "")
        + &target("c", "")
        + &target("m", "engine = 'mysql'")
        + &target("n", "port = 3306");
    let all = ports(&Scene::new().user(&text));
    let [a, b, c, m, n] = all.as_slice() else { panic!("five targets: {all:?}") };
    assert_eq!([a.1, b.1, m.1], [7000, 5432, 3306]);
    assert!(ports::RANGE.contains(&c.1) && ports::RANGE.contains(&n.1) && c.1 != n.1, "{all:?}");
    // Whichever of them are served.
    for name in ["a", "b", "c", "m", "n"] {
        let alone = ports(&Scene::new().user(&text).up(&[name]));
        assert!(all.contains(&alone[0]), "{alone:?} of {all:?}");
    }
    // Not when another one claims it.
    let claimed = text.replace("listen = 7000", "listen = 5432");
    assert!(ports::RANGE.contains(&ports(&Scene::new().user(&claimed).up(&["b"]))[0].1));
    // On the command line the first is the first of those.
    let endpoints = ports(&Scene::new().up(&[ORDERS, BILLING]).flag(Key::Via, "direct"));
    assert_eq!(endpoints[0], ("orders".into(), 5432));
    assert!(ports::RANGE.contains(&endpoints[1].1), "{endpoints:?}");
}

#[test]
fn identifier_or_arn_names_a_database_to_look_up() {
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
fn looked_up_values_follow_the_same_rules() {
    let mut found = draft(&Scene::new().up(&["orders"]).flag(Key::Region, "us-east-1").flag(Key::Bastion, BASTION));
    found.reference = Reference::Host(ORDERS.parse().unwrap());
    let target = found.clone().finish().unwrap();
    assert_eq!(target.region.as_str(), "us-east-1", "the region that was set counts");
    found.reference = Reference::Host(BILLING.parse().unwrap());
    let target = found.finish().unwrap();
    assert_eq!((target.region.as_str(), target.endpoint.port), ("us-east-1", 5432));
}

#[test]
fn configured_region_wins_over_the_one_in_the_name_with_a_warning() {
    let loaded = Scene::new().up(&[ORDERS]).flag(Key::Bastion, BASTION).flag(Key::Region, "us-east-1").load().unwrap();
    assert_eq!(loaded.config.targets[0].region.as_str(), "us-east-1");
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let warning = "target orders is in eu-central-1 by its host name; using the configured region us-east-1";
    assert_eq!(warnings, [warning]);
    let global = "orders.global-c1abcdefghij.global.rds.amazonaws.com";
    let target = Scene::new().up(&[global]).flag(Key::Bastion, BASTION).flag(Key::Region, "eu-west-1").target();
    assert_eq!((target.region.as_str(), target.endpoint.host.as_str()), ("eu-west-1", global));
}

/// The local ports of targets, by name.
fn ports(scene: &Scene) -> Vec<(String, u16)> {
    let targets = scene.load().unwrap().config.targets;
    targets.iter().map(|target| (target.name.to_string(), target.tcp().unwrap().port)).collect()
}

/// The draft before discovery.
fn draft(scene: &Scene) -> Draft {
    let environment = Environment::new(scene.variables.iter().copied(), scene.root.path().join("project"), None);
    let mut drafts = read(&scene.request, &environment, &mut Vec::new()).unwrap().drafts;
    assert_eq!(drafts.len(), 1);
    drafts.remove(0)
}

#[test]
fn first_target_with_unknown_engine_gets_the_port_of_the_engine() {
    let target = |name: &str, more: &str| {
        format!("[targets.{name}]\nhost = '{name}.c1abcdefghij.eu-central-1.rds.amazonaws.com'\n{more}\n")
    };
    let ports = |targets: &[(&str, &str)], found: &[(&str, Engine)]| -> Vec<u16> {
        let text = targets.iter().map(|(name, more)| target(name, more)).collect::<String>();
        let scene = Scene::new().project(&format!("[defaults]\nvia = 'direct'\n{text}"));
        let environment = Environment::new(scene.variables.iter().copied(), scene.root.path().join("project"), None);
        let mut plan = read(&scene.request, &environment, &mut Vec::new()).unwrap();
        for mut draft in plan.drafts.clone() {
            let (_, engine) =
                found.iter().find(|(name, _)| *name == &*draft.name).copied().unwrap_or(("", Engine::Postgres));
            draft.engine = draft.engine.or(Some(engine));
            plan.replace(draft);
        }
        plan.finish().unwrap().config.targets.iter().map(|target| target.tcp().unwrap().port).collect()
    };
    let own = |port: u16| ports::RANGE.contains(&port);
    // No target sets an engine: the first has its own's port, whichever that is.
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
