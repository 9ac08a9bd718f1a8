//! The signals that reach us while another program runs beside a proxy.

use std::{
    future::poll_fn,
    io,
    task::Poll,
    thread::{self, JoinHandle},
};

use tokio::{runtime::Builder, sync::oneshot};

use crate::{
    platform::signals::{Arrivals, Signal},
    telemetry::log,
};

/// Ctrl-C for a command that has nothing to put in order: it is answered by a word.
pub(super) struct Interrupt(Option<Arrivals>);

impl Interrupt {
    /// Where a person is at the terminal; elsewhere the signal ends the process by itself. A signal that was ignored at the start
    /// stays ignored.
    pub(super) fn at_terminal() -> Self {
        let watches = log::on_terminal() && !Signal::Interrupt.is_ignored();
        Self(if watches { Arrivals::of(Signal::Interrupt).ok() } else { None })
    }

    /// Resolves when it arrives.
    pub(super) async fn arrives(&mut self) {
        match &mut self.0 {
            Some(signal) => signal.next().await,
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
pub(super) struct Signals(Vec<(Signal, Arrivals)>);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let all = [Signal::Interrupt, Signal::Terminate, Signal::HangUp, Signal::Quit];
        let ours = all.into_iter().filter(|signal| *signal == Signal::Terminate || !signal.is_ignored());
        Ok(Self(ours.map(|signal| Ok((signal, Arrivals::of(signal)?))).collect::<io::Result<_>>()?))
    }

    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut received = self.0.iter_mut();
            let received = received.find_map(|(signal, arrivals)| arrivals.poll_next(cx).is_ready().then_some(*signal));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
