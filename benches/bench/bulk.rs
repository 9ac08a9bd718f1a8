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
/// Most bytes in a message, on either side (plugin and agent `config.go`, StreamDataPayloadSize).
const PAYLOAD: usize = 1024;
const RUNS: usize = 3;

/// A file of the given number of megabytes for COPY.
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
    let took = psql_from(door, "copy sink from stdin", Some(file));
    let bytes = std::fs::metadata(file).expect("it was written").len();
    assert_eq!(bed.server.admin("select sum(length(line) + 1) from sink"), bytes.to_string());
    took
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

/// Data messages that the sessions have carried so far, to the agent and from it, each counted once.
pub(crate) fn messages(bed: &Bed) -> (u64, u64) {
    let sessions = bed.sandbox.sessions();
    sessions
        .iter()
        .fold((0, 0), |(up, down), session| (up + session.received - session.duplicates, down + session.sent))
}

/// Checks that the far side has seen the number of messages that the bytes require: a figure for another path would be worthless.
pub(crate) fn carried(count: u64, megabytes: usize, runs: usize) {
    let least = megabytes * MB * runs / PAYLOAD;
    assert!(usize::try_from(count).is_ok_and(|count| count >= least), "{count} messages, expected {least}");
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
            "official client 0.72, an unpaced one 32 with the real agent; goal 32",
            "official client 22.5, under load 35",
        ),
        (
            "upload, 20 ms each way, MB/s",
            "CPU for 100 MB up, 20 ms, s",
            20,
            "official client 0.78, an unpaced one 18 with the real agent; goal 18",
            "official client 16.2",
        ),
    ] {
        bed.delay(Duration::from_millis(delay));
        let before = messages(bed).0;
        let (rate, cpu) = measure(&gate, megabytes, RUNS, || copy_in(bed, &gate.door(), &file));
        carried(messages(bed).0 - before, megabytes, RUNS);
        table.row(what, format!("{rate:.1}"), "", rate_note);
        table.row(cost, format!("{cpu:.2}"), "", cost_note);
    }
    bed.delay(Duration::ZERO);
}

pub(crate) fn download(bed: &Bed, table: &mut Table) {
    for (paced, megabytes, runs, what, cost, beside, rate_note, cost_note) in [
        (
            true,
            10,
            1,
            "download at the agent's pace, MB/s",
            "CPU for 100 MB down at that pace, s",
            "the agent sends 0.90",
            "official client 0.69 of the real agent's 0.75",
            "official client 11.9, under load 15",
        ),
        (
            false,
            100,
            RUNS,
            "download, an agent without its pauses, MB/s",
            "CPU for 100 MB down without pauses, s",
            "",
            "no real agent is so fast",
            "",
        ),
    ] {
        bed.sandbox.agent(|agent| agent.paced = paced);
        let gate = bed.through_bastion();
        psql(&gate.door(), "select 1");
        let before = messages(bed).1;
        let (rate, cpu) = measure(&gate, megabytes, runs, || copy_out(&gate.door(), megabytes));
        carried(messages(bed).1 - before, megabytes, runs);
        table.row(what, format!("{rate:.2}"), beside, rate_note);
        table.row(cost, format!("{cpu:.2}"), "", cost_note);
    }
}
