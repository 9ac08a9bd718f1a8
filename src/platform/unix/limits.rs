//! The limits of this process: no core files, and as many files as it may have.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit of open files that we were started with.
static FILES_AT_START: OnceLock<Rlimit> = OnceLock::new();
/// The largest soft limit of macOS where the hard limit is infinite (`OPEN_MAX`).
const FILES_WHERE_UNLIMITED: u64 = 10_240;

/// Sets them, once.
pub fn set() {
    no_core_file();
    raise_files();
}

/// A core file would hold tokens and credentials, and outlive them.
///
/// The limit is one byte rather than none: for a core handed to a program, as most desktops do, the kernel ignores a
/// limit of zero but takes one as "no core" (core(5); fs/coredump.c in Linux).
fn no_core_file() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) }) {
        tracing::debug!(%error, "core files stay on");
    }
}

/// The number of files that the process may open; `None` where they are not limited.
pub fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Each connection takes one or two files. The soft limit is 1024 on most systems, for the sake of programs that use
/// select(2); we do not.
fn raise_files() {
    let start = FILES_AT_START.get_or_init(|| getrlimit(Resource::Nofile));
    let raised = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: start.maximum });
    if let Err(error) = raised(start.maximum).or_else(|_| raised(Some(FILES_WHERE_UNLIMITED))) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// Starts a program under the limit of open files that we were started with: it may use select(2), or close all that it may
/// have.
pub fn as_at_start<T>(start: impl FnOnce() -> T) -> T {
    let Some(at_start) = FILES_AT_START.get() else { return start() };
    let raised = getrlimit(Resource::Nofile);
    // Files that are open stay so; new ones have to wait a moment where there are many.
    let _ = setrlimit(Resource::Nofile, *at_start);
    let started = start();
    let _ = setrlimit(Resource::Nofile, raised);
    started
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_file_is_written_and_a_child_has_the_limits_of_the_start() {
        let at_start = getrlimit(Resource::Nofile);
        set();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let of = |name: &str| -> Vec<&str> {
            limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().collect()
        };
        assert_eq!(of("Max core file size"), ["1", "1", "bytes"]);
        let files = of("Max open files");
        assert_eq!(files[0], files[1], "the soft one is the hard one");
        let child = as_at_start(|| std::process::Command::new("sh").args(["-c", "ulimit -n"]).output()).unwrap();
        let expected = at_start.current.map_or("unlimited".into(), |soft| soft.to_string());
        assert_eq!(String::from_utf8_lossy(&child.stdout).trim(), expected);
        assert_eq!(getrlimit(Resource::Nofile).current, at_start.maximum);
    }
}
