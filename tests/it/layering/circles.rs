//! Modules of one folder import each other in one direction only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Source, sources, word};

/// The name of a folder's own `mod.rs` among its modules.
const SELF: &str = "mod";

/// A path of names below the root of a crate.
type Path<'a> = Vec<&'a str>;

/// One source file as a module of its crate.
struct Module<'a> {
    /// The folder of the crate's sources: empty for the program, `crates/NAME/src` for another crate.
    root: &'a str,
    path: Path<'a>,
    code: &'a str,
}

impl<'a> Module<'a> {
    fn of(source: &'a Source) -> Self {
        let (root, rest) = match source.path.split_once("/src/") {
            Some((root, rest)) => (root, rest),
            None => ("", source.path.as_str()),
        };
        let mut path: Path<'_> = rest.trim_end_matches(".rs").split('/').collect();
        if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(last)) {
            path.pop();
        }
        Self { root, path, code: &source.code }
    }

    /// The paths that its code names, from the root of the crate. `own` are the modules inside it, which it may name alone.
    fn references(&self, own: &BTreeSet<&str>) -> Vec<Path<'a>> {
        let absolute = |path: &[&'a str]| -> Option<Path<'a>> {
            match path {
                ["crate", rest @ ..] => Some(rest.to_vec()),
                ["self", rest @ ..] => Some([&self.path, rest].concat()),
                ["super", ..] => {
                    let up = path.iter().take_while(|name| **name == "super").count();
                    let kept = self.path.len().checked_sub(up)?;
                    Some([self.path.get(..kept)?, path.get(up..)?].concat())
                }
                [first, ..] if own.contains(first) => Some([&self.path, path].concat()),
                _ => None,
            }
        };
        let imported = uses(self.code).into_iter().filter(|(is_public, _)| !is_public).map(|(_, path)| path);
        let named = statements(self.code).into_iter().flat_map(|(before, _)| inline(before, own));
        imported.chain(named).filter_map(|path| absolute(&path)).collect()
    }

    /// The names that it passes on from modules inside it.
    fn reexports(&self) -> BTreeMap<&'a str, &'a str> {
        let public = uses(self.code).into_iter().filter(|(is_public, _)| *is_public).map(|(_, path)| path);
        public.filter_map(|path| Some((*path.last()?, *path.iter().find(|name| **name != "self")?))).collect()
    }
}

/// Every path of every `use`, and whether it is passed on.
fn uses(code: &str) -> Vec<(bool, Path<'_>)> {
    let mut found = Vec::new();
    for (_, declaration) in statements(code) {
        if let Some((visibility, tree)) = declaration.split_once("use ") {
            expand(tree, &mut Vec::new(), &mut |path| found.push((visibility.starts_with("pub"), path)));
        }
    }
    found
}

/// The code between semicolons, each piece cut where a `use` begins in it.
fn statements(code: &str) -> Vec<(&str, &str)> {
    let begins = |line: &&str| line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ");
    let cut = |piece| {
        let line = str::lines(piece).map(str::trim_start).find(begins);
        piece.split_at(line.map_or(piece.len(), |line| offset(piece, line)))
    };
    code.split(';').map(cut).collect()
}

/// Where `part` begins in `text`, of which it is a slice.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// The paths of a tree such as `super::{a, b::{C, D as E}}`.
fn expand<'a>(tree: &'a str, before: &mut Path<'a>, found: &mut impl FnMut(Path<'a>)) {
    let (head, inner) = match tree.split_once('{') {
        Some((head, inner)) => (head, inner.rsplit_once('}').map(|(inner, _)| inner)),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let length = before.len();
    before.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()));
    match inner {
        None => found(before.clone()),
        Some(inner) => {
            let (mut depth, mut start) = (0, 0);
            for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        if !inner[start..at].trim().is_empty() {
                            expand(&inner[start..at], before, found);
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
    }
    before.truncate(length);
}

/// The paths in expressions and types: those that begin at the crate, above, or with a name of `own`.
fn inline<'a>(code: &'a str, own: &BTreeSet<&str>) -> Vec<Path<'a>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let begin = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |end| end + 1);
        let first = &before[begin..];
        let is_first = !before[..begin].ends_with("::");
        if is_first && (["crate", "super", "self"].contains(&first) || own.contains(first)) {
            let mut path = vec![first];
            let mut rest = &code[at..];
            while let Some(next) = rest.strip_prefix("::").map(word).filter(|next| !next.is_empty()) {
                path.push(next);
                rest = &rest["::".len() + next.len()..];
            }
            found.push(path);
        }
    }
    found
}

