use super::*;
use crate::local_connection::tests::target;

fn targets() -> Vec<Target> {
    let orders = target(Engine::Postgres, Some("app_user"), Some("orders_db"), "5432");
    let mut shop = target(Engine::Mysql, Some("it's \"me\" #1"), Some("<shop>"), "127.0.0.1:3307");
    shop.name = "shop".into();
    shop.guard.read_only = true;
    shop.guard.label = Some("PRODUCTION".into());
    vec![orders, shop]
}

fn exported(format: Format) -> String {
    text(format, &targets(), false).unwrap().0
}

#[test]
fn pgservice() {
    let expected = "[orders]\nhost=localhost\nport=5432\nuser=app_user\ndbname=orders_db\nsslmode=disable\n";
    assert_eq!(exported(Format::Pgservice), expected);
    let odd = target(Engine::Postgres, Some("a "), None, "5432");
    let error = text(Format::Pgservice, &[odd], false).unwrap_err();
    assert_eq!(error.to_string(), "the user \"a \" cannot be written as a line of pg_service.conf");
}

#[test]
fn control_characters_are_refused_in_every_format() {
    for format in <Format as ValueEnum>::value_variants() {
        for odd in ["a\nb", "a\u{1b}[2Jb", "a\u{202e}b"] {
            let engine = format.engine().unwrap_or(Engine::Postgres);
            let error = text(*format, &[target(engine, Some("app"), Some(odd), "5432")], false).unwrap_err();
            assert!(error.to_string().ends_with("cannot be written as a setting of another program"), "{error}");
        }
    }
}

#[test]
fn mycnf() {
    assert_eq!(
        exported(Format::Mycnf),
        "[client_shop]\nprotocol=tcp\nhost=127.0.0.1\nport=3307\nuser=\"it's \"me\" #1\"\n\
         [client-mariadb_shop]\nskip-ssl\nskip-ssl-verify-server-cert\n[mysql_shop]\ndatabase=\"<shop>\"\n"
    );
}

#[test]
fn datagrip() {
    assert_eq!(
        exported(Format::Datagrip),
        "#DataSourceSettings#\n\
         #LocalDataSource: orders\n#BEGIN#\n<data-source source=\"LOCAL\" name=\"orders\" \
         uuid=\"ORDERS\"><database-info product=\"\" version=\"\" jdbc-version=\"\" driver-name=\"\" \
         driver-version=\"\" dbms=\"POSTGRES\"/><driver-ref>postgresql</driver-ref><synchronize>true</synchronize>\
         <jdbc-driver>org.postgresql.Driver</jdbc-driver>\
         <jdbc-url>jdbc:postgresql://localhost:5432/orders_db?user=app_user&amp;sslmode=disable</jdbc-url>\
         <secret-storage>master_key</secret-storage><auth-provider>no-auth</auth-provider><schema-mapping/>\
         <working-dir>$ProjectFileDir$</working-dir></data-source>\n#END#\n\n\
         #LocalDataSource: shop\n#BEGIN#\n<data-source source=\"LOCAL\" name=\"shop\" read-only=\"true\" \
         uuid=\"SHOP\"><database-info product=\"\" version=\"\" jdbc-version=\"\" driver-name=\"\" driver-version=\"\" \
         dbms=\"MYSQL\"/><driver-ref>mysql.8</driver-ref><synchronize>true</synchronize>\
         <jdbc-driver>com.mysql.cj.jdbc.Driver</jdbc-driver>\
         <jdbc-url>jdbc:mysql://127.0.0.1:3307/%3Cshop%3E?user=it%27s%20%22me%22%20%231&amp;sslMode=DISABLED</jdbc-url>\
         <secret-storage>master_key</secret-storage><auth-provider>no-auth</auth-provider><schema-mapping/>\
         <working-dir>$ProjectFileDir$</working-dir></data-source>\n#END#\n\n"
            .replace("ORDERS", &uuid(0))
            .replace("SHOP", &uuid(1))
    );
}

