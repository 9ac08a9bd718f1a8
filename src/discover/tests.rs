//! Discovery against the sandbox's AWS and a name server of our own.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use aws_credential_types::Credentials;
use tokio::net::UdpSocket;

use sandbox::{Database as Described, Failure, Identity, Node as Managed, Operation, Options, Sandbox, Task};

use super::*;
use crate::{aws::tests::account_at, service::Service};

const REGION: &str = "us-east-1";
const VPC: &str = "vpc-0a1b2c3d4e5f60718";
const OTHER_VPC: &str = "vpc-0fedcba9876543210";

fn host(name: &str, hash: &str) -> String {
    format!("{name}.{hash}c1abcdefghij.{REGION}.rds.amazonaws.com")
}

/// Accounts without a person to ask.
fn without_person() -> Arc<Accounts> {
    Arc::new(Accounts::new(aws::Interaction::none(), None))
}

/// An account with one of everything.
fn everything() -> Options {
    let of_cluster = |name, hash: &str| Described::new(&host(name, hash), 5432, "aurora-postgresql");
    Options::default()
        .describe(Described::new(&host("orders", ""), 5433, "postgres"))
        .describe(Described::new(&host("shop", ""), 3306, "mariadb").vpc(OTHER_VPC))
        .describe(of_cluster("fleet", "cluster-"))
        .describe(of_cluster("fleet-1", "").of("fleet"))
        .describe(of_cluster("fleet-2", "").of("fleet"))
        .describe(of_cluster("analysts", "cluster-custom-").of("fleet"))
        .describe(Described::new(&host("pooled", "proxy-"), 5432, "POSTGRESQL"))
        .describe(Described::new(&host("readers", "endpoint.proxy-"), 5432, "POSTGRESQL").of("pooled"))
        .describe(Described::new(&host("ledger", ""), 1521, "oracle-ee"))
}

struct Scene {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
    options: aws::Options,
}

impl Scene {
    async fn new(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.unwrap();
        let options = aws::Options { identity: crate::target::Identity::default(), region: REGION.parse().unwrap() };
        Self { sandbox, folder: tempfile::tempdir().unwrap(), options }
    }

    async fn account(&self) -> Account {
        let user = Identity::user();
        let credentials = Credentials::new(&user.access_key, user.secret.expose(), None, None, "test");
        account_at(&self.sandbox.endpoint(), REGION, credentials).await
    }

    /// A discovery with the same cache, as in another process.
    async fn discovery(&self) -> Discovery {
        let discovery = Discovery::new(without_person(), Cache::in_folder(self.folder.path()), Vec::new());
        discovery.loaded.lock().await.push((self.options.clone(), self.account().await));
        discovery
    }

    async fn database(&self, reference: &Reference) -> Result<Database, Error> {
        self.discovery().await.database(&self.options, reference).await
    }

    async fn bastions(&self, vpc: Option<&str>) -> Bastions {
        self.discovery().await.bastions(&self.options, vpc).await.unwrap()
    }

    fn calls(&self) -> usize {
        self.sandbox.calls().len()
    }
}

fn identifier(name: &str) -> Reference {
    Reference::Identifier(name.into())
}

#[tokio::test]
async fn every_address_is_listed_with_its_facts_however_small_the_pages() {
    for page in [1, 2, 100] {
        let scene = Scene::new(Options { page, ..everything() }).await;
        let databases = scene.account().await.databases().await.unwrap();
        assert!(databases.gaps.is_empty(), "{:?}", databases.gaps);
        let facts = |database: &Database| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            let resource = text(&database.resource_id).split_at(9).0.to_owned();
            (
                database.id.clone(),
                database.kind,
                database.port.unwrap_or(0),
                resource,
                text(&database.vpc),
                text(&database.parent),
            )
        };
        let found: Vec<_> = databases.found.iter().map(facts).collect();
        let row = |id: &str, kind, port, resource: &str, vpc: &str, parent: &str| {
            (id.to_owned(), kind, port, resource.to_owned(), vpc.to_owned(), parent.to_owned())
        };
        assert_eq!(
            found,
            [
                row("analysts", Service::Custom, 5432, "cluster-F", VPC, "fleet"),
                row("fleet", Service::Writer, 5432, "cluster-F", VPC, ""),
                row("fleet", Service::Reader, 5432, "cluster-F", VPC, "fleet"),
                row("fleet-1", Service::Instance, 5432, "cluster-F", VPC, "fleet"),
                row("fleet-2", Service::Instance, 5432, "cluster-F", VPC, "fleet"),
                row("ledger", Service::Instance, 1521, "db-LEDGER", VPC, ""),
                row("orders", Service::Instance, 5433, "db-ORDERS", VPC, ""),
                row("pooled", Service::Proxy, 5432, "prx-poole", VPC, ""),
                row("readers", Service::ProxyEndpoint, 5432, "prx-poole", VPC, "pooled"),
                row("shop", Service::Instance, 3306, "db-SHOPAA", OTHER_VPC, ""),
            ],
            "{page} a page"
        );
        assert!(databases.found.iter().all(|database| database.iam == Some(true)));
        let spoken = databases.found.iter().filter(|database| database.protocol().is_some()).count();
        assert_eq!(spoken, 9, "Oracle is not spoken");
    }
}

