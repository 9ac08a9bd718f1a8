//! The direct route, beside psql with TLS straight at the server: nothing but rdsgate lies between.

use std::time::Duration;

use crate::{
    Table,
    bed::{Bed, client},
    bulk::{copy_in, copy_out, measure, rows},
    median,
};

const CLIENTS: &str = "8";
const SECONDS: &str = "5";
const RUNS: usize = 3;

pub(crate) fn direct(bed: &Bed, table: &mut Table) {
    let gate = bed.direct();
    let (door, straight) = (gate.door(), bed.straight(bed.server.addr));
    let megabytes = 500;
    let rate = |took: Vec<Duration>| megabytes as f64 / median(took.iter().map(Duration::as_secs_f64).collect());

    let (ours, cpu) = measure(&gate, megabytes, RUNS, || copy_out(&door, megabytes));
    let theirs = rate((0..RUNS).map(|_| copy_out(&straight, megabytes)).collect());
    table.row(
        "direct route, COPY out, MB/s",
        format!("{ours:.0}"),
        format!("psql straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
        "stunnel 75 %, pgbouncer 71 %; goal 80 %",
    );
    table.row("CPU for 1 GB out, s", format!("{:.2}", cpu * 10.0), "", "stunnel 1.6, pgbouncer 2.0; goal 1.4");

    let file = rows(bed, megabytes);
    let (ours, cpu) = measure(&gate, megabytes, RUNS, || copy_in(bed, &door, &file));
    let theirs = rate((0..RUNS).map(|_| copy_in(bed, &straight, &file)).collect());
    table.row(
        "direct route, COPY in, MB/s",
        format!("{ours:.0}"),
        format!("psql straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
        "stunnel 98 %, pgbouncer 92 %; goal 80 %",
    );
    table.row("CPU for 1 GB in, s", format!("{:.2}", cpu * 10.0), "", "goal 1.4");

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
    let ours = median((0..RUNS).map(|_| transactions(&door)).collect());
    let theirs = median((0..RUNS).map(|_| transactions(&straight)).collect());
    table.row(
        "direct route, select 1 by 8 clients, a second",
        format!("{ours:.0}"),
        format!("pgbench straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
        "stunnel and pgbouncer 45-49 %; goal 55 %",
    );
}
