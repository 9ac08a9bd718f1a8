//! The guides (docs/guides): their very settings, for the programs that they are about, through rdsgate at real servers.

use std::fs;

use crate::support::{
    clients,
    desk::Desk,
    documents::block,
    gate::{BASTION, sandbox_with},
    servers::{Engine, PgServer, Server},
};

const TOOLS: &str = "docs/guides/tools.md";
const FRAMEWORKS: &str = "docs/guides/frameworks.md";
const MIGRATIONS: &str = "docs/guides/migrations.md";

/// Starts rdsgate for both databases and learns the ports, which are 5432 and 3306 in the guides.
const UP: &str = "rdsgate up >>log 2>>log & rdsgate wait orders; rdsgate wait shop\n\
    port_of() { rdsgate url $1 | sed 's,.*:\\([0-9]*\\)/.*,\\1,'; }\n\
    export PORT=$(port_of orders) SHOP_PORT=$(port_of shop)\n";

/// A person with a PostgreSQL, `orders`, and a MariaDB, `shop`.
async fn desk() -> Desk {
    let (orders, shop) = (PgServer::shared(), tokio::task::block_in_place(|| Server::shared_of(Engine::MariaDb)));
    let sandbox =
        sandbox_with(orders, |options| options.database(&shop.rds_host, shop.engine.rds_port(), shop.addr)).await;
    let desk = Desk::with(sandbox, orders);
    let target = |name: &str, server: &Server, engine: &str| {
        format!(
            "[targets.{name}]\nhost = \"{}\"\nengine = \"{engine}\"\nuser = \"app_user\"\ndatabase = \"appdb\"\n\
             bastion = \"{BASTION}\"\nca_file = \"{}\"\nlisten = \"localhost:0\"\n\n",
            server.rds_host,
            server.ca.display()
        )
    };
    desk.describe(orders, &(target("orders", orders, "postgres") + &target("shop", shop, "mysql")));
    desk
}

/// Settings or commands of a guide, for the databases of the tests at the ports that a shell knows.
fn adapted(text: &str) -> String {
    text.replace("orders_db", "appdb").replace("5432", "$PORT").replace("3306", "$SHOP_PORT")
}

/// Puts settings of a guide into a file of the desk, where a shell writes the ports into them.
fn write(desk: &Desk, settings: &str) {
    fs::write(desk.home.path().join("guide"), adapted(settings)).expect("the folder is ours");
}

const GUIDE: &str = "sed \"s/[$]PORT/$PORT/; s/[$]SHOP_PORT/$SHOP_PORT/\" guide";

#[tokio::test(flavor = "multi_thread")]
async fn django_and_sqlalchemy_connect_with_the_settings_of_their_guide() {
    let desk = desk().await;
    let python = tokio::task::block_in_place(clients::clients_python);
    let program = clients::source("python/guides.py");
    for (framework, begins) in [("django", "DATABASES = {"), ("sqlalchemy", "from sqlalchemy import")] {
        write(&desk, &block(FRAMEWORKS, begins));
        let said =
            desk.types(&format!("{UP}{GUIDE} | '{}' -B '{}' {framework}", python.display(), program.display())).await;
        assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sequelize_connects_with_the_settings_of_its_guide() {
    let desk = desk().await;
    let modules = tokio::task::block_in_place(clients::node_modules);
    write(&desk, &block(FRAMEWORKS, "const { Sequelize }"));
    let program = clients::source("node/guides.js");
    let said = desk
        .types(&format!("{UP}export NODE_PATH='{}'\n{GUIDE} | node '{}'", modules.display(), program.display()))
        .await;
    assert_eq!(said, "ok orders\nok shop");
}

#[tokio::test(flavor = "multi_thread")]
async fn command_lines_of_the_guide_open_a_prompt() {
    let desk = desk().await;
    let programs = tokio::task::block_in_place(clients::clients_python);
    let programs = programs.parent().expect("a file is in a folder").display();
    let postgres = adapted(&block(TOOLS, "psql -h localhost"));
    let [psql, pgcli] = postgres.lines().collect::<Vec<_>>()[..] else { panic!("{postgres}") };
    let mysql = adapted(&block(TOOLS, "mysql -h 127.0.0.1"));
    let lines = format!(
        "{UP}export PSQLRC=/dev/null PATH=\"{programs}:$PATH\" PAGER=cat\n{psql} -c \"select 'psql ' || current_user\"\n\
         {pgcli} -c \"select 'pgcli ' || current_user\"\n\
         {} --skip-ssl -e \"select concat('mysql ', substring_index(current_user(), '@', 1))\"",
        mysql.trim_end().replace("mysql ", "mariadb --no-defaults ")
    );
    let said = desk.types(&lines).await;
    for program in ["psql", "pgcli", "mysql"] {
        assert!(said.contains(&format!("{program} app_user")), "{program}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alembic_migrates_with_the_line_of_its_guide() {
    let desk = desk().await;
    let python = tokio::task::block_in_place(clients::clients_python);
    let programs = python.parent().expect("a file is in a folder").display();
    fs::write(desk.home.path().join("guide"), block(MIGRATIONS, "import os")).expect("the folder is ours");
    let commands = block(MIGRATIONS, "rdsgate run orders -- alembic upgrade head");
    let command = commands.lines().next().expect("it has lines");
    // In a schema of its own: all tests share the database.
    let own = format!("guide_{}", std::process::id());
    let said = desk
        .types(&format!(
            "export PATH=\"{programs}:$PATH\" PYTHONDONTWRITEBYTECODE=1 PSQLRC=/dev/null\n\
             rdsgate psql orders -qc 'create schema {own}'\n\
             export PGOPTIONS='-c search_path={own}'\n\
             alembic init migrations >>log 2>>log\n\
             sed -i '/^config = context.config/r guide' migrations/env.py\n\
             printf 'revision = \"one\"\\ndown_revision = None\\ndef upgrade(): pass\\n' >migrations/versions/one.py\n\
             {command} 2>>log\n\
             rdsgate psql orders -XAtqc 'select version_num from alembic_version' -c 'drop schema {own} cascade' 2>>log"
        ))
        .await;
    assert_eq!(said, "one");
}
