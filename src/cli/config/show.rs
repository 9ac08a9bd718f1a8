//! `rdsgate config show`: what counts, and why.

use std::fmt::Write as _;

use crate::config::{
    Kind,
    explain::{Explained, Table},
};

/// The tables as a TOML file, the origin of each value behind it.
pub(super) fn text(tables: &[Table]) -> String {
    let mut text = String::new();
    for table in tables {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", table.title);
        let lines: Vec<(String, String)> = table.values.iter().map(line).collect();
        let width = lines.iter().map(|(setting, _)| setting.chars().count()).max().unwrap_or_default();
        for (setting, origin) in lines {
            let _ = writeln!(text, "{setting:width$}  # {origin}");
        }
    }
    text
}

fn line(explained: &Explained) -> (String, String) {
    let Explained { key, value, origin, withheld } = explained;
    let setting = match value {
        Some(value) => format!("{} = {}", key.name(), written(key.kind(), value)),
        None => format!("# {}", key.name()),
    };
    let origin = match (origin, value) {
        (Some(origin), _) => origin.describe(*key),
        (None, Some(_)) => "default".into(),
        (None, None) => "not set".into(),
    };
    let withheld = withheld.as_ref().map(|at| format!("; {} is not trusted yet", at.describe(*key)));
    let origin = origin + &withheld.unwrap_or_default();
    (setting, origin)
}

fn written(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Port | Kind::Count | Kind::Size | Kind::Boolean => value.to_owned(),
        Kind::Text | Kind::Word(_) | Kind::File | Kind::Duration | Kind::Listen | Kind::Admin | Kind::List(_) => {
            toml::Value::from(value).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Key,
        origin::{Location, Origin},
    };

    #[test]
    fn origins_stand_in_a_column_behind_the_values() {
        let at = Location { path: ".rdsgate.toml".into(), line: 3, column: 8 };
        let explained = |key, value: Option<&str>, origin| Explained {
            key,
            value: value.map(str::to_owned),
            origin,
            withheld: None,
        };
        let table = Table {
            title: "[targets.orders]".into(),
            values: vec![
                explained(Key::Port, Some("5432"), None),
                explained(Key::User, Some("a\"b"), Some(Origin::File(at))),
                explained(Key::Database, None, None),
                explained(Key::CaFile, Some("x"), Some(Origin::Flag)),
                explained(Key::Profile, Some("dev"), Some(Origin::Variable("RDSGATE_PROFILE".into()))),
            ],
        };
        let text = text(&[table.clone(), table]);
        let half = "[targets.orders]\n\
                    port = 5432      # default\n\
                    user = 'a\"b'     # .rdsgate.toml:3:8\n\
                    # database       # not set\n\
                    ca_file = \"x\"    # --ca-file\n\
                    profile = \"dev\"  # RDSGATE_PROFILE\n";
        assert_eq!(text, format!("{half}\n{half}"));
    }
}