/// The modules of a folder that import each other in a circle.
fn circle<'a>(folder: &[&str], modules: &[&Module<'a>]) -> BTreeSet<&'a str> {
    let depth = folder.len();
    let children: BTreeSet<&str> = modules.iter().filter_map(|module| module.path.get(depth).copied()).collect();
    let own = modules.iter().find(|module| module.path.len() == depth);
    let reexports = own.map(|own| own.reexports()).unwrap_or_default();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in modules {
        let from = module.path.get(depth).copied().unwrap_or(SELF);
        let inside = if module.path.len() == depth { &children } else { &BTreeSet::new() };
        for path in module.references(inside) {
            let Some(name) = path.strip_prefix(folder).and_then(|rest| rest.first()).copied() else { continue };
            let to = match reexports.get(name) {
                _ if children.contains(name) => name,
                Some(child) if children.contains(child) => child,
                _ => SELF,
            };
            if to != from {
                edges.entry(from).or_default().insert(to);
            }
        }
    }
    let reaches_itself = |start: &&'a str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = vec![start];
        while let Some(module) = next.pop() {
            next.extend(edges.get(module).into_iter().flatten().filter(|to| seen.insert(to)));
        }
        seen.contains(start)
    };
    children.into_iter().chain([SELF]).filter(reaches_itself).collect()
}

#[test]
fn modules_of_a_folder_import_each_other_in_one_direction() {
    let sources = sources();
    let modules: Vec<Module<'_>> = sources.iter().filter(|source| source.path != "main.rs").map(Module::of).collect();
    let folders: BTreeSet<(&str, &[&str])> = modules
        .iter()
        .flat_map(|module| (0..module.path.len()).map(|depth| (module.root, &module.path[..depth])))
        // The modules of the program itself are in the table of layers.
        .filter(|(root, folder)| !(root.is_empty() && folder.is_empty()))
        .collect();
    assert!(folders.len() > 20, "{}", folders.len());
    let mut wrong = String::new();
    for (root, folder) in folders {
        let inside: Vec<&Module<'_>> =
            modules.iter().filter(|module| module.root == root && module.path.starts_with(folder)).collect();
        let circle = circle(folder, &inside);
        let name = [root].into_iter().filter(|root| !root.is_empty()).chain(folder.iter().copied());
        let name = name.collect::<Vec<_>>().join("/");
        if !circle.is_empty() {
            let _ = writeln!(wrong, "{name}: {circle:?}");
        }
    }
    assert!(wrong.is_empty(), "modules of one folder import each other in a circle\n{wrong}");
}

#[test]
fn circles_are_found_through_reexports_and_the_folder_itself() {
    let source = |path: &str, code: &str| Source { path: path.into(), code: code.into() };
    let find = |sources: &[Source]| {
        let modules: Vec<Module<'_>> = sources.iter().map(Module::of).collect();
        circle(&["x"], &modules.iter().collect::<Vec<_>>()).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let a = source("x/a.rs", "use super::{\n    b::{B, C as D},\n    e,\n};\n");
    let b = source("x/b/mod.rs", "use super::A;\n");
    let passed_on = source("x/mod.rs", "mod a;\nmod b;\npub use a::A;\n");
    assert_eq!(find(&[a, b, passed_on]), ["a", "b"]);
    let a = source("x/a.rs", "fn f() { super::g() }\n");
    let own = source("x/mod.rs", "fn g() { a::f() }\n");
    assert_eq!(find(&[a, own]), ["a", "mod"]);
    let a = source("x/a.rs", "use super::b::B;\n");
    let b = source("x/b.rs", "use crate::y::A;\n");
    let own = source("x/mod.rs", "pub use a::A;\nuse b::B;\n");
    assert_eq!(find(&[a, b, own]), Vec::<String>::new());
}
