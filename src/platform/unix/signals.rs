//! Signals.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::signal::unix::{self, SignalKind};

/// A signal that ends programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the terminal's window was closed.
    HangUp,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGQUIT: Ctrl-\.
    Quit,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its number, for exit codes.
    pub fn number(self) -> u8 {
        u8::try_from(self.native().as_raw()).unwrap_or_default()
    }

    fn native(self) -> rustix::process::Signal {
        match self {
            Self::HangUp => rustix::process::Signal::HUP,
            Self::Interrupt => rustix::process::Signal::INT,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::Terminate => rustix::process::Signal::TERM,
        }
    }

    /// Whether the terminal sent it to its whole foreground process group. It may also have been sent to us alone meanwhile,
    /// which cannot be told apart.
    pub fn is_from_terminal(self) -> bool {
        [Self::Interrupt, Self::Quit].contains(&self)
            && std::fs::File::open("/dev/tty").is_ok_and(|terminal| {
                rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == rustix::process::getpgrp())
            })
    }

    /// Whether it is ignored, as nohup(1) arranges for SIGHUP. Such a signal must stay ignored, for this process and its
    /// children. Call this before listening to it.
    pub fn is_ignored(self) -> bool {
        is_ignored(self.native().as_raw())
    }

    /// Sends it to a process of ours.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user.
    pub fn send(self, process: u32) -> io::Result<()> {
        let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(process.ok_or(io::ErrorKind::NotFound)?, self.native())?)
    }
}

/// Arrivals of one signal, which from its creation on does not end the process by itself.
#[derive(Debug)]
pub struct Arrivals(unix::Signal);

impl Arrivals {
    /// Of a signal.
    ///
    /// # Errors
    /// The system's error.
    pub fn of(signal: Signal) -> io::Result<Self> {
        unix::signal(SignalKind::from_raw(signal.native().as_raw())).map(Self)
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) {
        self.0.recv().await;
    }

    /// Whether one has arrived.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_recv(cx).map(drop)
    }
}

fn is_ignored(number: i32) -> bool {
    // proc_pid_status(5), SigIgn: a mask in hexadecimal digits; elsewhere ps(1) has the same.
    let mask = if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::to_owned)
    } else {
        super::process::output_of("ps", &["-o", "sigignore=", "-p", &std::process::id().to_string()])
    };
    let mask = mask.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    u32::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1))
        .is_some_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signal_is_recognised_by_its_bit() {
        // The standard library ignores SIGPIPE at the start of every program.
        assert!(is_ignored(SignalKind::pipe().as_raw_value()));
        assert!(!Signal::Terminate.is_ignored());
    }
}
