//! The PostgreSQL protocol as far as a login: both halves of it, and just enough of what follows to see when a
//! connection is idle.
//!
//! ```text
//!   client ─▶ accept ─▶ Startup ───────────────▶ login ─▶ greeting ─▶ client      then the relay, watched by `watch`
//!                  └──▶ CancelRequest ─ match ─▶ a new upstream connection
//! ```
//!
//! It reads and writes any `AsyncRead + AsyncWrite` and knows nothing of sockets, clocks, TLS or AWS: the caller
//! sets the deadline and provides the encrypted stream and the token. Queries and rows are never parsed.
//!
//! The rules are those of the PostgreSQL documentation, chapter "Frontend/Backend Protocol"
//! (<https://www.postgresql.org/docs/18/protocol.html>); where it is silent, of `backend_startup.c`
//! (`ProcessStartupPacket`) and libpq's `fe-connect.c`. Files of PostgreSQL's sources are those of the tag `REL_18_0`.

pub mod accept;
pub mod authentication;
pub mod cancel;
mod codec;
pub mod error;
mod error_response;
mod exchange;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
pub mod login;
pub mod message;
pub mod method;
pub mod password;
pub mod query;
pub mod reset;
pub mod scram;
mod scram_client;
pub mod startup;
pub mod version;
pub mod watch;

pub use accept::{ALPN, Accepted, accept};
pub use cancel::{CancelKey, CancelRequest};
pub use error::{Error, ErrorReport, Notice, ServerError};
pub use login::{LoggedIn, Login, Mode, login, request_tls};
pub use password::login_with_password;
pub use reset::{ReplacedKey, reset};
pub use startup::Startup;
pub use version::ProtocolVersion;
pub use watch::{Activity, Watch};
