//! The paths of unix sockets: the usual name of an engine in the folder of the user's runtime files, or a path of the user's.
//!
//! Of several targets of an engine one can have the usual name there. It is the first of the files, as for ports; each other has
//! it in a folder with the name of the target.

use std::path::{Path, PathBuf};

use super::{error::Error, value::Listen};
use crate::target::{Address, Engine};

/// The addresses of a target, with the usual socket of its engine for `unix`.
///
/// # Errors
/// [`Error::SocketName`] for a socket that programs of the engine would not find.
pub(super) fn addresses(
    listen: Vec<Listen>,
    target: &str,
    engine: Engine,
    runtime: &Path,
) -> Result<Vec<Address>, Error> {
    let address = |listen| match listen {
        Listen::Tcp(address) => Ok(Address::Tcp(address)),
        Listen::UsualSocket => Ok(Address::Unix(usual(engine, runtime))),
        Listen::Socket(path) => socket(path, target, engine).map(Address::Unix),
    };
    listen.into_iter().map(address).collect()
}

/// The usual socket of an engine.
pub(super) fn usual(engine: Engine, runtime: &Path) -> PathBuf {
    runtime.join(engine.facts().socket)
}

/// The same for a target that cannot have that one. A name may be an ARN, which has slashes.
pub(super) fn own(engine: Engine, runtime: &Path, target: &str) -> PathBuf {
    runtime.join(target.replace('/', "_")).join(engine.facts().socket)
}

fn socket(path: PathBuf, target: &str, engine: Engine) -> Result<PathBuf, Error> {
    let usual = engine.facts().socket;
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir() {
        return Ok(path.join(usual));
    }
    let is_found = |path: &str| engine.facts().client.is_none_or(|client| (client.at_socket)(path).is_some());
    if path.to_str().is_some_and(is_found) {
        Ok(path)
    } else {
        Err(Error::SocketName { target: target.to_owned(), path, usual })
    }
}
