//! The checks while they run. A check that runs is a line with a spinner on the terminal's last rows; it is settled in place, and
//! printed for good when all checks before it have ended, so that a report is in the order of the checks.

use std::{collections::BTreeMap, io, io::IsTerminal as _};

use super::text::{Layout, headline};
use crate::{
    cli::{
        output::Output,
        progress::{self, Progress},
    },
    doctor::{Check, Event, Report, Stage},
    telemetry::log,
};

/// The columns of a report that is not on a terminal.
const PAGE: usize = 80;

/// The checks that have begun and are not printed yet.
pub(super) struct View {
    pub(super) layout: Layout,
    /// Whether lines are printed; for JSON there is only the terminal's.
    pub(super) prints: bool,
    running: BTreeMap<Check, Running>,
    /// The number of checks that are printed or were not made, in their order.
    next: usize,
    /// The checks that have ended.
    ended: Vec<Stage>,
}

struct Running {
    progress: Option<Progress>,
    stage: Option<Stage>,
}

impl View {
    pub(super) fn new(json: bool, verbose: bool) -> Self {
        let is_terminal = io::stdout().is_terminal() && progress::is_smart_terminal();
        let columns = if is_terminal { log::size(io::stdout()).0 } else { PAGE };
        let colour = is_terminal && log::colours_are_wanted();
        let layout = Layout { columns, cuts: is_terminal, colour, verbose };
        Self { layout, prints: !json, running: BTreeMap::new(), next: 0, ended: Vec::new() }
    }

    /// Shows what happened to a check.
    pub(super) fn show(&mut self, event: Event, output: &mut Output) {
        match event {
            Event::Started(check) => {
                let progress = Some(Progress::ranked(check.title(), check as usize));
                self.running.insert(check, Running { progress, stage: None });
            }
            Event::Settled(stage) => {
                let running = self.running.entry(stage.check).or_insert(Running { progress: None, stage: None });
                if let Some(progress) = &running.progress {
                    progress.settle(headline(&stage));
                }
                self.ended.push(stage.clone());
                running.stage = Some(stage);
                self.print(output);
            }
        }
    }

    /// Prints the checks before which none is missing.
    fn print(&mut self, output: &mut Output) {
        while let Some(check) = Check::ALL.get(self.next) {
            let Some(stage) = self.running.get_mut(check).and_then(|running| running.stage.take()) else { return };
            self.running.remove(check);
            self.next += 1;
            self.print_stage(&stage, output);
        }
    }

    /// The report as far as checks have ended.
    pub(super) fn so_far(&self) -> Report {
        let mut stages = self.ended.clone();
        stages.sort_by_key(|stage| stage.check);
        Report { stages }
    }

    /// Prints what is left, when no more events come.
    pub(super) fn finish(&mut self, output: &mut Output) {
        for (_, Running { progress, stage }) in std::mem::take(&mut self.running) {
            drop(progress);
            if let Some(stage) = stage {
                self.print_stage(&stage, output);
            }
        }
    }

    fn print_stage(&self, stage: &Stage, output: &mut Output) {
        let text = self.layout.settled(stage);
        if self.prints && !text.is_empty() {
            output.print(&text);
        }
    }
}
