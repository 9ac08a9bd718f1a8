//! Who may set a key. A project's file comes with a repository, and so from whoever wrote that: it may describe databases,
//! but it decides neither whom we believe nor who we are.

use super::key::Key;

/// Who may set a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: a project's file too.
    Project,
    /// Anyone may make it stricter: of the project's value and the owner's the stricter one counts, trusted or not.
    Stricter,
    /// The owner: their own file, a flag, a variable, or a project's file that they trust as it is (`rdsgate trust`). The
    /// text says what a file that sets it asks for.
    Owner(&'static str),
    /// As `Owner`, but a project may choose it for a host name that is an RDS endpoint.
    OwnerUnlessRds(&'static str),
    /// The owner alone: not even a trusted project's file.
    Never,
}

impl Key {
    /// Who may set the key. The reason beside each is the answer to "what could a cloned repository gain by it?".
    #[expect(clippy::match_same_arms, reason = "each key stands beside its own reason")]
    pub fn trust(self) -> Trust {
        match self {
            // Which database. The token is valid for this name, port and user only, and it leaves only after the server has
            // proved this very name with a certificate under AWS's roots, whichever way the bytes take.
            Self::Host | Self::Engine | Self::Port | Self::User | Self::Database => Trust::Project,
            // Loopback only, whatever the file says: what listens there is this process.
            Self::Listen => Trust::Project,
            // A node of the owner's account, since the owner decides the identity. It sees TLS, and a session that leads to
            // another address than the target's is refused.
            Self::Bastion => Trust::Project,
            // Where our own AWS calls go, all of them to AWS, and what the token is for: a database elsewhere refuses it.
            Self::Region => Trust::Project,
            // Tuning within bounds: they cost speed, or sessions of this process (100 at most), and end with it.
            Self::Compress
            | Self::PayloadSize
            | Self::MaxSessions
            | Self::WarmSessions
            | Self::IdleClose
            | Self::Isolation
            | Self::RotateAfter
            | Self::ConnectTimeout
            | Self::ResumeFor
            | Self::MaxSigtermDelay => Trust::Project,
            // What the account is believed to have set: decides when a warning is printed, and nothing else.
            Self::IdleTimeout => Trust::Project,
            // Guards against a slip of the hand. A repository that lifts them could turn a look into a change.
            // A user that clients cannot change is one more guard.
            Self::ReadOnly | Self::StatementTimeout | Self::Label | Self::Confirm | Self::PinUser => Trust::Stricter,
            // Names that are not RDS's may lead anywhere, and from this machine to places that no bastion reaches.
            Self::Via => Trust::OwnerUnlessRds("connect from this machine to a name that is not an RDS endpoint"),
            // Who we are. With a stronger identity than the owner meant, everything else gets stronger too; and a role of
            // somebody else's account sends the owner's sessions, queries and audit trail there.
            Self::Profile => Trust::Owner("use this AWS profile of yours"),
            Self::RoleArn => Trust::Owner("assume this role with your credentials"),
            Self::ExternalId => Trust::Owner("send this external id when it assumes roles"),
            Self::MfaSerial => Trust::Owner("ask you for a code of this MFA device"),
            // What the audit trail says of us: a repository could write somebody else's name or ticket into it.
            Self::SessionName => Trust::Owner("appear under this name in CloudTrail and in the database's logs"),
            Self::Reason => {
                Trust::Owner("write this reason into the session history instead of your name and the database")
            }
            // Whom we believe. With a root of their own anybody can be the database, and take the token.
            Self::CaFile => Trust::Owner("believe each database whose certificate this file vouches for"),
            // Where the tunnel's bytes go, session tokens and signed requests included.
            Self::SsmmessagesEndpoint => Trust::Owner("send the traffic of its SSM sessions to this host"),
            // Without a signature the stream's token alone admits to the session.
            Self::UnsignedStream => Trust::Owner("open the stream of a session without a signature"),
            // What runs on the node, and what it dials.
            Self::Document => Trust::Owner("start SSM sessions with this document"),
            Self::DocumentParameters => Trust::Owner("send these parameters, which may decide what the bastion dials"),
            // The account ends idle sessions on purpose.
            Self::KeepAlive => Trust::Owner("keep sessions open beyond your account's idle timeout"),
            // A listener with host names in its answers, at a port or path of the file's choice.
            Self::Admin => Trust::Owner("answer questions about its state at this address"),
            // Starts a program with an address that came from a network.
            Self::OpenBrowser => Trust::Owner("open pages in your browser"),
            // Runs a command, which is all that any other key could gain.
            Self::MfaCommand => Trust::Never,
            // For one run, so in no file.
            Self::MfaCode => Trust::Never,
        }
    }

    /// What a file that sets this key asks for, where that is the owner's to decide.
    pub fn asks(self) -> Option<&'static str> {
        match self.trust() {
            Trust::Owner(asks) | Trust::OwnerUnlessRds(asks) => Some(asks),
            Trust::Project | Trust::Stricter | Trust::Never => None,
        }
    }
}
