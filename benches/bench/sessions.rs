//! Several connections at once, over several sessions.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    Table,
    bed::{Bed, Gate, client, psql, psql_from},
    bulk::{MB, ROW, copy_out, rows},
    latency::first_row,
};

const DELAYS: [u64; 2] = [0, 20];
/// The rate of an agent of the sandbox in a session at the pace of the real one, MB/s.
const PACE: f64 = 0.90;
/// Of each of the tables that are dumped: so much that reading the catalogue, which cannot be shared out, counts little.
const DUMPED: usize = 8;

pub(crate) fn sessions(bed: &Bed, table: &mut Table) {
    bed.sandbox.agent(|agent| agent.paced = true);
    dump(bed, table);
    for delay in DELAYS {
        bed.delay(Duration::from_millis(delay));
        let gate = bed.through_bastion();
        beside(bed, &gate, delay, table);
        for (connections, megabytes) in [(1, 6), (4, 12), (16, 4)] {
            let door = gate.door();
            let rate = at_once(connections, megabytes, |megabytes| copy_out(&door, megabytes));
            let sessions = open(bed).min(connections) as f64;
            table.row(
                format!("download by {connections} at the agent's pace, {delay} ms each way, MB/s"),
                format!("{rate:.2}"),
                format!("the agents send {:.2} ({:.0} %)", sessions * PACE, 100.0 * rate / (sessions * PACE)),
                "official client 0.69 whatever their number; goal 95 %",
            );
        }
    }
    bed.sandbox.agent(|agent| agent.paced = false);
    for delay in DELAYS {
        bed.delay(Duration::from_millis(delay));
        let gate = bed.through_bastion();
        for (connections, megabytes) in [(1, 100), (4, 25), (16, 6)] {
            let file = rows(bed, megabytes);
            let (before, door) = (gate.cpu(), gate.door());
            let rate = at_once(connections, megabytes, |_| psql_from(&door, "copy sink from stdin", Some(&file)));
            let cost = (gate.cpu() - before) * 100.0 / (connections * megabytes) as f64;
            table.row(
                format!("upload by {connections}, {delay} ms each way, MB/s"),
                format!("{rate:.1}"),
                format!("CPU for 100 MB {cost:.2} s"),
                "official client 0.72 whatever their number, 22.5 s",
            );
        }
        bed.server.admin("truncate sink");
    }
    bed.delay(Duration::ZERO);
}

/// `pg_dump` alone and with four helpers.
fn dump(bed: &Bed, table: &mut Table) {
    for part in 1..=4 {
        bed.server.admin(&format!(
            "create unlogged table part{part} as select repeat('x', {}) line from generate_series(1, {})",
            ROW - 1,
            DUMPED * MB / ROW
        ));
        bed.server.admin(&format!("alter table part{part} owner to app_user"));
    }
    let gate = bed.through_bastion();
    psql(&gate.door(), "select 1");
    let [alone, four] = [1, 4].map(|jobs| {
        let folder = bed.scratch.path().join(format!("dump-{jobs}"));
        let mut command = client("pg_dump", &gate.door());
        command.args(["-t", "part*", "-Fd", "-Z0", &format!("-j{jobs}"), "-f"]).arg(&folder);
        let started = Instant::now();
        assert!(command.status().expect("pg_dump is installed").success(), "pg_dump failed");
        (4 * DUMPED) as f64 / started.elapsed().as_secs_f64()
    });
    table.row(
        "pg_dump -j 4 at the agent's pace, MB/s",
        format!("{four:.2}"),
        format!("pg_dump -j 1 {alone:.2} ({:.1} times)", four / alone),
        "goal 3.8 times",
    );
    for part in 1..=4 {
        bed.server.admin(&format!("drop table part{part}"));
    }
}

/// The first row of a new connection while another one downloads.
fn beside(bed: &Bed, gate: &Gate, delay: u64, table: &mut Table) {
    let idle = first_row(&gate.door());
    let _download = Download::start(gate);
    // A session is opened as soon as the only one is busy.
    let spare = bed.sandbox.until(|sessions| sessions.iter().filter(|session| session.ended.is_none()).count() > 1);
    bed.runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), spare).await })
        .expect("a spare session");
    let busy = first_row(&gate.door());
    table.row(
        format!("psql to its first row beside a download, {delay} ms each way, ms"),
        format!("{busy:.0}"),
        format!("without it {idle:.0} ({:.2} times)", busy / idle),
        "100 to 420 later on one session; goal 2 times",
    );
}

/// Sessions that live.
fn open(bed: &Bed) -> usize {
    bed.sandbox.sessions().iter().filter(|session| session.ended.is_none()).count()
}

/// Megabytes a second of the given number of connections together.
fn at_once(connections: usize, megabytes: usize, work: impl Fn(usize) -> Duration + Sync) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| work(megabytes));
        }
    });
    (connections * megabytes) as f64 / started.elapsed().as_secs_f64()
}

/// A psql that downloads until it is dropped.
struct Download(Child);

impl Download {
    fn start(gate: &Gate) -> Self {
        let mut command: Command = client("psql", &gate.door());
        command.args(["-XAtq", "-c", "copy (select repeat('x', 999) from generate_series(1, 10000000)) to stdout"]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql is installed"))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