#[tokio::test]
async fn throttling_passes_and_what_is_denied_is_a_gap() {
    let scene = Scene::new(Options { page: 2, ..everything() }).await;
    for operation in [
        Operation::DescribeDBInstances,
        Operation::DescribeDBProxies,
        Operation::DescribeInstanceInformation,
        Operation::DescribeInstances,
        Operation::ListClusters,
    ] {
        scene.sandbox.fail(operation, Failure::Throttling, Some(2));
    }
    let account = scene.account().await;
    assert_eq!(account.databases().await.unwrap().found.len(), 10);
    let nodes = account.managed_nodes().await.unwrap();
    assert_eq!((nodes.found[0].vpc.as_deref(), nodes.gaps.len()), (Some(VPC), 0));
    assert!(account.ecs_tasks().await.gaps.is_empty());

    let denied = [
        Operation::DescribeDBClusterEndpoints,
        Operation::DescribeDBProxies,
        Operation::DescribeInstances,
        Operation::ListClusters,
    ];
    scene.sandbox.identity(&Identity::user().access_key, |user| user.denied.extend(denied));
    let databases = account.databases().await.unwrap();
    assert_eq!(databases.gaps.len(), 2);
    assert!(databases.gaps.iter().all(|gap| matches!(gap, aws::Error::AccessDenied { .. })));
    let custom = databases.found.iter().find(|database| database.kind == Service::Custom).unwrap();
    assert_eq!((custom.id.as_str(), custom.port), ("analysts", Some(5432)), "the cluster tells of it as well");
    let nodes = account.managed_nodes().await.unwrap();
    assert_eq!((nodes.found[0].vpc.as_deref(), nodes.gaps.len()), (None, 1), "{:?}", nodes.gaps);
    assert_eq!((account.ecs_tasks().await.gaps.len(), account.ecs_tasks().await.found.len()), (1, 0));

    let all = [Operation::DescribeDBInstances, Operation::DescribeDBClusters];
    scene.sandbox.identity(&Identity::user().access_key, |user| user.denied.extend(all));
    assert!(matches!(account.databases().await, Err(aws::Error::AccessDenied { .. })));
    scene.sandbox.identity(&Identity::user().access_key, |user| user.expired = true);
    assert!(account.databases().await.unwrap_err().concerns_credentials());
}

#[tokio::test]
async fn a_database_is_found_by_every_name_it_has() {
    let scene = Scene::new(Options { page: 1, ..everything() }).await;
    let account = format!("arn:aws:rds:{REGION}:{}", sandbox::ACCOUNT);
    let arn = |tail: &str| Reference::Arn(format!("{account}:{tail}").parse().unwrap());
    let at = |name: &str, hash: &str| Reference::Host(host(name, hash).parse().unwrap());
    let fleet = Some("cluster-FLEETAAAAAAAAAAAAAAAAAAAAA");
    for (reference, kind, id, endpoint, resource) in [
        (
            identifier("orders"),
            Service::Instance,
            "orders",
            host("orders", "") + ":5433",
            Some("db-ORDERSAAAAAAAAAAAAAAAAAAAA"),
        ),
        (identifier("fleet"), Service::Writer, "fleet", host("fleet", "cluster-") + ":5432", fleet),
        (identifier("fleet-2"), Service::Instance, "fleet-2", host("fleet-2", "") + ":5432", fleet),
        (identifier("analysts"), Service::Custom, "analysts", host("analysts", "cluster-custom-") + ":5432", fleet),
        (
            identifier("pooled"),
            Service::Proxy,
            "pooled",
            host("pooled", "proxy-") + ":5432",
            Some("prx-pooledaaaaaaaaaaaaaaaaaaaa"),
        ),
        (
            arn("db:orders"),
            Service::Instance,
            "orders",
            host("orders", "") + ":5433",
            Some("db-ORDERSAAAAAAAAAAAAAAAAAAAA"),
        ),
        (arn("cluster:fleet"), Service::Writer, "fleet", host("fleet", "cluster-") + ":5432", fleet),
        (
            arn("cluster-endpoint:analysts"),
            Service::Custom,
            "analysts",
            host("analysts", "cluster-custom-") + ":5432",
            fleet,
        ),
        (
            arn("db-proxy:prx-pooledaaaaaaaaaaaaaaaaaaaa"),
            Service::Proxy,
            "pooled",
            host("pooled", "proxy-") + ":5432",
            Some("prx-pooledaaaaaaaaaaaaaaaaaaaa"),
        ),
        (
            at("orders", ""),
            Service::Instance,
            "orders",
            host("orders", "") + ":5433",
            Some("db-ORDERSAAAAAAAAAAAAAAAAAAAA"),
        ),
        (at("fleet", "cluster-ro-"), Service::Reader, "fleet", host("fleet", "cluster-ro-") + ":5432", fleet),
        (
            at("analysts", "cluster-custom-"),
            Service::Custom,
            "analysts",
            host("analysts", "cluster-custom-") + ":5432",
            fleet,
        ),
        (
            at("readers", "endpoint.proxy-"),
            Service::ProxyEndpoint,
            "readers",
            host("readers", "endpoint.proxy-") + ":5432",
            Some("prx-pooledaaaaaaaaaaaaaaaaaaaa"),
        ),
    ] {
        let found = scene.database(&reference).await.unwrap_or_else(|error| panic!("{reference}: {error}"));
        assert_eq!((found.kind, found.id.as_str()), (kind, id), "{reference}");
        assert_eq!(found.endpoint().unwrap().to_string(), endpoint, "{reference}");
        assert_eq!((found.resource_id.as_deref(), found.vpc.as_deref()), (resource, Some(VPC)), "{reference}");
    }
    let pooled = scene.database(&identifier("pooled")).await.unwrap();
    assert_eq!(pooled.user.as_deref(), Some("proxied"), "the only user that a proxy has is its user");
}

