//! The abilities of the two ends, by the versions that they announce.
//!
//! Sources: plugin [`versionutil.go`] (compare), [`versionvalidator.go`] and [`config.go`] (the gates); agent [`port.go`].
//!
//! [`versionutil.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/version/versionutil.go#L39
//! [`versionvalidator.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/version/versionvalidator.go#L22-L35
//! [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L48-L50
//! [`port.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port.go#L42-L43

use std::fmt;

/// The client version that we announce: the newest of the official client. AWS moves the oldest supported version (1.2.764.0,
/// the first that signs the websocket, in 2026), so the newest lasts longest.
///
/// It has to be a version of the official client, because agents compare it with the gates of that client: at least 1.1.70 for
/// smux and above 1.2.331.0 to turn smux keep-alive off (agent [`port.go`]), above 1.2.295 for separate output in shells. Agents
/// compare it with no newer version, and no later version changed the protocol. 1.2.896.0 took back a change of 1.2.889.0, which
/// was withdrawn ([release history]).
///
/// [`port.go`]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/agent/session/plugins/port/port.go#L42-L43
/// [release history]: https://docs.aws.amazon.com/systems-manager/latest/userguide/plugin-version-history.html
pub const CLIENT_VERSION: &str = "1.2.896.0";

/// A version of up to four decimal numbers. Missing numbers count as 0; a malformed version is the oldest of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version([u32; 4]);

impl Version {
    /// Reads a version such as `3.3.987.0`.
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

/// The abilities of an agent, by the version that it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentFeatures(Version);

impl AgentFeatures {
    /// The abilities of an agent of this version.
    pub fn of(version: Version) -> Self {
        Self(version)
    }

    /// Whether the agent speaks smux: above 3.0.196.0 (plugin [`config.go`], TCPMultiplexingSupportedAfterThisAgentVersion).
    /// Older agents cannot carry several connections in a session and are refused.
    ///
    /// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L49
    pub fn mux(self) -> bool {
        self.0 > Version([3, 0, 196, 0])
    }

    /// Whether the agent forwards to another host than its own: from 3.1.1374.0 ([Start a session], "Port forwarding to remote
    /// hosts").
    ///
    /// [Start a session]: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html
    pub fn remote_host(self) -> bool {
        self.0 >= Version([3, 1, 1374, 0])
    }

    /// Whether the agent leaves smux keep-alive off: above 3.1.1511.0 (plugin [`config.go`],
    /// TCPMultiplexingWithSmuxKeepAliveDisabledAfterThisAgentVersion). Older agents close the session after 30 s without a frame
    /// of ours.
    ///
    /// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L50
    pub fn keep_alive_off(self) -> bool {
        self.0 > Version([3, 1, 1511, 0])
    }

    /// Whether the agent acknowledges duplicates again: from 3.2.1041.0 ([release notes], "Add retry to handle stream data
    /// acknowledge messages"). Older agents stay silent, so a lost acknowledgement is never repeated.
    ///
    /// [release notes]: https://github.com/aws/amazon-ssm-agent/blob/1c217c89b42de51d4f4063363d8ec1f2eef56055/RELEASENOTES.md#L209-L211
    pub fn acknowledges_duplicates(self) -> bool {
        self.0 >= Version([3, 2, 1041, 0])
    }

    /// Whether the agent understands the TerminateSession flag: above 2.3.722.0 (plugin [`config.go`],
    /// TerminateSessionFlagSupportedAfterThisAgentVersion).
    ///
    /// [`config.go`]: https://github.com/aws/session-manager-plugin/blob/61cf1288c7c66b4cbff922b7ed8a6604b3a3c2ea/src/config/config.go#L48
    pub fn terminate_flag(self) -> bool {
        self.0 > Version([2, 3, 722, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_exact_and_malformed_versions_count_as_oldest() {
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
