//! Counts of connections, by target. They are always kept; [`crate::admin`] serves them.
//!
//! Each combination of labels is a time series. Labels are therefore names of targets and fixed words of the program, never
//! values that a client chooses, such as a user or a database.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: from a login over an open session beside the database to `connect_timeout`.
const CONNECT_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtStage {
    target: Arc<str>,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    target: Arc<str>,
    side: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Relayed {
    target: Arc<str>,
    direction: &'static str,
}

/// The counts of all targets. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    open: Family<TargetLabel, Gauge>,
    accepted: Family<TargetLabel, Counter>,
    reused: Family<TargetLabel, Counter>,
    refused: Family<AtStage, Counter>,
    ended: Family<Ended, Counter>,
    relayed: Family<Relayed, Counter>,
    connect: Family<TargetLabel, Histogram>,
    stages: Family<AtStage, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(CONNECT_BUCKETS);
        Self {
            open: Family::default(),
            accepted: Family::default(),
            reused: Family::default(),
            refused: Family::default(),
            ended: Family::default(),
            relayed: Family::default(),
            connect: Family::new_with_constructor(histogram),
            stages: Family::new_with_constructor(histogram),
        }
    }
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let Self { open, accepted, reused, refused, ended, relayed, connect, stages } = self.clone();
        registry.register(
            "rdsgate_connections_open",
            "Open client connections, including those still being made",
            open,
        );
        registry.register("rdsgate_connections_accepted", "Accepted client connections", accepted);
        registry.register(
            "rdsgate_connections_reused",
            "Logins that took over the connection of a client that had left",
            reused,
        );
        registry.register("rdsgate_connections_refused", "Client connections refused, by stage", refused);
        registry.register(
            "rdsgate_connections_ended",
            "Connections ended after their login, by side and reason",
            ended,
        );
        registry.register_with_unit(
            "rdsgate_relayed",
            "Bytes relayed after the login, by direction",
            Unit::Bytes,
            relayed,
        );
        let help = "Time from accept to login";
        registry.register_with_unit("rdsgate_connect_duration", help, Unit::Seconds, connect);
        let help = "Duration of each connect stage";
        registry.register_with_unit("rdsgate_connect_stage_duration", help, Unit::Seconds, stages);
    }

    /// The counts of one target. Every series exists and is zero from the start, so that a first event shows as a change.
    pub fn for_target(&self, target: &Arc<str>, values: &LabelValues<'_>) -> Connections {
        let label = TargetLabel { target: Arc::clone(target) };
        let relayed = |direction| self.relayed.get_or_create_owned(&Relayed { target: Arc::clone(target), direction });
        let counts = Connections {
            open: self.open.get_or_create_owned(&label),
            accepted: self.accepted.get_or_create_owned(&label),
            reused: self.reused.get_or_create_owned(&label),
            sent: relayed("sent"),
            received: relayed("received"),
            connect: self.connect.get_or_create_owned(&label),
            target: Arc::clone(target),
            all: self.clone(),
        };
        for stage in values.stages {
            drop(self.refused.get_or_create(&counts.at(stage)));
            drop(self.stages.get_or_create(&counts.at(stage)));
        }
        for &(side, reason) in values.ends {
            drop(self.ended.get_or_create(&Ended { target: Arc::clone(target), side, reason }));
        }
        counts
    }
}

/// The values that labels can have.
#[derive(Debug, Clone, Copy)]
pub struct LabelValues<'a> {
    /// The stages of connecting.
    pub stages: &'a [&'static str],
    /// The ways a connection can end: side and reason.
    pub ends: &'a [(&'static str, &'static str)],
}

/// The counts of one target. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connections {
    target: Arc<str>,
    open: Gauge,
    accepted: Counter,
    reused: Counter,
    sent: Counter,
    received: Counter,
    connect: Histogram,
    all: Metrics,
}

impl Connections {
    /// Counts an accepted client connection. It counts as open until the returned guard is dropped.
    #[must_use = "the connection counts as open until this is dropped"]
    pub fn accepted(&self) -> Open {
        self.accepted.inc();
        self.open.inc();
        Open(self.open.clone())
    }

    /// The number of open client connections.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// Counts a client connection refused at `stage`.
    pub fn refused(&self, stage: &'static str) {
        self.all.refused.get_or_create(&self.at(stage)).inc();
    }

    /// Records a login, `took` after the client was accepted, and the duration of each stage.
    pub fn logged_in(&self, took: Duration, stages: impl IntoIterator<Item = (&'static str, Duration)>) {
        self.connect.observe(took.as_secs_f64());
        for (stage, took) in stages {
            self.all.stages.get_or_create(&self.at(stage)).observe(took.as_secs_f64());
        }
    }

    /// Counts a login that took over the connection of a client that had left.
    pub fn reused(&self) {
        self.reused.inc();
    }

    /// Counts bytes relayed from the client to the database.
    pub fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// Counts bytes relayed from the database to the client.
    pub fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Counts the end of a connection after its login.
    pub fn ended(&self, side: &'static str, reason: &'static str) {
        self.all.ended.get_or_create(&Ended { target: Arc::clone(&self.target), side, reason }).inc();
    }

    fn at(&self, stage: &'static str) -> AtStage {
        AtStage { target: Arc::clone(&self.target), stage }
    }
}

/// Held by a connection for as long as it is open.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    fn shown(metrics: &Metrics) -> String {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        text
    }

    fn orders(metrics: &Metrics) -> Connections {
        metrics
            .for_target(&"orders".into(), &LabelValues { stages: &["route", "login"], ends: &[("client", "closed")] })
    }

    #[test]
    fn connection_counts_as_open_while_its_guard_lives() {
        let metrics = Metrics::default();
        let orders = orders(&metrics);
        let (first, second) = (orders.accepted(), orders.accepted());
        assert_eq!(orders.open(), 2);
        drop(first);
        assert_eq!(orders.open(), 1);
        assert!(shown(&metrics).contains("rdsgate_connections_open{target=\"orders\"} 1\n"));
        drop(second);
        assert!(shown(&metrics).contains("rdsgate_connections_accepted_total{target=\"orders\"} 2\n"));
    }

    #[test]
    fn series_exist_before_their_first_event() {
        let metrics = Metrics::default();
        let orders = orders(&metrics);
        for line in [
            "rdsgate_connections_refused_total{target=\"orders\",stage=\"login\"} 0\n",
            "rdsgate_connections_ended_total{target=\"orders\",side=\"client\",reason=\"closed\"} 0\n",
            "rdsgate_relayed_bytes_total{target=\"orders\",direction=\"sent\"} 0\n",
            "rdsgate_connect_duration_seconds_count{target=\"orders\"} 0\n",
        ] {
            assert!(shown(&metrics).contains(line), "{line}{}", shown(&metrics));
        }
        orders.refused("login");
        orders.received(1000);
        orders.logged_in(Duration::from_millis(20), [("route", Duration::from_millis(5))]);
        for line in [
            "rdsgate_connections_refused_total{target=\"orders\",stage=\"login\"} 1\n",
            "rdsgate_relayed_bytes_total{target=\"orders\",direction=\"received\"} 1000\n",
            "rdsgate_connect_duration_seconds_bucket{le=\"0.01\",target=\"orders\"} 0\n",
            "rdsgate_connect_duration_seconds_bucket{le=\"0.025\",target=\"orders\"} 1\n",
            "rdsgate_connect_stage_duration_seconds_count{target=\"orders\",stage=\"route\"} 1\n",
        ] {
            assert!(shown(&metrics).contains(line), "{line}{}", shown(&metrics));
        }
    }
}