#[tokio::test]
async fn what_is_not_there_or_not_for_us_is_said() {
    let creating = Described { status: "creating".into(), ..Described::new(&host("soon", ""), 5432, "postgres") };
    let twice = Described::new(&host("fleet", ""), 5432, "postgres");
    let scene = Scene::new(everything().describe(creating).describe(twice)).await;
    let text = async |name: &str| scene.database(&identifier(name)).await.unwrap_err().to_string();
    assert_eq!(text("nothing").await, "there is no database nothing in us-east-1");
    assert_eq!(text("ledger").await, "ledger runs oracle-ee: rdsgate serves PostgreSQL, MySQL and MariaDB");
    assert_eq!(text("soon").await, "soon has no endpoint yet: it is creating");
    let ambiguous = text("fleet").await;
    assert!(ambiguous.starts_with("fleet names more than one database: fleet.c1abcdefghij"), "{ambiguous}");
    assert!(
        ambiguous.contains("(instance), fleet.cluster-c1abcdefghij") && ambiguous.ends_with("(writer)"),
        "{ambiguous}"
    );
}

#[tokio::test]
async fn what_was_found_is_not_asked_for_again() {
    let scene = Scene::new(everything()).await;
    let first = scene.database(&identifier("orders")).await.unwrap();
    scene.bastions(Some(VPC)).await;
    let calls = scene.calls();
    assert!(calls > 0);
    assert_eq!(scene.database(&identifier("orders")).await.unwrap(), first);
    scene.bastions(Some(VPC)).await;
    assert_eq!(scene.calls(), calls);
    // What is not there may come.
    for _ in 0..2 {
        scene.database(&identifier("nothing")).await.unwrap_err();
    }
    assert_eq!((scene.calls() - calls) % 2, 0);
    assert!(scene.calls() > calls);
}

#[tokio::test]
async fn a_bastion_is_online_and_in_the_vpc_a_task_only_if_no_node_is() {
    let ids = |bastions: &Bastions| bastions.candidates.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
    let task =
        |exec, vpc: &str| Task { cluster: "tools_a".into(), id: "0123456789abcdef".into(), vpc: vpc.into(), exec };
    let options = Options { page: 1, ..Options::default() }
        .node(Managed::new("i-00000000000000002", "also"))
        .node(Managed::new("i-00000000000000003", "away").vpc(OTHER_VPC).offline());
    let options = Options { tasks: vec![task(false, VPC), task(true, OTHER_VPC)], ..options };
    let target = options.tasks[1].target();
    let scene = Scene::new(options).await;
    let here = scene.bastions(Some(VPC)).await;
    assert_eq!(
        (ids(&here), here.in_vpc, here.others),
        (vec!["i-00000000000000002".into(), "i-0123456789abcdef0".into()], true, 1)
    );
    assert!(
        !scene.sandbox.calls().iter().any(|call| call.operation == Operation::ListClusters),
        "tasks are not needed"
    );
    assert_eq!(here.candidates[0].name.as_deref(), Some("also"));
    let there = scene.bastions(Some(OTHER_VPC)).await;
    assert_eq!((ids(&there), there.in_vpc), (vec![target], true));
    assert_eq!(there.candidates[0].name.as_deref(), Some("tools/app"));
    assert!(there.candidates[0].instance_id().is_some());
    let nowhere = scene.bastions(Some("vpc-1")).await;
    assert_eq!((nowhere.candidates.len(), nowhere.others), (0, 4));
    let unknown = scene.bastions(None).await;
    assert_eq!((unknown.candidates.len(), unknown.in_vpc), (2, false));
}

