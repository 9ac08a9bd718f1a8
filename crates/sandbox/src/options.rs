//! The options of a sandbox, and the resources in it.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use super::{
    database::Database,
    faults::Faults,
    identity::Identity,
    network::Destination,
    roles::{MfaDevice, Role},
};

/// The options of a sandbox.
///
/// # Defaults
/// Region us-east-1; the identities that the test servers know, one of them by the SSO role `developer`; bastion
/// `i-0123456789abcdef0`; AWS's own documents; an unpaced agent of version 3.3.987.0; websockets must be signed; no faults; no
/// preferences for sessions.
#[derive(Clone)]
pub struct Options {
    /// The region of all resources.
    pub region: String,
    /// The known identities. [`super::Sandbox::env`] uses the first one.
    pub identities: Vec<Identity>,
    /// Managed nodes.
    pub nodes: Vec<Node>,
    /// Tasks of ECS.
    pub tasks: Vec<Task>,
    /// The security groups that EC2 describes.
    pub security_groups: Vec<SecurityGroup>,
    /// The network around the managed nodes, as EC2 describes it.
    pub vpc: Vpc,
    /// Session documents of the account's own.
    pub documents: Vec<SessionDocument>,
    /// The idle timeout in the account's preferences; `None` is an account that has set none.
    pub idle_timeout: Option<Duration>,
    /// The destinations of host names and ports, seen from the managed nodes.
    pub names: HashMap<(String, u16), Destination>,
    /// Roles with conditions; any other may be assumed by anybody.
    pub roles: Vec<Role>,
    /// The users' MFA devices.
    pub mfa_devices: Vec<MfaDevice>,
    /// The identities that a login to IAM Identity Center gives, by the role's name.
    pub sso_roles: HashMap<String, Identity>,
    /// The databases that RDS describes.
    pub databases: Vec<Database>,
    /// The behaviour of agents.
    pub agent: AgentOptions,
    /// The signature that websockets must have.
    pub websocket_signature: WebSocketSignature,
    /// The faults of messages at the start.
    pub faults: Faults,
    /// The largest number of entries in one answer of a list.
    pub page: usize,
    /// The seed of all random values.
    pub seed: u64,
    /// The lifetime of a websocket, which ends with "1000 Bye"; `None` is without a limit.
    pub bye_after: Option<Duration>,
    /// The fate of messages while a client is away.
    pub offline: Offline,
    /// `https://` and `wss://`, with a certificate that only the `AWS_CA_BUNDLE` of [`super::Sandbox::env`] vouches for.
    pub tls: bool,
    /// Names under which everything is reached, with TLS and through a proxy, instead of by its address; see
    /// [`Options::public`].
    pub names_of_endpoint: Vec<String>,
    /// The largest payload that the service takes, and what it does with larger ones.
    pub largest_payload: Option<(usize, Oversize)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".into(),
            identities: vec![Identity::user(), Identity::temporary(), Identity::readonly()],
            nodes: vec![Node::new("i-0123456789abcdef0", "bastion")],
            tasks: Vec::new(),
            security_groups: vec![
                SecurityGroup::new("sg-0d0000000000da7a0", "tcp", (5432, 5432), &["sg-0b0000000000ba570"]).and(
                    "tcp",
                    (3306, 3306),
                    &["10.0.0.0/16"],
                ),
                SecurityGroup::closed("sg-0b0000000000ba570"),
                SecurityGroup::new("sg-0e0000000000e0d90", "tcp", (443, 443), &["sg-0b0000000000ba570"]),
            ],
            vpc: Vpc::default(),
            documents: Vec::new(),
            idle_timeout: None,
            names: HashMap::new(),
            roles: Vec::new(),
            mfa_devices: Vec::new(),
            sso_roles: HashMap::from([("developer".into(), Identity::temporary())]),
            databases: Vec::new(),
            agent: AgentOptions::default(),
            websocket_signature: WebSocketSignature::Required,
            faults: Faults::default(),
            page: 100,
            seed: 0,
            bye_after: None,
            offline: Offline::Buffer,
            tls: false,
            names_of_endpoint: Vec::new(),
            largest_payload: None,
        }
    }
}

impl Options {
    /// Adds a PostgreSQL database that the bastions reach and the RDS API describes.
    #[must_use]
    pub fn database(mut self, host: &str, port: u16, address: SocketAddr) -> Self {
        self.databases.push(Database::new(host, port, "postgres"));
        self.name(host, port, Destination::Address(address))
    }

    /// Adds what the RDS API describes and nothing leads to.
    #[must_use]
    pub fn describe(mut self, database: Database) -> Self {
        self.databases.push(database);
        self
    }

    /// Adds a managed node.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Sets the destination of a host name and port.
    #[must_use]
    pub fn name(mut self, host: &str, port: u16, destination: Destination) -> Self {
        self.names.insert((host.to_ascii_lowercase(), port), destination);
        self
    }

