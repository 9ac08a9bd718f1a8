//! Checks whether security groups let a bastion reach a database, from the groups of both and the rules between them. Route tables,
//! network ACLs and outbound rules of the bastion are not examined.

use std::net::IpAddr;

use super::{Account, Api, Error, nodes::filtered, xml::Element};
use crate::{outbound::is_in, target::InstanceId};

/// The properties of an instance that security groups match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Its security groups.
    pub groups: Vec<String>,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
}

/// One inbound rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    group: String,
    protocol: String,
    /// The range of ports. Absent if the protocol has none, or for all ports.
    ports: Option<(u16, u16)>,
    from: Vec<Source>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Group(String),
    Network(String),
    /// A prefix list, whose content another call would return.
    List(String),
}

/// The verdict of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// A group admits the instance.
    Admitted {
        /// The database's group.
        group: String,
        /// The matching source: a group, or a network.
        from: String,
    },
    /// No readable rule admits it; a prefix list might.
    Perhaps {
        /// The prefix list.
        list: String,
    },
    /// No rule admits it.
    Refused,
}

impl Account {
    /// The groups and addresses of an instance; `None` if EC2 does not know it.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeInstances`.
    pub async fn place(&self, id: &InstanceId) -> Result<Option<Place>, Error> {
        let parameters = filtered("instance-id", &[id.as_str().to_owned()], None);
        let answer = self.query(Api::Ec2, "DescribeInstances", &parameters).await?;
        let instance = answer.items("reservationSet").flat_map(|reservation| reservation.items("instancesSet")).next();
        Ok(instance.map(|instance| Place {
            groups: texts(instance, "groupSet", "groupId"),
            addresses: instance
                .text(&["privateIpAddress"])
                .and_then(|address| address.parse().ok())
                .into_iter()
                .collect(),
        }))
    }

    /// Whether one of these security groups admits TCP from the instance to a port.
    ///
    /// # Errors
    /// The errors of every call. Needs `ec2:DescribeSecurityGroups`.
    pub async fn admission(&self, groups: &[String], place: &Place, port: u16) -> Result<Admission, Error> {
        let parameters = filtered("group-id", groups, None);
        let answer = self.query(Api::Ec2, "DescribeSecurityGroups", &parameters).await?;
        let rules: Vec<Rule> = answer.items("securityGroupInfo").flat_map(rules).collect();
        Ok(admission(&rules, place, port))
    }
}

fn rules(group: &Element) -> impl Iterator<Item = Rule> {
    let id = group.text(&["groupId"]).unwrap_or_default().to_owned();
    group.items("ipPermissions").map(move |rule| {
        let port = |name| rule.text(&[name]).and_then(|port| port.parse().ok());
        let groups = texts(rule, "groups", "groupId").into_iter().map(Source::Group);
        let networks = texts(rule, "ipRanges", "cidrIp").into_iter().chain(texts(rule, "ipv6Ranges", "cidrIpv6"));
        let lists = texts(rule, "prefixListIds", "prefixListId").into_iter().map(Source::List);
        Rule {
            group: id.clone(),
            protocol: rule.text(&["ipProtocol"]).unwrap_or_default().to_owned(),
            ports: port("fromPort").zip(port("toPort")),
            from: groups.chain(networks.map(Source::Network)).chain(lists).collect(),
        }
    })
}

fn texts(element: &Element, list: &str, name: &str) -> Vec<String> {
    element.items(list).filter_map(|item| item.text(&[name]).map(str::to_owned)).collect()
}

fn admission(rules: &[Rule], place: &Place, port: u16) -> Admission {
    let mut perhaps = None;
    for Rule { group, protocol, ports, from } in rules {
        // "-1" means every protocol; 6 is TCP.
        let every = protocol == "-1";
        let tcp = protocol == "tcp" || protocol == "6";
        let counts = every || tcp && ports.is_none_or(|(first, last)| (first..=last).contains(&port));
        if !counts {
            continue;
        }
        for from in from {
            let (admitted, source) = match from {
                Source::Group(source) => (place.groups.contains(source), source),
                Source::Network(network) => (place.addresses.iter().any(|address| is_in(network, *address)), network),
                Source::List(list) => {
                    perhaps = perhaps.or(Some(list));
                    continue;
                }
            };
            if admitted {
                return Admission::Admitted { group: group.clone(), from: source.clone() };
            }
        }
    }
    perhaps.map_or(Admission::Refused, |list| Admission::Perhaps { list: list.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_counts_for_its_protocol_ports_and_sources() {
        let rule = |protocol: &str, ports, from: Vec<Source>| Rule {
            group: "sg-db".into(),
            protocol: protocol.into(),
            ports,
            from,
        };
        let place = Place { groups: vec!["sg-b".into()], addresses: vec!["10.0.0.7".parse().unwrap()] };
        let group = |id: &str| Source::Group(id.into());
        let network = || Source::Network("10.0.0.0/8".into());
        let list = || Source::List("pl-1".into());
        let admitted = |from: &str| Admission::Admitted { group: "sg-db".into(), from: from.into() };
        for (rules, expected) in [
            (vec![rule("tcp", Some((5432, 5432)), vec![group("sg-c"), group("sg-b")])], admitted("sg-b")),
            (vec![rule("6", Some((0, 65535)), vec![network()])], admitted("10.0.0.0/8")),
            (vec![rule("-1", None, vec![group("sg-b")])], admitted("sg-b")),
            (vec![rule("tcp", Some((3306, 3306)), vec![group("sg-b")])], Admission::Refused),
            (vec![rule("udp", Some((5432, 5432)), vec![group("sg-b")])], Admission::Refused),
            (vec![rule("tcp", Some((5432, 5432)), vec![group("sg-c")])], Admission::Refused),
            (vec![rule("-1", None, vec![list()])], Admission::Perhaps { list: "pl-1".into() }),
            (vec![rule("-1", None, vec![list()]), rule("-1", None, vec![network()])], admitted("10.0.0.0/8")),
            (vec![], Admission::Refused),
        ] {
            assert_eq!(admission(&rules, &place, 5432), expected, "{rules:?}");
        }
    }
}
