//! Text in columns, for people.

use std::{borrow::Cow, fmt::Write as _};

pub(super) use crate::telemetry::log::bytes;

/// Columns as wide as their widest cell, two spaces apart, behind `indent` spaces. A cell that is wider than `most` is cut; 0 cuts
/// nothing. Nothing stands behind the last column.
pub(super) fn table<const N: usize>(indent: usize, most: [usize; N], rows: &[[String; N]]) -> String {
    let cells: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().zip(most).map(|(cell, most)| cut(cell, most)).collect()).collect();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in &cells {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// At most `most` characters of a text, with a mark where it was cut. 0 cuts nothing.
pub(super) fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if most == 0 || text.chars().count() <= most {
        return text.into();
    }
    let mut kept: String = text.chars().take(most - 1).collect();
    kept.push('…');
    kept.into()
}

/// A length of time in at most six characters: `45s`, `12m`, `2h05m`, `3d04h`.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m"),
        () if days == 0 => format!("{hours}h{:02}m", minutes % 60),
        () => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let rows = [["A", "LONG"], ["1", "x"], ["two", "yyyyyyyyyy"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(2, [0, 6], &rows), "  A    LONG\n  1    x\n  two  yyyyy…\n");
        assert_eq!(table::<2>(0, [0, 0], &[]), "");
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7500, "2h05m"), (86_400 * 3 + 14_400, "3d04h")]
        {
            assert_eq!(age(seconds), text);
        }
    }
}
