//! The limits of this process, of which Windows has none that matters here.

/// Nothing has to be set. Core files are a matter of Windows Error Reporting, which the user or the domain decides on.
pub fn set() {}

/// Starts a program.
pub fn as_at_start<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// The number of files that the process may open: not limited.
pub fn open_files() -> Option<u64> {
    None
}