#[tokio::test]
async fn node_in_an_unknown_vpc_is_an_unconfirmed_candidate() {
    let scene = Scene::new(Options::default()).await;
    scene.sandbox.identity(&Identity::user().access_key, |user| {
        user.denied.insert(Operation::DescribeInstances);
    });
    let bastions = scene.bastions(Some(VPC)).await;
    assert_eq!((bastions.candidates.len(), bastions.in_vpc), (1, false));
}

/// A name server that knows these aliases, one step or the whole way in an answer.
async fn name_server(aliases: &[(&str, &str)], recurses: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let aliases: HashMap<String, String> =
        aliases.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    let asked = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            counter.fetch_add(1, Ordering::SeqCst);
            let question = &question[..length];
            let mut name = wire_to_name(&question[12..]);
            let mut records = Vec::new();
            while let Some(target) = aliases.get(&name).filter(|_| records.len() < 16) {
                let (owner, rdata) = (wire(&name), wire(target));
                let length = u16::try_from(rdata.len()).unwrap().to_be_bytes();
                records.push([&owner[..], &[0, 5, 0, 1, 0, 0, 0, 60], &length, &rdata].concat());
                name.clone_from(target);
                if !recurses {
                    break;
                }
            }
            let count = u8::try_from(records.len()).unwrap();
            let head = [question[0], question[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
            // A forged answer to another question comes first.
            let forged = [&[question[0] ^ 1][..], &head[1..], &question[12..]].concat();
            let answer = [&head[..], &question[12..], &records.concat()].concat();
            socket.send_to(&forged, from).await.unwrap();
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    (address, asked)
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn wire_to_name(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while wire[0] != 0 {
        let (label, rest) = wire[1..].split_at(usize::from(wire[0]));
        labels.push(String::from_utf8(label.to_owned()).unwrap());
        wire = rest;
    }
    labels.join(".")
}

#[tokio::test]
async fn an_alias_is_followed_to_the_rds_name_step_by_step_or_at_once() {
    let rds = host("orders", "");
    let aliases = [
        ("db.example.com", "primary.example.com"),
        ("primary.example.com", rds.as_str()),
        ("x.example.com", "y.example.com"),
    ];
    for recurses in [true, false] {
        let (server, asked) = name_server(&aliases, recurses).await;
        let folder = tempfile::tempdir().unwrap();
        let discovery = || Discovery::new(without_person(), Cache::in_folder(folder.path()), vec![server]);
        let found = discovery().rds_name(&"db.example.com".parse().unwrap()).await;
        assert_eq!(found.as_ref().map(Host::as_str), Some(rds.as_str()));
        let before = asked.load(Ordering::SeqCst);
        assert!(discovery().rds_name(&"db.example.com".parse().unwrap()).await.is_some());
        assert!(asked.load(Ordering::SeqCst) > before, "an alias is asked for again");
        for other in ["x.example.com", "nothing.example.com"] {
            assert_eq!(discovery().rds_name(&other.parse().unwrap()).await, None, "{other}");
        }
    }
}

#[tokio::test]
async fn a_circle_or_a_long_way_of_aliases_ends() {
    let long: Vec<(String, String)> =
        (0..20).map(|n| (format!("a{n}.example.com"), format!("a{}.example.com", n + 1))).collect();
    let mut aliases: Vec<(&str, &str)> = long.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    aliases.extend([("b.example.com", "c.example.com"), ("c.example.com", "b.example.com")]);
    for recurses in [true, false] {
        let (server, _) = name_server(&aliases, recurses).await;
        for name in ["a0.example.com", "b.example.com"] {
            let chased = cname::chase(&name.parse().unwrap(), &[server]).await;
            assert!(matches!(chased, Err(cname::Error::Circle)), "{name}: {chased:?}");
        }
    }
}

#[tokio::test]
async fn another_server_is_asked_when_the_first_does_not_answer() {
    let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let rds = host("orders", "");
    let (server, _) = name_server(&[("db.example.com", &rds)], true).await;
    let servers = [deaf.local_addr().unwrap(), server];
    let found = cname::chase(&"db.example.com".parse().unwrap(), &servers).await.unwrap();
    assert_eq!(found.as_ref().map(Host::as_str), Some(rds.as_str()));
}
