//! Processes, and the programs that others are.

use std::{
    io,
    os::windows::process::CommandExt as _,
    process::{Command, ExitStatus},
};

/// `CREATE_NO_WINDOW` of processthreadsapi.h.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// `STATUS_CONTROL_C_EXIT` of ntstatus.h: the code of a program that Ctrl-C has ended.
const CONTROL_C_EXIT: u32 = 0xc000_013a;
/// The same code in a shell.
const INTERRUPTED: u8 = 130;

/// When a process started; `None` for one that does not run.
pub fn started(pid: u32) -> Option<String> {
    let process = windows_calls::Process::open(pid).ok()?;
    process.started().ok().map(|time| time.to_string())
}

/// Words that name this machine. Not for others: they are to be hashed.
pub fn machine() -> String {
    host_name()
}

/// The name of this machine.
pub fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

/// Runs a program in the place of this one, and returns its status.
///
/// # Errors
/// The program cannot be run.
pub fn become_program(command: &mut Command) -> io::Result<u8> {
    command.status().map(exit_code)
}

/// The status of an ended program. One that does not fit is 1, or that of an interrupted program.
pub fn exit_code(status: ExitStatus) -> u8 {
    match status.code().map(i32::cast_unsigned) {
        Some(CONTROL_C_EXIT) => INTERRUPTED,
        code => code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    }
}

/// A command line for the shell of the system, which splits it by its own rules.
pub fn shell(line: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("cmd");
    command.args(["/D", "/S", "/C"]).raw_arg(format!("\"{line}\""));
    command
}

/// Keeps a program that is to be heard, not seen, from opening a window.
pub fn without_window(command: &mut tokio::process::Command) -> &mut tokio::process::Command {
    command.creation_flags(CREATE_NO_WINDOW)
}

/// The program that opens a page, unless the user names another. Not `start` of cmd, which reads the address as its own syntax.
pub fn browser() -> Command {
    let mut command = Command::new("rundll32");
    command.arg("url.dll,FileProtocolHandler").creation_flags(CREATE_NO_WINDOW);
    command
}
