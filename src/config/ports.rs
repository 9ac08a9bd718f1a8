//! The local port of a target without `listen` when another target has its engine's port: derived from its name, so that it
//! is the same every time and the settings of an IDE stay valid.
//!
//! Two names may come to one port. Which of them has it and which has the next is decided once and remembered in a small file
//! under `$XDG_STATE_HOME`. When that cannot be written the port is the one of the name alone.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    ops::Range,
    path::Path,
};

use super::origin::Whose;
use crate::target::{Engine, Target};

/// The file that remembers which local port a target has, below `$XDG_STATE_HOME`.
pub const PORTS_FILE: &str = "rdsgate/ports.json";

/// The ports to choose from: below those that systems give to outgoing connections (Linux 32768, IANA and macOS 49152).
pub const RANGE: Range<u16> = 20_000..25_000;

/// Ports below this one are for root alone on most systems.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Whether a target without a port of its engine may have that of its server: a port that every user may bind, and of a target
/// in a file none that is for databases.
pub(super) fn may_be_shared(port: u16, whose: Whose) -> bool {
    port >= FIRST_UNPRIVILEGED && (whose == Whose::CommandLine || Engine::of_default_port(port).is_none())
}

/// The port of a target, as remembered or, for the first time, as derived. `taken` are those of the other targets.
pub fn own(target: &Target, state: Option<&Path>, taken: &[u16]) -> u16 {
    // Of two projects' databases with one name each has its own.
    let key = format!("{} {}", target.name, target.endpoint);
    let remembered = state.map(|folder| remembered(&folder.join(PORTS_FILE), &target.name, &key, taken));
    match remembered {
        Some(Ok(port)) => port,
        Some(Err(error)) => {
            tracing::debug!(%error, "cannot remember the port of {}", target.name);
            free(&target.name, |port| taken.contains(&port))
        }
        None => free(&target.name, |port| taken.contains(&port)),
    }
}

/// Looks the key up in the file and adds it if it is not there. Processes that do so at once wait for each other.
fn remembered(path: &Path, name: &str, key: &str, taken: &[u16]) -> io::Result<u16> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.lock()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Whatever is not ours is as good as an empty file.
    let mut known: BTreeMap<String, u16> = serde_json::from_str(&text).unwrap_or_default();
    if let Some(port) = known.get(key).filter(|port| RANGE.contains(port) && !taken.contains(port)) {
        return Ok(*port);
    }
    let port =
        free(name, |port| taken.contains(&port) || known.iter().any(|(other, known)| *known == port && other != key));
    known.insert(key.to_owned(), port);
    let text = serde_json::to_string_pretty(&known).map_err(io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    Ok(port)
}

/// The first port from that of the name on that is not taken.
fn free(name: &str, taken: impl Fn(u16) -> bool) -> u16 {
    let size = RANGE.end - RANGE.start;
    let first = u16::try_from(fnv1a(name) % u64::from(size)).unwrap_or_default();
    let port = |step: u16| RANGE.start + (first + step) % size;
    (0..size).map(port).find(|port| !taken(*port)).unwrap_or_else(|| port(0))
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_has_the_same_port_on_every_machine() {
        // RFC-like test vectors of FNV-1a 64 (Fowler, Noll, Vo).
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
        let port = free("billing", |_| false);
        assert!(RANGE.contains(&port));
        assert_eq!(free("billing", |taken| taken == port), port + 1, "the next one");
        assert_eq!(free("x", |taken| taken != 24_999), 24_999, "all the way round");
        assert!(RANGE.contains(&free("x", |_| true)));
    }

    #[test]
    fn first_target_keeps_its_port() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/ports.json");
        let first = remembered(&path, "billing", "billing a:1", &[]).unwrap();
        let second = remembered(&path, "billing", "billing b:1", &[]).unwrap();
        assert_eq!((first, second), (free("billing", |_| false), first + 1));
        for _ in 0..2 {
            assert_eq!(remembered(&path, "billing", "billing b:1", &[]).unwrap(), second);
            assert_eq!(remembered(&path, "billing", "billing a:1", &[]).unwrap(), first);
        }
        assert_eq!(remembered(&path, "billing", "billing b:1", &[second]).unwrap(), second + 1, "taken by another");
        fs::write(&path, "not JSON").unwrap();
        assert_eq!(remembered(&path, "billing", "billing a:1", &[]).unwrap(), first);
    }

    #[test]
    fn port_that_cannot_be_remembered_is_derived() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("rdsgate"), "a file").unwrap();
        remembered(&folder.path().join(PORTS_FILE), "billing", "billing a:1", &[]).unwrap_err();
    }
}
