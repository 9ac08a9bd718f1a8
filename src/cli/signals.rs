//! The signals that reach us while another program runs beside a proxy.

use std::{
    future::poll_fn,
    io,
    task::Poll,
    thread::{self, JoinHandle},
};

use rustix::process::{Signal, getpgrp};
use tokio::{
    runtime::Builder,
    signal::unix::{self, SignalKind},
    sync::oneshot,
};

use crate::{app, telemetry::log};

/// A signal that reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received(Signal);

impl Received {
    /// The number of the signal, for the exit code.
    pub fn number(self) -> u8 {
        u8::try_from(self.0.as_raw()).unwrap_or_default()
    }

    /// The signal itself.
    pub(super) fn signal(self) -> Signal {
        self.0
    }

    /// Whether the terminal sent it to its whole foreground process group, the program with us. It may also have been
    /// sent to us alone meanwhile, which cannot be told apart.
    pub(super) fn is_from_terminal(self) -> bool {
        let keys = [Signal::INT, Signal::QUIT].contains(&self.0);
        keys && std::fs::File::open("/dev/tty")
            .is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
    }
}

/// Ctrl-C for a command that has nothing to put in order: it is answered by a word.
pub(super) struct Interrupt(Option<unix::Signal>);

impl Interrupt {
    /// Where a person is at the terminal; elsewhere the signal ends the process by itself. A signal that was ignored at the start
    /// stays ignored.
    pub(super) fn at_terminal() -> Self {
        let kind = SignalKind::interrupt();
        let watches = log::on_terminal() && !app::is_ignored(kind);
        Self(if watches { unix::signal(kind).ok() } else { None })
    }

    /// Resolves when it arrives.
    pub(super) async fn arrives(&mut self) {
        match &mut self.0 {
            Some(signal) => _ = signal.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// Ctrl-C during work that blocks its thread. A handler that an earlier wait installed stays for the life of the process, so that
/// without this a question would not hear it.
#[derive(Debug)]
pub(super) struct Watch(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Watch {
    /// Calls `answer` at the first Ctrl-C before it is dropped, where a person is at the terminal.
    pub(super) fn begin(answer: impl FnOnce() + Send + 'static) -> Self {
        if !log::on_terminal() {
            return Self(None);
        }
        let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return Self(None) };
        // From here on, not from some moment of the thread's: the signal may come at once.
        let mut interrupt = {
            let _within = runtime.enter();
            Interrupt::at_terminal()
        };
        let (stop, stopped) = oneshot::channel();
        let watch = move || {
            let is_interrupted = runtime.block_on(async {
                tokio::select! {
                    () = interrupt.arrives() => true,
                    _ = stopped => false,
                }
            });
            if is_interrupted {
                answer();
            }
        };
        // Without the thread the signal ends the process by itself.
        let thread = thread::Builder::new().name("interrupt".into()).spawn(watch);
        Self(thread.ok().map(|thread| (stop, thread)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// The signals that end programs, but for those that were ignored when we started: they stay so, for the program too.
pub(super) struct Signals(Vec<(Signal, unix::Signal)>);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let kind = |signal: Signal| SignalKind::from_raw(signal.as_raw());
        let all = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];
        let ours = all.into_iter().filter(|signal| *signal == Signal::TERM || !app::is_ignored(kind(*signal)));
        Ok(Self(ours.map(|signal| Ok((signal, unix::signal(kind(signal))?))).collect::<io::Result<_>>()?))
    }

    pub(super) async fn next(&mut self) -> Received {
        poll_fn(|cx| {
            let received =
                self.0.iter_mut().find_map(|(signal, stream)| stream.poll_recv(cx).is_ready().then_some(*signal));
            received.map_or(Poll::Pending, |signal| Poll::Ready(Received(signal)))
        })
        .await
    }
}
