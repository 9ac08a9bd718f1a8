//! The direct route, beside psql with TLS straight at the server: nothing but rdsgate lies between.

use std::{path::PathBuf, time::Duration};

use crate::{
    Table,
    bed::{Bed, client},
    bulk::{copy_in, copy_out, measure, rows},
    median,
};

const CLIENTS: &str = "8";
const SECONDS: &str = "5";
const RUNS: usize = 3;
const MEGABYTES: usize = 500;

/// Copies the given number of megabytes one way.
type Copy = fn(&Bed, &[(String, String)], &PathBuf) -> Duration;

pub(crate) fn direct(bed: &Bed, table: &mut Table) {
    let gate = bed.direct();
    let (door, straight) = (gate.door(), bed.straight(bed.server.addr));
    let file = rows(bed, MEGABYTES);
    let ways: [(&str, Copy, &str, &str); 2] = [
        (
            "out",
            |_, door, _| copy_out(door, MEGABYTES),
            "stunnel 75 %, pgbouncer 71 %; goal 80 %",
            "stunnel 1.6, pgbouncer 2.0; goal 1.4",
        ),
        ("in", copy_in, "stunnel 98 %, pgbouncer 92 %; goal 80 %", "goal 1.4"),
    ];
    for (way, copy, rate_note, cost_note) in ways {
        let (mut ours, mut theirs, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        // In turns, so that what else the machine does weighs on both.
        for _ in 0..RUNS {
            let (rate, cpu) = measure(&gate, MEGABYTES, 1, || copy(bed, &door, &file));
            ours.push(rate);
            costs.push(cpu * 10.0);
            theirs.push(MEGABYTES as f64 / copy(bed, &straight, &file).as_secs_f64());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        table.row(
            format!("direct route, COPY {way}, MB/s"),
            format!("{ours:.0}"),
            format!("psql straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
            rate_note,
        );
        table.row(format!("CPU for 1 GB {way}, s"), format!("{:.2}", median(costs)), "", cost_note);
    }

    let script = bed.scratch.path().join("select.sql");
    std::fs::write(&script, "select 1;\n").expect("the scratch folder can be written");
    let transactions = |door: &[(String, String)]| {
        let mut pgbench = client("pgbench", door);
        pgbench.args(["-n", "-c", CLIENTS, "-j", "2", "-T", SECONDS, "-f"]).arg(&script);
        let output = pgbench.output().expect("pgbench is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let figure = text.lines().find_map(|line| line.strip_prefix("tps = ")).expect("pgbench counts");
        figure.split(' ').next().and_then(|figure| figure.parse::<f64>().ok()).expect("a number")
    };
    let (ours, theirs) = (0..RUNS).map(|_| (transactions(&door), transactions(&straight))).unzip();
    let (ours, theirs) = (median(ours), median(theirs));
    table.row(
        "direct route, select 1 by 8 clients, a second",
        format!("{ours:.0}"),
        format!("pgbench straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
        "stunnel and pgbouncer 45-49 %; goal 55 %",
    );
}
