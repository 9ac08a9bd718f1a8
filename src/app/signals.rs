//! The signals that the proxy obeys: SIGINT (Ctrl-C) and SIGTERM end it, and SIGHUP, which a closed terminal window sends. A
//! supervisor's SIGHUP is the wish for a reload instead.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Stopped;

/// Receives the signals from its creation on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if SIGHUP was ignored when the process started.
    hang_up: Option<Signal>,
    reloads: bool,
}

/// The wish of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The end of the process.
    Stop(Stopped),
    /// Another look at the configuration.
    Reload,
}

impl Signals {
    /// Installs the handlers. From now on none of the signals ends the process by itself. With `reloads` SIGHUP is the wish for a
    /// reload.
    ///
    /// # Errors
    /// The system's error.
    pub fn new(reloads: bool) -> io::Result<Self> {
        let hang_up = SignalKind::hangup();
        Ok(Self {
            hang_up: if is_ignored(hang_up) && !reloads { None } else { Some(signal(hang_up)?) },
            reloads,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal that ends the process.
    pub async fn stopped(&mut self) -> Stopped {
        loop {
            if let Wish::Stop(stopped) = self.next().await {
                return stopped;
            }
        }
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Wish {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => _ = signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop(Stopped::Interrupt),
            _ = self.terminate.recv() => Wish::Stop(Stopped::Terminate),
            () = hang_up => if self.reloads { Wish::Reload } else { Wish::Stop(Stopped::HangUp) },
        }
    }
}

/// Whether a signal is ignored, as nohup(1) arranges for SIGHUP. Such a signal must stay ignored, for this process and its
/// children. Call this before installing a handler.
pub fn is_ignored(kind: SignalKind) -> bool {
    // proc_pid_status(5), SigIgn: a mask in hexadecimal digits; elsewhere ps(1) has the same.
    let mask = if cfg!(target_os = "linux") {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::to_owned)
    } else {
        let ps =
            std::process::Command::new("ps").args(["-o", "sigignore=", "-p", &std::process::id().to_string()]).output();
        ps.ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mask = mask.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    u32::try_from(kind.as_raw_value())
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
        assert!(is_ignored(SignalKind::pipe()));
        assert!(!is_ignored(SignalKind::terminate()));
    }
}
