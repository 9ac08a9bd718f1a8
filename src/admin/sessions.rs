//! Metrics of the SSM sessions, read from the pools at each scrape.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::{model::Condition, view::View};
use crate::tunnel::pool::{Pool, Stats};

/// Collects the sessions of every target that has a pool.
#[derive(Debug)]
pub(super) struct Sessions(pub(super) Arc<View>);

/// One metric, with a value for each target.
struct Metric {
    name: &'static str,
    help: &'static str,
    values: Values,
}

/// One value for each target, or several, distinguished by the label of this name.
enum Values {
    Gauge(fn(&Stats) -> u64),
    Gauges(&'static str, fn(&Stats) -> Vec<(&'static str, u64)>),
    Bytes(fn(&Stats) -> u64),
    Counter(fn(&Stats) -> u64),
    Counters(&'static str, fn(&Stats) -> Vec<(&'static str, u64)>),
    Seconds(fn(&Stats) -> Duration),
}

const METRICS: [Metric; 9] = [
    Metric {
        name: "rdsgate_sessions",
        help: "SSM sessions, by condition",
        values: Values::Gauges("condition", |stats| {
            let count = |condition| {
                stats.sessions.iter().filter(|session| Condition::of(session) == Some(condition)).count() as u64
            };
            let open = Condition::ALL.map(|condition| (condition.as_str(), count(condition)));
            open.into_iter().chain([("opening", stats.opening as u64)]).collect()
        }),
    },
    Metric {
        name: "rdsgate_session_streams",
        help: "Streams open in SSM sessions",
        values: Values::Gauge(|stats| stats.sessions.iter().map(|session| session.status.streams as u64).sum()),
    },
    Metric {
        name: "rdsgate_session_unread",
        help: "Bytes buffered for clients that have not read them",
        values: Values::Bytes(|stats| stats.sessions.iter().map(|session| session.status.unread as u64).sum()),
    },
    Metric {
        name: "rdsgate_sessions_opened",
        help: "SSM sessions opened",
        values: Values::Counter(|stats| stats.counts.opened),
    },
    Metric {
        name: "rdsgate_sessions_failed",
        help: "SSM sessions that failed to open",
        values: Values::Counter(|stats| stats.counts.failed),
    },
    Metric {
        name: "rdsgate_session_resumes",
        help: "Connections of SSM sessions lost and resumed",
        values: Values::Counter(|stats| stats.tally.resumes),
    },
    Metric {
        name: "rdsgate_session_stalls",
        help: "Stalls of SSM sessions caused by unread data",
        values: Values::Counter(|stats| stats.tally.stalls),
    },
    Metric {
        name: "rdsgate_session_stalled",
        help: "Time that SSM sessions were stalled by unread data",
        values: Values::Seconds(|stats| stats.tally.stalled),
    },
    Metric {
        name: "rdsgate_channel_anomalies",
        help: "Messages of SSM sessions not sent or received exactly once and in order, by kind",
        values: Values::Counters("kind", |stats| {
            let channel = stats.tally.channel;
            vec![
                ("retransmitted", channel.retransmitted),
                ("duplicate", channel.duplicates),
                ("out_of_order", channel.out_of_order),
                ("malformed", channel.malformed),
                ("dropped_full", channel.dropped_full),
            ]
        }),
    },
];

impl Collector for Sessions {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let served = self.0.served();
        let mut pools: Vec<(&str, &Pool)> = Vec::new();
        let services: Vec<_> = served.iter().map(|served| served.service.get()).collect();
        for upstream in services.iter().map(|service| &service.upstream) {
            // A shared pool counts once, for the first of its targets.
            let new = upstream.pool().filter(|pool| pools.iter().all(|(_, known)| !known.is(pool)));
            pools.extend(new.map(|pool| (upstream.target().name.as_ref(), pool)));
        }
        let targets: Vec<(&str, Stats)> = pools.into_iter().map(|(target, pool)| (target, pool.stats())).collect();
        for metric in METRICS {
            metric.encode(&mut encoder, &targets)?;
        }
        Ok(())
    }
}

impl Metric {
    fn encode(&self, encoder: &mut DescriptorEncoder, targets: &[(&str, Stats)]) -> Result<(), fmt::Error> {
        let (kind, unit) = match self.values {
            Values::Gauges(..) | Values::Gauge(_) => (MetricType::Gauge, None),
            Values::Bytes(_) => (MetricType::Gauge, Some(Unit::Bytes)),
            Values::Counters(..) | Values::Counter(_) => (MetricType::Counter, None),
            Values::Seconds(_) => (MetricType::Counter, Some(Unit::Seconds)),
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, unit.as_ref(), kind)?;
        for (target, stats) in targets {
            let own = [("target", *target)];
            match self.values {
                Values::Gauge(value) | Values::Bytes(value) => {
                    metric.encode_family(&own)?.encode_gauge(&value(stats))?;
                }
                Values::Counter(value) => {
                    metric.encode_family(&own)?.encode_counter::<NoLabelSet, _, f64>(&value(stats), None)?;
                }
                Values::Seconds(value) => {
                    let seconds = value(stats).as_secs_f64();
                    metric.encode_family(&own)?.encode_counter::<NoLabelSet, _, f64>(&seconds, None)?;
                }
                Values::Gauges(label, values) => {
                    for (word, value) in values(stats) {
                        metric.encode_family(&(own, [(label, word)]))?.encode_gauge(&value)?;
                    }
                }
                Values::Counters(label, values) => {
                    for (word, value) in values(stats) {
                        metric
                            .encode_family(&(own, [(label, word)]))?
                            .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}
