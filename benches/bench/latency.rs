//! How long it takes to get somewhere.

use std::{
    hint::black_box,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use rdsgate::{aws::token, target::Endpoint};

use crate::{
    Table,
    bed::{Bed, Gate, psql},
    median,
};

const ONE_WAY: Duration = Duration::from_millis(20);
const TIMES: usize = 15;

/// Milliseconds that psql takes for its first row.
pub(crate) fn first_row(door: &[(String, String)]) -> f64 {
    psql(door, "select 1");
    median((0..TIMES).map(|_| psql(door, "select 1").as_secs_f64() * 1e3).collect())
}

/// psql at a delay and without: the difference is round trips, whatever starting psql costs.
pub(crate) fn connect(bed: &Bed, table: &mut Table) {
    let gate = bed.through_bastion();
    let ours_near = first_row(&gate.door());
    bed.delay(ONE_WAY);
    let ours_far = first_row(&gate.door());
    bed.delay(Duration::ZERO);
    let straight = |address: SocketAddr| first_row(&bed.straight(address));
    let (their_near, their_far) = (straight(bed.forward(Duration::ZERO)), straight(bed.forward(ONE_WAY)));
    let trips = |near: f64, far: f64| (far - near) / (2e3 * ONE_WAY.as_secs_f64());
    let (ours, theirs) = (trips(ours_near, ours_far), trips(their_near, their_far));
    table.row(
        "psql to its first row, no delay, ms",
        format!("{ours_near:.0}"),
        format!("psql verify-full through a plain port forward {their_near:.0}"),
        "",
    );
    table.row(
        "the same, 20 ms each way, ms",
        format!("{ours_far:.0}"),
        format!("psql verify-full through a plain port forward {their_far:.0} ({:.2}x)", ours_far / their_far),
        "",
    );
    table.row(
        "in round trips, the query's own included",
        format!("{ours:.1}"),
        format!("psql verify-full through a plain port forward {theirs:.1}"),
        "goal 3, and 1 for the query",
    );
}

/// From nothing: the process, a session, the first connection.
pub(crate) fn start(bed: &Bed, table: &mut Table) {
    let (mut ready, mut session, mut total) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        // Otherwise the session is there before the first connection is.
        let gate = bed.through_bastion_with(&["--warm-sessions", "0"]);
        ready.push(gate.ready_after.as_secs_f64() * 1e3);
        psql(&gate.door(), "select 1");
        let (route, all) = stages(&gate);
        session.push(route);
        total.push(all);
    }
    table.row(
        "start of the program to its ready line, ms",
        format!("{:.0}", median(ready)),
        "",
        "official client 226, with the session",
    );
    table.row("StartSession to a session that takes streams, ms", format!("{:.0}", median(session)), "", "");
    table.row(
        "first connection with its session, ms",
        format!("{:.0}", median(total)),
        "",
        "official client 226, then 12 (median) or 288 (90 %)",
    );
}

/// Of the first login: milliseconds for the route, and for all.
fn stages(gate: &Gate) -> (f64, f64) {
    let event = gate.event("logged in");
    let stages = event.get("stages_ms").and_then(|stages| stages.as_str()).expect("the log has them");
    let figure = |stage: &str| stage.split_once('=').and_then(|(_, took)| took.parse::<f64>().ok()).unwrap_or_default();
    let route = stages.split(", ").find(|stage| stage.starts_with("route")).map(figure);
    (route.expect("a route was taken"), stages.split(", ").map(figure).sum())
}

pub(crate) fn token(bed: &Bed, table: &mut Table) {
    const TOKENS: u32 = 20_000;
    let endpoint = Endpoint { host: crate::bed::RDS_HOST.parse().expect("a host"), port: 5432 };
    let region = bed.server.region.parse().expect("a region");
    for (what, session) in [("", None), (", session token of 1,000 characters", Some("x".repeat(1000)))] {
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", session, None, "bench");
        let now = SystemTime::now();
        let started = Instant::now();
        for _ in 0..TOKENS {
            black_box(
                token::sign(&endpoint, &region, "app_user", black_box(&credentials), now).expect("it can be signed"),
            );
        }
        let each = started.elapsed().as_secs_f64() * 1e6 / f64::from(TOKENS);
        table.row(format!("signing a token{what}, µs"), format!("{each:.1}"), "", "");
    }
}
