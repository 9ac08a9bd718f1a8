//! The address of each target in the forms that programs take, for the page.

use super::{
    page::Form,
    view::{Served, View},
};
use crate::{
    listen::Local,
    local_connection::{Connection, ide},
};

/// The forms of each served target, or the reason why they cannot be written.
pub(super) fn of(view: &View) -> Vec<Result<Vec<Form>, String>> {
    view.served().iter().map(forms).collect()
}

fn forms(served: &Served) -> Result<Vec<Form>, String> {
    let service = served.service.get();
    let target = service.upstream.target();
    let connection = Connection::new(target, served.listeners.iter().find_map(Local::tcp));
    connection.must_be_printable("a connection string").map_err(|error| error.to_string())?;
    let form = |name, text| Form { name, use_as: None, text };
    Ok(vec![
        form(connection.program(), connection.command()),
        form("URL", connection.uri()),
        form("JDBC", connection.jdbc()),
        form("SQLAlchemy", connection.sqlalchemy()),
        Form { name: "DBeaver", use_as: Some("data-sources.json of a project"), text: ide::dbeaver(&[connection]) },
    ])
}
