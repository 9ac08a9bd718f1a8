//! MariaDB: what compression between us and the server is worth on a session, and the direct route beside its command line
//! with TLS straight at the server.

use std::{
    io::{copy, sink},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    Table,
    bed::{Bed, Gate, client},
    bulk::{MB, ROW, carried, measure, messages},
    median,
    servers::Engine,
};

const RUNS: usize = 3;
/// Through the session.
const SELECTED: usize = 50;
/// On the direct route.
const MEGABYTES: usize = 500;

/// Rows as an application has them, of about 150 bytes: numbers, times, names, a few states, words, and a reference that
/// does not compress. Random from a seed, so that every run has the same.
const ORDERS: &str = "create table orders as select
    seq as id,
    date_add('2024-01-01', interval floor(rand(1) * 50000000) second) as placed,
    concat(@first := elt(1 + floor(rand(2) * 8), 'Anna', 'Bruno', 'Clara', 'David', 'Emilia', 'Farid', 'Greta', 'Henri'), ' ',
        elt(1 + floor(rand(3) * 8), 'Schmidt', 'Fischer', 'Rossi', 'Nguyen', 'Kowalski', 'Silva', 'Janssen', 'Yilmaz')) as customer,
    concat(lower(@first), '.', floor(rand(4) * 1000000), '@example.com') as email,
    elt(1 + floor(rand(5) * 4), 'new', 'paid', 'shipped', 'returned') as status,
    round(rand(6) * 5000, 2) as amount,
    left(sha1(rand(7)), 24) as reference,
    concat_ws(' ',
        elt(1 + floor(rand(8) * 6), 'leave at', 'ring twice at', 'call before', 'hand over at', 'gift for', 'return to'),
        elt(1 + floor(rand(9) * 6), 'the door', 'the neighbour', 'the office', 'the shop', 'the back yard', 'the gate'),
        elt(1 + floor(rand(10) * 6), 'please', 'in the morning', 'after six', 'on Saturday', 'with the invoice', 'thank you')) as note
    from seq_1_to_600000";

/// The command line's way to the server: arguments, and values that may stand in the environment only.
struct Door {
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

impl Door {
    fn of(gate: &Gate) -> Self {
        let port = gate.address().port();
        Self { arguments: vec!["-h127.0.0.1".into(), format!("-P{port}"), "--skip-ssl".into()], env: vec![] }
    }

    fn straight(bed: &Bed) -> Self {
        let arguments = vec![
            // Its certificate names that too.
            "-hlocalhost".into(),
            "--protocol=tcp".into(),
            format!("-P{}", bed.server.addr.port()),
            format!("--ssl-ca={}", bed.server.ca.display()),
            "--ssl-verify-server-cert".into(),
        ];
        Self { arguments, env: vec![("MYSQL_PWD".into(), bed.token())] }
    }

    /// How long the command line takes for `sql`, and how many bytes it prints.
    fn select(&self, sql: &str) -> (Duration, u64) {
        let mut mariadb = client("mariadb", &self.env);
        mariadb.args(["--no-defaults", "--quick", "-BN", "-uapp_user", "-Dappdb", "-e", sql]).args(&self.arguments);
        let started = Instant::now();
        let mut child = mariadb.stdout(Stdio::piped()).spawn().expect("mariadb is installed");
        let printed = copy(child.stdout.as_mut().expect("it is piped"), &mut sink()).expect("it is read to its end");
        let status = child.wait().expect("it was started");
        assert!(status.success(), "mariadb failed at {sql}");
        (started.elapsed(), printed)
    }

    /// The same for the given number of megabytes, within the length of a row.
    fn select_of(&self, sql: &str, megabytes: usize) -> Duration {
        let (took, printed) = self.select(sql);
        let expected = megabytes * MB;
        let near = usize::try_from(printed).is_ok_and(|printed| printed.abs_diff(expected) < MB);
        assert!(near, "{printed} bytes, expected {expected}");
        took
    }
}

pub(crate) fn mysql(_postgres: &Bed, table: &mut Table) {
    let bed = Bed::of(Engine::MariaDb, vec![]);
    direct(&bed, table);
    compression(&bed, table);
}

fn compression(bed: &Bed, table: &mut Table) {
    bed.server.admin(ORDERS);
    // As many rows as make the megabytes, by what the columns print and what stands between them.
    let bytes = bed.server.admin(
        "select avg(length(concat_ws('-', id, placed, customer, email, status, amount, reference, note)) + 1) from orders",
    );
    let rows = (SELECTED * MB) as f64 / bytes.parse::<f64>().expect("a number");
    let sql = format!("select * from orders limit {rows:.0}");

    bed.sandbox.agent(|agent| agent.paced = true);
    let [(plain, plain_cpu), (auto, auto_cpu)] = ["off", "auto"].map(|compress| {
        let gate = bed.through_bastion_with(&["--compress", compress]);
        let door = Door::of(&gate);
        door.select("select 1");
        let before = messages(bed).1;
        let measured = measure(&gate, SELECTED, 1, || door.select_of(&sql, SELECTED));
        if compress == "off" {
            carried(messages(bed).1 - before, SELECTED, 1);
        }
        measured
    });
    table.row(
        "MariaDB, 50 MB of rows at the agent's pace, MB/s",
        format!("{auto:.2}"),
        format!("uncompressed {plain:.2} ({:.1} times)", auto / plain),
        "goal 3 times",
    );
    table.row("CPU for 100 MB of rows so, s", format!("{auto_cpu:.2}"), format!("uncompressed {plain_cpu:.2}"), "");
}

fn direct(bed: &Bed, table: &mut Table) {
    let gate = bed.direct();
    let (door, straight) = (Door::of(&gate), Door::straight(bed));
    let sql = format!("select repeat('x', {}) from seq_1_to_{}", ROW - 1, MEGABYTES * MB / ROW);
    let (mut ours, mut theirs, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    // In turns, so that what else the machine does weighs on both.
    for _ in 0..RUNS {
        let (rate, cpu) = measure(&gate, MEGABYTES, 1, || door.select_of(&sql, MEGABYTES));
        ours.push(rate);
        costs.push(cpu * 10.0);
        theirs.push(MEGABYTES as f64 / straight.select_of(&sql, MEGABYTES).as_secs_f64());
    }
    let (ours, theirs) = (median(ours), median(theirs));
    table.row(
        "direct route, MariaDB's SELECT, MB/s",
        format!("{ours:.0}"),
        format!("mariadb straight {theirs:.0} ({:.0} %)", 100.0 * ours / theirs),
        "PostgreSQL's goal 80 %",
    );
    table.row("CPU for 1 GB of it, s", format!("{:.2}", median(costs)), "", "PostgreSQL's goal 1.4");
}
