//! The user's settings, from four places, as one checked [`Config`].
//!
//! ```text
//!   flags ─▶ RDSGATE_* ─▶ .rdsgate.toml ─▶ config.toml ─▶ defaults        the first that sets an option wins, if it may set it
//!     └─────────┴──────────────┴───────────────┴── layers (text with its origin) ─▶ drafts (parsed) ─▶ Config
//!                                                                missing values ──┘  filled in by others, or an error
//! ```
//!
//! - `options`: the table of options: name, kind, default, help, trust;
//! - `layer`: the values of one source; `origin`: the origin of a value; `settings`: the precedence of values;
//! - `file`: TOML to layers, with line and column kept for the errors;
//! - `search`: where a project's file may lie; `record`: which ones the user trusts; `consent`: what such a file asks for;
//! - `env`: the environment to a layer, and the folders that files are looked for in;
//! - `value`: one text to one value; `draft`: the values of one database, and those to a [`Target`](crate::target::Target);
//! - `sources`: files, environment and flags together, and the targets that are meant; `load`: the way from there to a `plan`;
//! - `plan`: all drafts, and the rules between targets; `checked`: the result;
//! - `ports`: the local port of a target that sets none, the same every time;
//! - `explain`: every value with its origin;
//! - `error`, `warning`: faults, each with its place and the next step.
//!
//! Files and environment are read here and nowhere else. Nothing here opens a socket, asks AWS or knows what the
//! values are used for; after [`load`] nothing is checked again.

mod checked;
mod consent;
pub mod draft;
pub mod env;
pub mod error;
pub mod explain;
pub mod file;
#[cfg(any(test, feature = "testing"))]
pub mod invariants;
mod layer;
mod load;
pub mod options;
pub mod origin;
mod plan;
pub mod ports;
mod record;
mod search;
mod settings;
mod sockets;
mod sources;
pub mod value;
pub mod warning;

pub use checked::Config;
pub use consent::{Consent, project, revoke, trusted};
pub use draft::Draft;
pub use env::Environment;
pub use error::Error;
pub use explain::explain;
pub use load::{Place, Server, load, place, read};
pub use options::{Key, Kind, Scope};
pub use origin::Asked;
pub use plan::{Loaded, Plan};
pub use record::Standing;
pub use search::{PROJECT_FILE, Reason};
pub use sources::Request;
pub use warning::Warning;

#[cfg(test)]
mod tests;
