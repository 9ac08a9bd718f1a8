//! Bulk through a session: COPY in and out.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    time::Duration,
};

use crate::{
    Table,
    bed::{Bed, Gate, psql, psql_from},
    median,
};

/// Characters of a row, with its end.
pub(crate) const ROW: usize = 1000;
pub(crate) const MB: usize = 1_000_000;
const RUNS: usize = 3;

/// A file of so many megabytes for COPY.
pub(crate) fn rows(bed: &Bed, megabytes: usize) -> PathBuf {
    let path = bed.scratch.path().join(format!("rows-{megabytes}"));
    let mut file = BufWriter::new(std::fs::File::create(&path).expect("the scratch folder can be written"));
    for n in 0..megabytes * MB / ROW {
        writeln!(file, "{n:0>width$}", width = ROW - 1).expect("there is room");
    }
    file.flush().expect("there is room");
    path
}

pub(crate) fn copy_in(bed: &Bed, door: &[(String, String)], file: &PathBuf) -> Duration {
    bed.server.admin("truncate sink");
    psql_from(door, "copy sink from stdin", Some(file))
}

pub(crate) fn copy_out(door: &[(String, String)], megabytes: usize) -> Duration {
    psql(
        door,
        &format!("copy (select repeat('x', {}) from generate_series(1, {})) to stdout", ROW - 1, megabytes * MB / ROW),
    )
}

/// Megabytes a second and CPU seconds for 100 MB, the middle of some runs.
pub(crate) fn measure(gate: &Gate, megabytes: usize, runs: usize, copy: impl Fn() -> Duration) -> (f64, f64) {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let before = gate.cpu();
        let took = copy().as_secs_f64();
        rates.push(megabytes as f64 / took);
        costs.push((gate.cpu() - before) * 100.0 / megabytes as f64);
    }
    (median(rates), median(costs))
}

pub(crate) fn upload(bed: &Bed, table: &mut Table) {
    let megabytes = 100;
    let file = rows(bed, megabytes);
    let gate = bed.through_bastion();
    psql(&gate.door(), "select 1");
    for (what, cost, delay, rate_note, cost_note) in [
        (
            "upload, no delay, MB/s",
            "CPU for 100 MB up, s",
            0,
            "official client 0.72, an unpaced one 32; goal 32",
            "official client 35",
        ),
        (
            "upload, 20 ms each way, MB/s",
            "CPU for 100 MB up, 20 ms, s",
            20,
            "official client 0.78, an unpaced one 18; goal 18",
            "official client 18",
        ),
    ] {
        bed.delay(Duration::from_millis(delay));
        let (rate, cpu) = measure(&gate, megabytes, RUNS, || copy_in(bed, &gate.door(), &file));
        table.row(what, format!("{rate:.1}"), "", rate_note);
        table.row(cost, format!("{cpu:.2}"), "", cost_note);
    }
    bed.delay(Duration::ZERO);
}

pub(crate) fn download(bed: &Bed, table: &mut Table) {
    {
        let gate = bed.through_bastion();
        let megabytes = 100;
        psql(&gate.door(), "select 1");
        let (rate, cpu) = measure(&gate, megabytes, RUNS, || copy_out(&gate.door(), megabytes));
        table.row("download, an agent without its pauses, MB/s", format!("{rate:.1}"), "", "no real agent is so fast");
        table.row("CPU for 100 MB down, s", format!("{cpu:.2}"), "", "official client 15");
    }
    bed.sandbox.agent(|agent| agent.paced = true);
    let gate = bed.through_bastion();
    let megabytes = 10;
    psql(&gate.door(), "select 1");
    let (rate, cpu) = measure(&gate, megabytes, 1, || copy_out(&gate.door(), megabytes));
    table.row(
        "download at the agent's pace, MB/s",
        format!("{rate:.2}"),
        "the agent sends 0.90",
        "official client 0.69 of the real agent's 0.75",
    );
    table.row("CPU for 100 MB down at that pace, s", format!("{cpu:.1}"), "", "official client 15");
    bed.sandbox.agent(|agent| agent.paced = false);
}
