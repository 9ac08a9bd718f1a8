//! A service, before it is written in the words of a system.

use std::path::PathBuf;

/// Begins every file that is ours.
pub(super) const MARK: &str = "Written by rdsgate service install; rdsgate service remove removes it.";

/// What the service runs.
pub(super) struct Job {
    pub(super) program: PathBuf,
    /// The arguments behind the program.
    pub(super) arguments: Vec<String>,
    pub(super) folder: PathBuf,
    /// The file for what it writes to stderr, where the system keeps none.
    pub(super) log: PathBuf,
}

/// The service as a system has it.
pub(super) struct Service {
    pub(super) path: PathBuf,
    /// Each a program and its arguments.
    pub(super) start: Vec<Vec<String>>,
    pub(super) stop: Vec<Vec<String>>,
    /// After the file was removed.
    pub(super) forget: Vec<Vec<String>>,
    pub(super) show: Vec<String>,
    pub(super) write: fn(&Job) -> String,
}

/// A command from its words.
pub(super) fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
pub(super) fn example() -> Job {
    Job {
        program: "/opt/my tools/rdsgate".into(),
        arguments: ["up", "--reload-on-hup", "orders", "--reason", "50% \"of\" $HOME\\n & <more>"]
            .map(str::to_owned)
            .into(),
        folder: "/home/ada/100%".into(),
        log: "/home/ada/Library/Logs/rdsgate.log".into(),
    }
}
