//! The whole output of a command and its exit code, beside a file of `tests/snapshots`.

use std::path::Path;

/// Compares; with `RDSGATE_WRITE_SNAPSHOTS` set it writes the file instead, for `git diff` to be read.
///
/// # Panics
/// When they differ.
#[track_caller]
pub(crate) fn snapshot(name: &str, code: i32, stdout: &str, stderr: &str) {
    let said = format!("{stdout}--- stderr\n{stderr}--- exit code {code}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("RDSGATE_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, said).expect("the repository can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(said, expected, "not as in {}; RDSGATE_WRITE_SNAPSHOTS=1 writes it", path.display());
}

/// The text with every word that `changes` replaced by its name.
pub(crate) fn masked(text: &str, changes: impl Fn(&str) -> Option<&'static str>) -> String {
    let word = |word: &str| changes(word).map_or_else(|| word.to_owned(), str::to_owned);
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n";
    text.lines().map(line).collect()
}
