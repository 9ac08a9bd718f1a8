//! The MySQL and MariaDB protocol as far as a login: both halves of it, and just enough of what follows to take over
//! COM_CHANGE_USER and to end in order.
//!
//! ```text
//!   upstream ─▶ read_greeting ─▶ greet ─▶ client                     the server speaks first
//!   client ─▶ accept ─▶ HandshakeResponse ─▶ ssl_request ─▶ upstream, TLS by the caller
//!                               └──────────▶ login ─▶ OK ─▶ finish ─▶ client     then the relay, through `Commands`
//!   client ─▶ COM_CHANGE_USER ─▶ change_user ─▶ upstream, its answer to the client, and the relay again
//! ```
//!
//! It reads and writes any `AsyncRead + AsyncWrite` and knows nothing of sockets, clocks, TLS or AWS: the caller sets
//! the deadline and provides the encrypted stream and the token. Queries and rows are never parsed; [`Watch`] follows where
//! answers end, to know when nothing is lost with the connection.
//!
//! The choices of the client go upstream unchanged, so that the relay can copy bytes; only TLS, compression and the password
//! are between us and the server alone.
//!
//! The rules are those of MySQL's "Client/Server Protocol"
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/PAGE_PROTOCOL.html>) and of MariaDB's
//! (<https://mariadb.com/kb/en/clientserver-protocol/>); where they are silent, of `sql_authentication.cc`,
//! `sql_acl.cc` and `net_serv.cc`. Files of the servers' sources are those of the tags `mysql-8.4.9` and `mariadb-10.11.14`,
//! unless another version is named.

pub mod accept;
pub mod agreement;
pub mod authentication;
pub mod capabilities;
pub mod change_user;
mod codec;
pub mod command;
pub mod commands;
pub mod compress;
pub mod error;
mod error_packet;
pub mod goodbye;
pub mod greeting;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
pub mod key;
pub mod known;
mod last;
pub mod login;
pub mod message;
pub mod password;
pub mod plugin;
pub mod query;
pub mod response;
#[cfg(any(test, feature = "testing"))]
pub mod script;
mod signal;
pub mod watch;

pub use accept::{Accepted, Login, accept, accept_answer, finish};
pub use agreement::{Compression, Terms};
pub use capabilities::Capabilities;
pub use change_user::{accept_change_user, accept_change_user_answer, change_user};
pub use commands::Commands;
pub use compress::Compressed;
pub use error::{Error, ErrorReport, ReplyPosition, ServerError};
pub use greeting::{Greeting, Scramble, greet, read_greeting};
pub use known::{Verdict, Verifier, accept_change_user_known, accept_known};
pub use login::{LoggedIn, TokenTiming, login, ssl_request};
pub use message::OkPacket;
pub use password::{change_user_with_password, login_with_password};
pub use response::HandshakeResponse;
pub use signal::Signal;
pub use watch::{Activity, Watch};
