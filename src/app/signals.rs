//! The signals that the proxy obeys: SIGINT (Ctrl-C) and SIGTERM end it, and SIGHUP, which a closed terminal window sends. A
//! supervisor's SIGHUP is the wish for a reload instead. Windows has events of the console in their place.

use std::io;

use super::Stopped;
use crate::platform::signals::{Arrivals, Signal};

/// Receives the signals from its creation on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Arrivals,
    terminate: Arrivals,
    /// `None` if SIGHUP was ignored when the process started.
    hang_up: Option<Arrivals>,
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
        let is_ignored = Signal::HangUp.is_ignored() && !reloads;
        Ok(Self {
            hang_up: if is_ignored { None } else { Some(Arrivals::of(Signal::HangUp)?) },
            reloads,
            interrupt: Arrivals::of(Signal::Interrupt)?,
            terminate: Arrivals::of(Signal::Terminate)?,
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
                Some(signal) => signal.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.interrupt.next() => Wish::Stop(Stopped::Interrupt),
            () = self.terminate.next() => Wish::Stop(Stopped::Terminate),
            () = hang_up => if self.reloads { Wish::Reload } else { Wish::Stop(Stopped::HangUp) },
        }
    }
}