    /// Adds a role with conditions.
    #[must_use]
    pub fn role(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// Adds a user's MFA device.
    #[must_use]
    pub fn mfa_device(mut self, device: MfaDevice) -> Self {
        self.mfa_devices.push(device);
        self
    }

    /// Sets the version of the agents, and with it their behaviour.
    #[must_use]
    pub fn agent_version(mut self, version: &str) -> Self {
        self.agent.version = version.into();
        self
    }

    /// Makes the agents as slow as real ones: 1,024 bytes, then a millisecond of sleep; one message resent every 100 ms.
    #[must_use]
    pub fn paced(mut self) -> Self {
        self.agent.paced = true;
        self.agent.resends = 1;
        self
    }

    /// Serves the endpoint with TLS.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Answers under AWS's own names and `more`, which only a proxy leads here: stream URLs are AWS's, and
    /// [`super::Sandbox::env`] names no endpoint. For [`Options::region`] as it is by then.
    #[must_use]
    pub fn public(mut self, more: &[&str]) -> Self {
        let own = ["ssm", "ssmmessages", "sts"].map(|service| format!("{service}.{}.amazonaws.com", self.region));
        self.names_of_endpoint = own.into_iter().chain(more.iter().map(ToString::to_string)).collect();
        self.tls()
    }

    /// Adds a managed node.
    #[must_use]
    pub fn bastion(mut self, id: &str) -> Self {
        self.nodes.push(Node::new(id, "bastion"));
        self
    }

    /// Adds a session document that takes `parameters` and fixes some of the properties.
    #[must_use]
    pub fn document(mut self, name: &str, parameters: &[&str], fixed: &[(&str, &str)]) -> Self {
        self.documents.push(SessionDocument {
            name: name.into(),
            parameters: parameters.iter().map(ToString::to_string).collect(),
            fixed: fixed.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        });
        self
    }

    /// Changes the region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.into();
        self
    }

    /// Adds an identity.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identities.push(identity);
        self
    }
}

/// A session document of type Port.
#[derive(Debug, Clone)]
pub struct SessionDocument {
    /// Its name.
    pub name: String,
    /// The parameters that it takes.
    pub parameters: Vec<String>,
    /// Properties with values of its own.
    pub fixed: Vec<(String, String)>,
}

/// The reaction of the service to a message that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oversize {
    /// Drops the message.
    Drop,
    /// Closes the websocket.
    Close,
}

/// A managed node, with what EC2 says of it when it is an instance.
#[derive(Debug, Clone)]
pub struct Node {
    /// `i-…` or `mi-…`.
    pub id: String,
    /// Its `Name` tag.
    pub name: String,
    /// The VPC it is in.
    pub vpc: String,
    /// Whether its agent is connected.
    pub online: bool,
    /// Its security groups.
    pub groups: Vec<String>,
    /// Whether EC2 says that it is stopped.
    pub stopped: bool,
}

impl Node {
    /// A connected node in the VPC of [`Database::new`].
    pub fn new(id: &str, name: &str) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            vpc: "vpc-0a1b2c3d4e5f60718".into(),
            online: true,
            groups: vec!["sg-0b0000000000ba570".into()],
            stopped: false,
        }
    }

    /// Puts it into this VPC.
    #[must_use]
    pub fn vpc(mut self, vpc: &str) -> Self {
        self.vpc = vpc.into();
        self
    }

    /// Takes its agent's connection away.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.online = false;
        self
    }
}

/// A security group with its inbound rules.
#[derive(Debug, Clone)]
pub struct SecurityGroup {
    /// `sg-…`.
    pub id: String,
    /// Protocol, first and last port, and where from: a group (`sg-…`), a prefix list (`pl-…`) or a network.
    pub ingress: Vec<(String, (u16, u16), Vec<String>)>,
    /// Protocol, first and last port, to everywhere.
    pub egress: Vec<(String, (u16, u16))>,
}

impl SecurityGroup {
    /// A group with one rule.
    pub fn new(id: &str, protocol: &str, ports: (u16, u16), from: &[&str]) -> Self {
        Self::closed(id).and(protocol, ports, from)
    }

    /// One that lets nothing in, and everything out.
    pub fn closed(id: &str) -> Self {
        Self { id: id.into(), ingress: Vec::new(), egress: vec![("-1".into(), (0, 65_535))] }
    }

    /// Adds a rule.
    #[must_use]
    pub fn and(mut self, protocol: &str, ports: (u16, u16), from: &[&str]) -> Self {
        self.ingress.push((protocol.into(), ports, from.iter().map(ToString::to_string).collect()));
        self
    }
}

