//! The texts of the repository: its files, and the blocks of code in its documents.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A block of code in a document.
#[derive(Debug)]
pub(crate) struct Block {
    /// The word behind the fence, such as `sh`.
    pub(crate) language: String,
    /// The number of its fence.
    pub(crate) line: usize,
    /// The lines between the fences.
    pub(crate) text: String,
}

/// The blocks of code in a document of the repository.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(language), None) => {
                open = Some(Block { language: language.into(), line: number + 1, text: String::new() });
            }
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block does not end");
    blocks
}

/// The block that begins with these words.
pub(crate) fn block(page: &str, begins: &str) -> String {
    let found: Vec<Block> = blocks(page).into_iter().filter(|block| block.text.starts_with(begins)).collect();
    let [block] = &found[..] else { panic!("{page}: {} blocks begin with {begins:?}", found.len()) };
    block.text.clone()
}

/// The repository's files with this extension, below the root.
pub(crate) fn files(extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder of the repository") {
            let entry = entry.expect("a folder of the repository");
            let path = folder.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !name.starts_with('.') && !["target", "node_modules", "vectors"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path.display().to_string());
            }
        }
    }
    found.sort();
    found
}
