//! Messages of the process to systemd: sd_notify(3). Without `NOTIFY_SOCKET` nothing is sent.
//!
//! The watchdog gets its sign of life only after every accept loop has answered, and a task that was started for it: a process whose
//! runtime or listeners hang is restarted.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::door::Ping;
use crate::platform::notify::{Notify, monotonic_micros};

/// The accept loops of the process. A reload replaces them.
pub(super) type Loops = Vec<mpsc::Sender<Ping>>;

/// The supervisor of this process, if there is one.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<Notify>,
    /// The time within which the supervisor wants a sign of life.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The supervisor that the environment names.
    pub(super) fn of_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self::new(&variable, std::process::id())
    }

    fn new(variable: &dyn Fn(&str) -> Option<String>, own: u32) -> Self {
        let socket = variable("NOTIFY_SOCKET").and_then(|name| {
            Notify::new(&name)
                .inspect_err(|cause| warn!(%cause, "systemd gets no messages: NOTIFY_SOCKET is unusable"))
                .ok()
        });
        // sd_watchdog_enabled(3): the variables may be meant for a parent of ours.
        let is_meant = variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(own));
        let micros =
            variable("WATCHDOG_USEC").and_then(|micros| micros.parse::<u64>().ok()).filter(|micros| *micros > 0);
        let watchdog = micros.filter(|_| is_meant && socket.is_some()).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The targets are served.
    pub(super) fn ready(&self, served: usize, targets: usize) {
        self.send(&format!("READY=1\nSTATUS=Serving {served} of {targets} targets"));
    }

    /// The configuration is read again; [`Supervisor::ready`] follows in any case.
    pub(super) fn reloading(&self) {
        let micros = monotonic_micros();
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the configuration again"));
    }

    /// The process is on its way to its end.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=Draining connections");
    }

    /// Gives signs of life for as long as the loops give theirs, until the result is dropped.
    pub(super) fn watch(&self, loops: watch::Receiver<Loops>) -> Option<AbortOnDropHandle<()>> {
        let within = self.watchdog? / 2;
        let socket = self.socket.as_ref()?.try_clone().ok()?;
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut tick = interval(within);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let now = loops.borrow().clone();
                if timeout(within, answers(&now)).await.is_ok() {
                    send(&socket, "WATCHDOG=1");
                } else {
                    warn!("an accept loop does not answer; the watchdog gets no sign of life");
                }
            }
        })))
    }

    fn send(&self, state: &str) {
        if let Some(socket) = &self.socket {
            send(socket, state);
        }
    }
}

fn send(socket: &Notify, state: &str) {
    if let Err(cause) = socket.send(state) {
        debug!(%cause, "a message to systemd was not sent");
    }
}

/// Waits until a task and all loops have answered.
async fn answers(loops: &Loops) {
    // Its panic or end is an answer too.
    let _ = tokio::spawn(async {}).await;
    for accepting in loops {
        let (ping, answer) = oneshot::channel();
        // A loop that has ended was closed by a reload or a shutdown.
        if accepting.send(ping).await.is_ok() {
            let _ = answer.await;
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;

    fn supervisor(variables: &[(&str, &str)]) -> Supervisor {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Supervisor::new(&variable, 4711)
    }

    #[cfg(target_os = "linux")]
    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn messages_reach_a_path_and_an_abstract_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").display().to_string();
        let name = format!("rdsgate-test-{}", std::process::id());
        let addresses = [SocketAddr::from_pathname(&path), SocketAddr::from_abstract_name(&name)];
        for (name, address) in [path, format!("@{name}")].into_iter().zip(addresses) {
            let socket = UnixDatagram::bind_addr(&address.unwrap()).unwrap();
            let supervisor = supervisor(&[("NOTIFY_SOCKET", &name)]);
            supervisor.ready(1, 2);
            assert_eq!(received(&socket), "READY=1\nSTATUS=Serving 1 of 2 targets");
            supervisor.reloading();
            let text = received(&socket);
            let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().lines().next().unwrap();
            assert!(time.parse::<u64>().unwrap() > 0, "{text}");
            supervisor.stopping();
            assert!(received(&socket).starts_with("STOPPING=1\n"));
        }
        supervisor(&[]).ready(1, 1);
    }

    #[test]
    fn watchdog_is_for_the_process_that_the_variables_name() {
        let socket = ("NOTIFY_SOCKET", "/nonexistent");
        let of = |more: &[(&str, &str)]| supervisor(&[&[socket], more].concat()).watchdog;
        let second = Some(Duration::from_secs(1));
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000")]), second);
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "4711")]), second);
        assert_eq!(of(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "1")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "0")]), None);
        assert_eq!(of(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(supervisor(&[("WATCHDOG_USEC", "1000000")]).watchdog, None, "there is no place for its signs");
    }

    #[tokio::test(start_paused = true)]
    async fn loop_that_does_not_answer_costs_the_sign_of_life() {
        let (pings, mut pinged) = mpsc::channel::<Ping>(1);
        let loops = vec![pings];
        assert!(timeout(Duration::from_secs(5), answers(&loops)).await.is_err(), "it hangs");
        // The question of before and that of now.
        let alive = tokio::spawn(async move {
            while let Some(ping) = pinged.recv().await {
                let _ = ping.send(());
            }
        });
        timeout(Duration::from_secs(5), answers(&loops)).await.unwrap();
        alive.abort();
        let _ = alive.await;
        timeout(Duration::from_secs(5), answers(&loops)).await.unwrap();
    }
}