/// The network around the managed nodes, as EC2 and IAM describe it. Packets are not held to it.
///
/// # Defaults
/// Endpoints for Systems Manager that the bastions may use, names that resolve, an ACL that lets everything through, and the
/// policy that agents need.
#[derive(Debug, Clone)]
pub struct Vpc {
    /// Interface endpoints: the service, whether it has private DNS, and its security groups.
    pub endpoints: Vec<(String, bool, Vec<String>)>,
    /// `enableDnsSupport`.
    pub dns_support: bool,
    /// `enableDnsHostnames`.
    pub dns_hostnames: bool,
    /// Rules of the network ACL.
    pub acl: Vec<AclRule>,
    /// The managed policies of the bastions' role; `None` without an instance profile.
    pub policies: Option<Vec<String>>,
}

/// A rule of a network ACL, for all addresses.
#[derive(Debug, Clone)]
pub struct AclRule {
    /// Its number; the lowest that fits decides.
    pub number: u32,
    /// Whether it is for packets that leave the subnet.
    pub outbound: bool,
    /// Whether it lets packets through.
    pub allows: bool,
    /// The ports of TCP; `None` for every protocol.
    pub ports: Option<(u16, u16)>,
}

impl Default for Vpc {
    fn default() -> Self {
        let rule = |number, outbound, allows| AclRule { number, outbound, allows, ports: None };
        let endpoint = |service: &str| (service.to_owned(), true, vec!["sg-0e0000000000e0d90".to_owned()]);
        Self {
            endpoints: ["ssm", "ssmmessages", "ec2messages"].map(endpoint).into(),
            dns_support: true,
            dns_hostnames: true,
            acl: vec![
                rule(100, true, true),
                rule(100, false, true),
                rule(32_767, true, false),
                rule(32_767, false, false),
            ],
            policies: Some(vec!["AmazonSSMManagedInstanceCore".into()]),
        }
    }
}

/// A running task of ECS, with one container that may be entered and one that may not.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its cluster's name.
    pub cluster: String,
    /// Its id, hexadecimal.
    pub id: String,
    /// The VPC that its network interface is in.
    pub vpc: String,
    /// Whether it was started with `enableExecuteCommand`.
    pub exec: bool,
}

impl Task {
    pub(super) fn runtime_id(&self) -> String {
        format!("{}-4567", self.id)
    }

    /// Its name in StartSession.
    pub fn target(&self) -> String {
        format!("ecs:{}_{}_{}", self.cluster, self.id, self.runtime_id())
    }
}

/// The behaviour of agents.
///
/// # Defaults
/// As amazon-ssm-agent 3.3.987.0, but not paced: a hundred times faster. So that such a sender does not outrun its own
/// retransmissions, it has a window and resends a thousand messages at a time where the real one resends one.
/// [`Options::paced`] is the real one.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The version that it reports, which decides on its features.
    pub version: String,
    /// Sleep a millisecond after each message of data (`config.go`, sleep between reads).
    pub paced: bool,
    /// Unacknowledged messages at which an unpaced agent stops reading from databases.
    pub window: usize,
    /// The oldest unacknowledged messages that are looked at every 100 ms and resent if due.
    pub resends: usize,
    /// Time after HandshakeComplete in which data are still acknowledged and thrown away: the agent notes only after it has
    /// sent that message that the handshake is complete (`datachannel.go`, PerformHandshake).
    pub handshake_lag: Duration,
    /// Time between HandshakeComplete and the port being ready.
    pub port_ready_after: Duration,
    /// The time limit for the HandshakeResponse (`config.go`, HandshakeTimeout).
    pub handshake_timeout: Duration,
    /// Time between smux NOPs, where the versions turn them on (smux `DefaultConfig`).
    pub keep_alive_interval: Duration,
    /// Time without any frame after which smux gives up, where the versions turn that on (smux `DefaultConfig`).
    pub keep_alive_timeout: Duration,
    /// Text for the user in HandshakeComplete.
    pub customer_message: String,
}

impl Default for AgentOptions {
    fn default() -> Self {
        Self {
            version: "3.3.987.0".into(),
            paced: false,
            window: 8192,
            resends: 1000,
            handshake_lag: Duration::from_millis(5),
            port_ready_after: Duration::from_millis(10),
            handshake_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(30),
            customer_message: String::new(),
        }
    }
}

/// The signature that the upgrade request of a websocket must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebSocketSignature {
    /// Unsigned requests are refused. A raw `+` in the query counts as a space, as the reference client signs it.
    Required,
    /// Unsigned requests are refused. A raw `+` counts as itself.
    LiteralPlus,
    /// Signed requests are refused, as by a gateway that changes what is signed.
    Unsigned,
    /// Unsigned requests pass, wrong signatures do not.
    Optional,
}

/// The fate of messages in the service when the websocket of a client ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offline {
    /// Messages wait for the next websocket.
    Buffer,
    /// Messages are lost; retransmission replaces them.
    Drop,
}
