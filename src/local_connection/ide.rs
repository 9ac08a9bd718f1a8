//! The settings of database panes.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Connection;
use crate::quote;

/// Data sources as JetBrains' IDEs put them on the clipboard ("Import from Clipboard").
pub fn datagrip(connections: &[Connection<'_>]) -> String {
    let mut text = String::from("#DataSourceSettings#\n");
    for connection in connections {
        let Some(client) = connection.client() else { continue };
        let [dbms, driver, class] = client.datagrip;
        let name = quote::xml(&connection.target.name);
        let read_only = if connection.target.guard.read_only { " read-only=\"true\"" } else { "" };
        let _ = write!(
            text,
            "#LocalDataSource: {name}\n#BEGIN#\n<data-source source=\"LOCAL\" name=\"{name}\"{read_only} uuid=\"{}\">\
             <database-info product=\"\" version=\"\" jdbc-version=\"\" driver-name=\"\" driver-version=\"\" dbms=\"{dbms}\"/>\
             <driver-ref>{driver}</driver-ref><synchronize>true</synchronize><jdbc-driver>{class}</jdbc-driver>\
             <jdbc-url>{}</jdbc-url><secret-storage>master_key</secret-storage><auth-provider>no-auth</auth-provider>\
             <schema-mapping/><working-dir>$ProjectFileDir$</working-dir></data-source>\n#END#\n\n",
            id(connection),
            quote::xml(&client.jdbc(&connection.address())),
        );
    }
    text
}

/// The file `data-sources.json` of a DBeaver project.
pub fn dbeaver(connections: &[Connection<'_>]) -> String {
    let mut all = Map::new();
    for connection in connections {
        let Some(client) = connection.client() else { continue };
        let [provider, driver] = client.dbeaver;
        let properties: Map<String, Value> =
            (client.jdbc_tls)(connection.ca()).into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let configuration = without_nulls(json!({
            "host": connection.host,
            "port": connection.port.to_string(),
            "database": connection.target.database,
            "user": connection.target.user,
            "url": client.jdbc(&connection.address()),
            "configurationType": "MANUAL",
            "type": if connection.target.guard.label.is_some() { "prod" } else { "dev" },
            "properties": properties,
            "auth-model": "native",
        }));
        let entry = json!({
            "provider": provider,
            "driver": driver,
            "name": &*connection.target.name,
            "save-password": true,
            "read-only": connection.target.guard.read_only,
            "configuration": configuration,
        });
        all.insert(format!("{driver}-{}", id(connection)), entry);
    }
    format!("{:#}\n", json!({ "folders": {}, "connections": all }))
}

/// The setting of the VS Code extension SQLTools.
pub fn vscode(connections: &[Connection<'_>]) -> String {
    let connection = |connection: &Connection<'_>| {
        let client = connection.client()?;
        let [driver, options] = client.sqltools;
        Some(without_nulls(json!({
            "name": &*connection.target.name,
            "driver": driver,
            "server": connection.host,
            "port": connection.port,
            "username": connection.target.user,
            "database": connection.target.database,
            "askForPassword": false,
            "password": "",
            options: (client.sqltools_options)(connection.ca()),
        })))
    };
    let connections: Vec<Value> = connections.iter().filter_map(connection).collect();
    format!("{:#}\n", json!({ "sqltools.connections": connections }))
}

/// The setting of Microsoft's VS Code extension for PostgreSQL.
pub fn vscode_pgsql(connections: &[Connection<'_>]) -> String {
    // One group of ours, the same each time.
    const GROUP: &str = "7d0c5f0e-6c1b-8a54-9a0e-726473676174";
    let connection = |connection: &Connection<'_>| {
        without_nulls(json!({
            "id": id(connection).to_string(),
            "groupId": GROUP,
            "profileName": &*connection.target.name,
            "server": connection.host,
            "port": connection.port.to_string(),
            "user": connection.target.user,
            "database": connection.target.database,
            "authenticationType": "SqlLogin",
            "password": "",
            "emptyPasswordInput": true,
            "savePassword": true,
            "sslmode": sslmode(connection),
            "sslrootcert": connection.ca(),
        }))
    };
    let connections: Vec<Value> = connections.iter().map(connection).collect();
    let groups = json!([{ "name": "rdsgate", "id": GROUP, "isDefault": false }]);
    format!("{:#}\n", json!({ "pgsql.serverGroups": groups, "pgsql.connections": connections }))
}

/// The file that pgAdmin imports (pgAdmin 4, "Import/Export Servers"). pgAdmin asks for a password at each connection unless a
/// command prints one; rdsgate ignores it.
pub fn pgadmin(connections: &[Connection<'_>]) -> String {
    let server = |(number, connection): (usize, &Connection<'_>)| {
        let Connection { target, host, port, .. } = connection;
        let database = target.database.as_deref().or(target.engine.facts().maintenance_database);
        let server = json!({
            "Name": &*target.name,
            "Group": "rdsgate",
            "Host": host,
            "Port": port,
            "Username": target.user,
            "MaintenanceDB": database,
            "ConnectionParameters": without_nulls(json!({
                "sslmode": sslmode(connection),
                "sslrootcert": connection.ca(),
                "connect_timeout": 30,
            })),
            "PasswordExecCommand": "echo x",
        });
        ((number + 1).to_string(), server)
    };
    let servers: Map<String, Value> = connections.iter().enumerate().map(server).collect();
    format!("{:#}\n", json!({ "Servers": servers }))
}

/// The file `connections.xml` of MySQL Workbench. `useSSL` 0 switches TLS off, 4 verifies the name.
pub fn workbench(connections: &[Connection<'_>]) -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?>\n<data grt_format=\"2.0\">\n  \
         <value type=\"list\" content-type=\"object\" content-struct-name=\"db.mgmt.Connection\">\n",
    );
    let value = |kind: &str, key: &str, value: &str| {
        format!("<value type=\"{kind}\" key=\"{key}\">{}</value>\n", quote::xml(value))
    };
    for connection in connections {
        let Connection { target, host, port, .. } = connection;
        let port = port.to_string();
        let _ = write!(
            text,
            "    <value type=\"object\" struct-name=\"db.mgmt.Connection\" id=\"{{{}}}\" struct-checksum=\"0x96ba47d8\">\n      \
             <link type=\"object\" struct-name=\"db.mgmt.Driver\" key=\"driver\">com.mysql.rdbms.mysql.driver.native</link>\n      \
             {}      <value type=\"dict\" key=\"parameterValues\">\n        {}        {}        {}        {}        {}{}      \
             </value>\n      {}    </value>\n",
            id(connection),
            value("string", "hostIdentifier", &format!("Mysql@{host}:{port}")),
            value("string", "hostName", host),
            value("int", "port", &port),
            value("string", "userName", target.user.as_deref().unwrap_or_default()),
            value("string", "schema", target.database.as_deref().unwrap_or_default()),
            value("int", "useSSL", if connection.ca().is_some() { "4" } else { "0" }),
            connection.ca().map(|ca| format!("        {}", value("string", "sslCA", ca))).unwrap_or_default(),
            value("string", "name", &target.name),
        );
    }
    text + "  </value>\n</data>\n"
}

/// A URL for each that TablePlus opens; `tLSMode` 0 switches TLS off, 2 requires it.
pub fn tableplus(connections: &[Connection<'_>]) -> String {
    let url = |connection: &Connection<'_>| {
        let uri = connection.uri();
        let uri = uri.split('?').next().unwrap_or_default();
        let production = connection.target.guard.label.is_some();
        let (colour, environment) = if production { ("FC6A5D", "production") } else { ("007F3D", "local") };
        let name = quote::percent(&connection.target.name);
        let tls = if connection.ca().is_some() { 2 } else { 0 };
        format!(
            "{uri}?statusColor={colour}&env={environment}&name={name}&tLSMode={tls}&usePrivateKey=false&safeModeLevel=0&\
             advancedSafeModeLevel=0&driverVersion=0&lazyload=false\n"
        )
    };
    connections.iter().map(url).collect()
}

/// The `sslmode` of libpq.
fn sslmode(connection: &Connection<'_>) -> &'static str {
    if connection.ca().is_some() { "verify-full" } else { "disable" }
}

/// Unknown values are left out.
fn without_nulls(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    object
}

/// The same id for the same target each time, so that an import replaces the one before: a UUID of version 8 (RFC 9562),
/// whose bits are ours to choose.
fn id(connection: &Connection<'_>) -> Uuid {
    let text = format!("{} {}", connection.target.name, connection.target.endpoint);
    // FNV-1a in 128 bits.
    let hash = text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}
