//! Properties that hold for any text of a configuration file. The function is the body of a fuzz target (`fuzz/`) and of a
//! property test below. It panics if a property is violated.

use std::path::{Path, PathBuf};

use super::{error::Error, file::File, origin::Whose};

/// A file is read or refused, and an error about its syntax names a line and a column that it has. A target in a file that is
/// read can be found by its name. A project's file is never taken where the same text is refused as the user's own.
pub fn reads_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let path = Path::new("/project/rdsgate.toml");
    let read = |whose| File::parse(path.to_owned(), PathBuf::from("rdsgate.toml"), &text, whose);
    let (own, project) = (read(Whose::Own), read(Whose::Project));
    assert!(project.is_err() || own.is_ok());
    match own {
        Ok(file) => assert!(file.target_names().all(|name| !name.is_empty() && file.target(name).is_some())),
        Err(Error::Syntax { at, .. }) => {
            assert!((1..=text.split('\n').count()).contains(&at.line), "line {}", at.line);
            assert!(at.column >= 1);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// Pieces of files, in any order.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = select(vec![
            "[defaults]\n",
            "[targets.a]\n",
            "[targets.\"b c\"]\n",
            "[[targets]]\n",
            "[other]\n",
            "host = \"a.c1abcdefghij.eu-central-1.rds.amazonaws.com\"\n",
            "host = \"a:1\"\n",
            "port = 5432\n",
            "port = \"5432\"\n",
            "listen = 5433\n",
            "listen = \"localhost:5433\"\n",
            "role_arn = [\"arn:aws:iam::123456789012:role/a\"]\n",
            "document_parameters = []\n",
            "mfa_command = \"true\"\n",
            "read_only = true\n",
            "statement_timeout = \"5s\"\n",
            "bastoin = \"i-0123456789abcdef0\"\n",
            "max_sessions = 99999999999999999999\n",
            "a.b = { c = 1 }\n",
            "# text\n",
            "\u{e4} = 1\n",
            "\\",
            "\"",
            "=",
            "\n",
            "\u{feff}",
        ]);
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn files_are_read_or_refused(text in pieces(), noise in vec(any::<u8>(), 0..100)) {
            reads_files(text.as_bytes());
            reads_files(&noise);
        }
    }
}
