//! What Windows has in the place of signals: the events of a console, and a pipe by which `rdsgate stop` asks for the end.
//!
//! Windows kills a process some seconds after its console was closed, and after the end of the user's session.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    task::{Context, Poll, ready},
};

use tokio::{
    io::AsyncReadExt as _,
    net::windows::named_pipe::{NamedPipeServer, ServerOptions},
    signal::windows::{self, CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown},
    sync::mpsc,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// The request for the end, as it is written into the pipe.
const STOP: &[u8; 4] = b"stop";

/// A wish that ends programs, with the name of the signal that has it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The console was closed.
    HangUp,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Break.
    Quit,
    /// The session ends, or `rdsgate stop` has asked.
    Terminate,
}

impl Signal {
    /// Its number on other systems, for exit codes.
    pub fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Terminate => 15,
        }
    }

    /// Whether every program of the console has it too.
    pub fn is_from_terminal(self) -> bool {
        match self {
            Self::HangUp | Self::Interrupt | Self::Quit => true,
            Self::Terminate => false,
        }
    }

    /// Windows has no ignored signals.
    pub fn is_ignored(self) -> bool {
        false
    }

    /// Asks a process of ours for its end, if it is rdsgate; other wishes cannot be sent.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user.
    pub fn send(self, process: u32) -> io::Result<()> {
        match self {
            Self::Terminate => OpenOptions::new().write(true).open(pipe_of(process))?.write_all(STOP),
            Self::HangUp | Self::Interrupt | Self::Quit => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Arrivals of one of them, which from its creation on does not end the process by itself.
#[derive(Debug)]
pub struct Arrivals(Source);

#[derive(Debug)]
enum Source {
    C(CtrlC),
    Break(CtrlBreak),
    Close(CtrlClose),
    End { shutdown: CtrlShutdown, logoff: CtrlLogoff, asked: mpsc::Receiver<()>, _pipe: Option<AbortOnDropHandle<()>> },
}

impl Arrivals {
    /// Of one of them. Must be called within a runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn of(signal: Signal) -> io::Result<Self> {
        Ok(Self(match signal {
            Signal::Interrupt => Source::C(windows::ctrl_c()?),
            Signal::Quit => Source::Break(windows::ctrl_break()?),
            Signal::HangUp => Source::Close(windows::ctrl_close()?),
            Signal::Terminate => {
                let (ask, asked) = mpsc::channel(1);
                // Only the first one of the process has the pipe.
                let pipe = new_pipe().inspect_err(|cause| debug!(%cause, "rdsgate stop will not reach this process"));
                let pipe = pipe.ok().map(|pipe| AbortOnDropHandle::new(tokio::spawn(listen(pipe, ask))));
                Source::End { shutdown: windows::ctrl_shutdown()?, logoff: windows::ctrl_logoff()?, asked, _pipe: pipe }
            }
        }))
    }

    /// Waits for the next one. Cancel safe.
    pub async fn next(&mut self) {
        std::future::poll_fn(|cx| self.poll_next(cx)).await;
    }

    /// Whether one has arrived.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Source::C(event) => event.poll_recv(cx).map(drop),
            Source::Break(event) => event.poll_recv(cx).map(drop),
            Source::Close(event) => event.poll_recv(cx).map(drop),
            Source::End { shutdown, logoff, asked, .. } => {
                let ends = shutdown.poll_recv(cx).is_ready() || logoff.poll_recv(cx).is_ready();
                if ends {
                    return Poll::Ready(());
                }
                match ready!(asked.poll_recv(cx)) {
                    Some(()) => Poll::Ready(()),
                    // The pipe could not be created.
                    None => Poll::Pending,
                }
            }
        }
    }
}

fn pipe_of(process: u32) -> String {
    format!(r"\\.\pipe\rdsgate-stop-{process}")
}

/// A pipe into this process. By its default access control list only our own user, administrators and SYSTEM can write to it, and in
/// this direction nothing else can be done.
fn new_pipe() -> io::Result<NamedPipeServer> {
    let mut options = ServerOptions::new();
    options.access_outbound(false).first_pipe_instance(true).reject_remote_clients(true).max_instances(1);
    options.create(pipe_of(std::process::id()))
}

/// Passes requests on until nothing listens to them.
async fn listen(mut pipe: NamedPipeServer, ask: mpsc::Sender<()>) {
    loop {
        let mut word = [0; STOP.len()];
        let read = async {
            pipe.connect().await?;
            pipe.read_exact(&mut word).await
        };
        let is_asked = read.await.is_ok() && word == *STOP;
        if is_asked && ask.send(()).await.is_err() || pipe.disconnect().is_err() {
            return;
        }
    }
}
