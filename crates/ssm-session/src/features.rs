//! What the two ends can do, decided from the versions they announce.
//!
//! Source: session-manager-plugin `src/version/versionutil.go` (compare), `versionvalidator.go` (the gates);
//! amazon-ssm-agent `agent/session/plugins/port/port.go`.

use std::fmt;

/// The version we announce: the newest of the official client. AWS moves the oldest that it supports (1.2.764.0, the first
/// that signs the websocket, in 2026), so the newest lasts longest.
///
/// It must look like the official client's, because agents compare it with that one's gates: at least 1.1.70 for smux
/// (agent `port.go`, muxSupportedClientVersion), above 1.2.331.0 to turn smux keep-alive off (`port.go`,
/// muxKeepAliveDisabledAfterThisClientVersion), above 1.2.295 for separate output in shells (`datachannel.go`). No agent
/// compares it with anything newer, and no later version changed the protocol. 1.2.896.0 took back a change of 1.2.889.0,
/// which was withdrawn (Systems Manager guide, "Session Manager plugin latest version and release history").
pub const CLIENT_VERSION: &str = "1.2.896.0";

/// A version in dotted decimal numbers; missing ones count as 0, garbage as the oldest of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 4]);

impl Version {
    /// Reads `3.3.987.0`.
    pub fn parse(text: &str) -> Self {
        let mut numbers = [0; 4];
        for (slot, part) in numbers.iter_mut().zip(text.split('.')) {
            match part.parse() {
                Ok(number) => *slot = number,
                Err(_) => return Self([0; 4]),
            }
        }
        Self(numbers)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([major, minor, build, revision]) = self;
        write!(f, "{major}.{minor}.{build}.{revision}")
    }
}

/// What an agent does, by the version it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentFeatures(Version);

impl AgentFeatures {
    /// What an agent of this version does.
    pub fn of(version: Version) -> Self {
        Self(version)
    }

    /// Above 3.0.196.0: speaks smux. Older ones cannot tell one connection's bytes from the next and are refused.
    pub fn mux(self) -> bool {
        self.0 > Version([3, 0, 196, 0])
    }

    /// From 3.1.1374.0: forwards to another host than its own ("Start a session", port forwarding to remote hosts).
    pub fn remote_host(self) -> bool {
        self.0 >= Version([3, 1, 1374, 0])
    }

    /// Above 3.1.1511.0: leaves smux keep-alive off. Older ones close the session after 30 s without a frame from us.
    pub fn keep_alive_off(self) -> bool {
        self.0 > Version([3, 1, 1511, 0])
    }

    /// From 3.2.1041.0: acknowledges duplicates again. Older ones stay silent, so a lost acknowledgement is lost for good.
    pub fn acknowledges_duplicates(self) -> bool {
        self.0 >= Version([3, 2, 1041, 0])
    }

    /// Above 2.3.722.0: understands the TerminateSession flag.
    pub fn terminate_flag(self) -> bool {
        self.0 > Version([2, 3, 722, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_strict_and_garbage_is_old() {
        let features = |text| AgentFeatures::of(Version::parse(text));
        assert!(!features("3.0.196.0").mux() && features("3.0.196.1").mux() && features("3.0.222.0").mux());
        assert!(!features("3.1.1511.0").keep_alive_off() && features("3.1.1512").keep_alive_off());
        assert!(!features("3.2.1040.9").acknowledges_duplicates() && features("3.2.1041.0").acknowledges_duplicates());
        assert!(!features("2.3.722.0").terminate_flag());
        for garbage in ["", "latest", "3.x.1.0", "-1.2", "3..4", "99999999999.0"] {
            assert_eq!(features(garbage), AgentFeatures::of(Version([0; 4])), "{garbage}");
        }
        assert!(Version::parse("3.10.0.0") > Version::parse("3.9.0.0"));
    }
}
