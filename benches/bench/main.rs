//! `make bench`: what rdsgate costs, beside what it replaces, in one run on one machine. Read the ratios.
//!
//! The real release program between psql and a real PostgreSQL (in `mysql`, MariaDB's command line and a real MariaDB) that
//! verifies tokens, AWS and the bastion emulated. What stands under "elsewhere" was measured on another day on a quiet
//! machine of two cores, and with the real agent, which takes more CPU than the emulated one: megabytes a second through a
//! session say what rdsgate can, not what AWS will. Groups can be chosen: `make bench GROUPS="upload direct"`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is its output")]
#![expect(clippy::cast_precision_loss, reason = "figures of three digits")]

mod bed;
mod bulk;
mod direct;
mod idle;
mod latency;
mod mysql;
#[path = "../../tests/it/support/servers.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod servers;
mod sessions;

use bed::Bed;

/// The rows so far.
#[derive(Default)]
struct Table(Vec<Row>);

struct Row {
    what: String,
    ours: String,
    beside: String,
    note: &'static str,
}

impl Table {
    /// A row: what was measured, rdsgate's figure, what it stands beside in this run, and figures from elsewhere.
    fn row(&mut self, what: impl Into<String>, ours: impl Into<String>, beside: impl Into<String>, note: &'static str) {
        let row = Row { what: what.into(), ours: ours.into(), beside: beside.into(), note };
        eprintln!("  {}: {}  {}", row.what, row.ours, row.beside);
        self.0.push(row);
    }

    fn print(&self) {
        let head = Row {
            what: "what".into(),
            ours: "rdsgate".into(),
            beside: "in the same run".into(),
            note: "elsewhere; goal",
        };
        let rows = || std::iter::once(&head).chain(&self.0);
        let width = |cell: fn(&Row) -> &str| rows().map(|row| cell(row).chars().count()).max().unwrap_or_default();
        let (what, ours) = (width(|row| &row.what), width(|row| &row.ours));
        let beside = width(|row| &row.beside);
        println!();
        for row in rows() {
            println!("{:what$}  {:>ours$}  {:beside$}  {}", row.what, row.ours, row.beside, row.note);
        }
    }
}

type Group = fn(&Bed, &mut Table);

const GROUPS: [(&str, Group); 9] = [
    ("connect", latency::connect),
    ("start", latency::start),
    ("upload", bulk::upload),
    ("download", bulk::download),
    ("sessions", sessions::sessions),
    ("direct", direct::direct),
    ("mysql", mysql::mysql),
    ("idle", idle::idle),
    ("token", latency::token),
];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = wanted.iter().find(|word| GROUPS.iter().all(|(name, _)| name != word)) {
        eprintln!("no group {unknown:?}; there are {}", GROUPS.map(|(name, _)| name).join(", "));
        std::process::exit(2);
    }
    let bed = Bed::start();
    let mut table = Table::default();
    for (name, run) in GROUPS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|word| word == name)) {
        eprintln!("{name}");
        run(&bed, &mut table);
    }
    table.print();
}

/// The middle one.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().expect("something was measured")
}
