//! Processes, and the programs that others are.

use std::{
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Command, ExitStatus},
};

/// When a process started, in the words of the system: on Linux the 22nd field of proc_pid_stat(5), elsewhere the reply of ps.
/// `None` for one that does not run.
pub fn started(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let zombie = fields.next()? == "Z";
        // The state was the third.
        let started = fields.nth(18)?;
        return (!zombie).then(|| started.to_owned());
    }
    output_of("ps", &["-o", "lstart=", "-p", &pid.to_string()])
}

/// Words that name this machine and, in a container, its process ids. Not for others: they are to be hashed.
pub fn machine() -> String {
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(|path| fs::read_to_string(path).ok());
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| output_of("uname", &["-n"]));
    let processes = fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    format!("{}\n{}\n{processes}", id.unwrap_or_default(), host.unwrap_or_default())
}

/// The name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The output of a program of the system, if it has one.
pub(super) fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Puts a program in the place of this one. Does not return a status: the process has become the program.
///
/// # Errors
/// The program cannot be run.
pub fn become_program(command: &mut Command) -> io::Result<u8> {
    Err(command.exec())
}

/// The status of an ended program as a shell has it: 128 and the number of the signal that killed it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// A command line for the shell of the system.
pub fn shell(line: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", line]);
    command
}

/// Keeps a program that is to be heard, not seen, from opening a window.
pub fn without_window(command: &mut tokio::process::Command) -> &mut tokio::process::Command {
    command
}

/// The program that opens a page, unless the user names another.
pub fn browser() -> Command {
    Command::new(if cfg!(target_os = "macos") { "open" } else { "xdg-open" })
}