/// A target in every format, each time the same.
fn uuid(index: usize) -> String {
    let text = exported(Format::Datagrip);
    let found = text.split("uuid=\"").nth(index + 1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    assert_eq!(found.parse::<uuid::Uuid>().unwrap().get_version_num(), 8);
    found
}

#[test]
fn dbeaver() {
    let value: serde_json::Value = serde_json::from_str(&exported(Format::Dbeaver)).unwrap();
    assert_eq!(
        value,
        serde_json::json!({ "folders": {}, "connections": {
            format!("postgres-jdbc-{}", uuid(0)): {
                "provider": "postgresql", "driver": "postgres-jdbc", "name": "orders", "save-password": true,
                "read-only": false,
                "configuration": {
                    "host": "localhost", "port": "5432", "database": "orders_db", "user": "app_user",
                    "url": "jdbc:postgresql://localhost:5432/orders_db?user=app_user&sslmode=disable",
                    "configurationType": "MANUAL", "type": "dev", "properties": { "sslmode": "disable" },
                    "auth-model": "native",
                },
            },
            format!("mysql8-{}", uuid(1)): {
                "provider": "mysql", "driver": "mysql8", "name": "shop", "save-password": true, "read-only": true,
                "configuration": {
                    "host": "127.0.0.1", "port": "3307", "database": "<shop>", "user": "it's \"me\" #1",
                    "url": "jdbc:mysql://127.0.0.1:3307/%3Cshop%3E?user=it%27s%20%22me%22%20%231&sslMode=DISABLED",
                    "configurationType": "MANUAL", "type": "prod", "properties": { "sslMode": "DISABLED" },
                    "auth-model": "native",
                },
            },
        } })
    );
}

#[test]
fn vscode() {
    let value: serde_json::Value = serde_json::from_str(&exported(Format::Vscode)).unwrap();
    assert_eq!(
        value,
        serde_json::json!({ "sqltools.connections": [
            { "name": "orders", "driver": "PostgreSQL", "server": "localhost", "port": 5432, "username": "app_user",
              "database": "orders_db", "askForPassword": false, "password": "", "pgOptions": { "ssl": false } },
            { "name": "shop", "driver": "MySQL", "server": "127.0.0.1", "port": 3307, "username": "it's \"me\" #1",
              "database": "<shop>", "askForPassword": false, "password": "",
              "mysqlOptions": { "authProtocol": "default", "enableSsl": "Disabled" } },
        ] })
    );
}

#[test]
fn tableplus() {
    assert_eq!(
        exported(Format::Tableplus),
        "postgresql://app_user@localhost:5432/orders_db?statusColor=007F3D&env=local&name=orders&tLSMode=0&\
         usePrivateKey=false&safeModeLevel=0&advancedSafeModeLevel=0&driverVersion=0&lazyload=false\n\
         mysql://it%27s%20%22me%22%20%231@127.0.0.1:3307/%3Cshop%3E?statusColor=FC6A5D&env=production&name=shop&\
         tLSMode=0&usePrivateKey=false&safeModeLevel=0&advancedSafeModeLevel=0&driverVersion=0&lazyload=false\n"
    );
}

#[test]
fn target_that_cannot_be_exported_is_reported() {
    let only = &targets()[..1];
    let error = |format, targets: &[Target]| text(format, targets, true).unwrap_err().to_string();
    assert_eq!(error(Format::Mycnf, only), "no target is of the engine mysql");
    let any = target(Engine::Postgres, None, None, "0");
    assert_eq!(error(Format::Dbeaver, &[any]), "orders listens on a port that is not known before it runs");
    assert_eq!(text(Format::Pgservice, &targets(), true).unwrap().1, ["shop"]);
}

#[test]
fn pgadmin() {
    let servers: serde_json::Value = serde_json::from_str(&exported(Format::Pgadmin)).unwrap();
    let expected = serde_json::json!({
        "Name": "orders",
        "Group": "rdsgate",
        "Host": "localhost",
        "Port": 5432,
        "Username": "app_user",
        "MaintenanceDB": "orders_db",
        "ConnectionParameters": { "sslmode": "disable", "connect_timeout": 30 },
        "PasswordExecCommand": "echo x",
    });
    assert_eq!(servers, serde_json::json!({ "Servers": { "1": expected } }));
    let error = text(Format::Pgadmin, &[target(Engine::Postgres, None, None, "5432")], false).unwrap_err();
    assert_eq!(error.to_string(), "target orders has no user, which pgAdmin requires");
    let without_database = [target(Engine::Postgres, Some("app"), None, "5432")];
    assert!(text(Format::Pgadmin, &without_database, false).unwrap().0.contains("\"MaintenanceDB\": \"postgres\""));
}

#[test]
fn vscode_pgsql() {
    let settings: serde_json::Value = serde_json::from_str(&exported(Format::VscodePgsql)).unwrap();
    let [connection] = &settings["pgsql.connections"].as_array().unwrap()[..] else { panic!("{settings}") };
    for (key, value) in [
        ("profileName", "orders"),
        ("server", "localhost"),
        ("port", "5432"),
        ("user", "app_user"),
        ("database", "orders_db"),
        ("sslmode", "disable"),
    ] {
        assert_eq!(connection[key], value);
    }
    let group = &settings["pgsql.serverGroups"][0];
    assert_eq!((&group["name"], &group["id"]), (&"rdsgate".into(), &connection["groupId"]));
    group["id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
}

#[test]
fn workbench() {
    let text = exported(Format::Workbench);
    let root = crate::aws::xml::Element::parse(&text).unwrap();
    let connection = root.child("value").and_then(|list| list.child("value")).unwrap();
    assert!(connection.child("link").is_some());
    for expected in [
        "<value type=\"string\" key=\"hostIdentifier\">Mysql@127.0.0.1:3307</value>",
        "<value type=\"int\" key=\"port\">3307</value>",
        "<value type=\"string\" key=\"userName\">it's &quot;me&quot; #1</value>",
        "<value type=\"string\" key=\"schema\">&lt;shop&gt;</value>",
        "<value type=\"int\" key=\"useSSL\">0</value>",
        "<value type=\"string\" key=\"name\">shop</value>",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}
