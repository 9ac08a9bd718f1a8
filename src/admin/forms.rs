//! The address of each target in the forms that programs take, for the page.

use super::{
    page::Form,
    view::{Served, View},
};
use crate::local_connection::{Connection, Unwritable, ide};

/// The forms of each served target, or the reason why they cannot be written.
pub(super) fn of(view: &View) -> Vec<Result<Vec<Form>, String>> {
    view.served().iter().filter(|served| !served.is_over()).map(forms).collect()
}

fn forms(served: &Served) -> Result<Vec<Form>, String> {
    let service = served.service.get();
    let target = service.upstream.target();
    let connection = Connection::new(target, &served.listeners);
    connection.must_be_printable("a connection string").map_err(|error| error.to_string())?;
    let form = |name, text| Form { name, use_as: None, text };
    let (Some(program), Some(command)) = (connection.program(), connection.command()) else {
        return Ok(vec![form("Address", connection.authority())]);
    };
    let unwritable = |error: Unwritable| error.to_string();
    let mut forms = vec![form(program, command), form("URL", connection.uri())];
    // A unix socket cannot be written in every form.
    let by_tcp = connection.by_tcp("a connection string").ok();
    if let Some(by_tcp) = by_tcp {
        forms.push(form("JDBC", by_tcp.jdbc().map_err(unwritable)?));
    }
    forms.push(form("SQLAlchemy", connection.sqlalchemy().map_err(unwritable)?));
    if let Some(by_tcp) = by_tcp {
        let text = ide::dbeaver(&[by_tcp]);
        forms.push(Form { name: "DBeaver", use_as: Some("data-sources.json of a project"), text });
    }
    Ok(forms)
}
