//! tokio-postgres as a client inside the test: one that can be stopped at any byte, and whose end can be seen.

use std::{io, ops::Deref, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage,
    types::{FromSql, ToSql},
};

use super::{gate::Gate, gate::PATIENCE, servers::PgServer};

/// One connection; what its [`Client`] can do can be done with it.
pub(crate) struct Driver {
    client: Client,
    /// Notices and notifications.
    pub(crate) messages: mpsc::UnboundedReceiver<AsyncMessage>,
    ended: JoinHandle<Result<(), Error>>,
}

impl Deref for Driver {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Driver {
    /// Connects through the gate under a name that `pg_stat_activity` shows.
    pub(crate) async fn connect(gate: &Gate, name: &str) -> Result<Self, Error> {
        let door = gate.door();
        let mut config = Config::new();
        config.host(door.host).port(door.port).dbname(door.database).user(door.user).application_name(name);
        let (client, mut connection) = within("connect", config.connect(NoTls)).await?;
        let (sender, messages) = mpsc::unbounded_channel();
        let ended = tokio::spawn(async move {
            while let Some(message) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                // A test that does not look at messages has dropped nothing.
                let _ = sender.send(message?);
            }
            Ok(())
        });
        Ok(Self { client, messages, ended })
    }

    /// The same, for one that must succeed.
    pub(crate) async fn connected(gate: &Gate, name: &str) -> Self {
        Self::connect(gate, name).await.unwrap_or_else(|error| panic!("{name}: {}\n{}", error_text(&error), gate.log()))
    }

    /// The one value of a statement's one row.
    pub(crate) async fn value<T>(&self, sql: &str) -> T
    where
        T: for<'a> FromSql<'a>,
    {
        self.value_with(sql, &[]).await
    }

    /// The same of a statement with parameters.
    pub(crate) async fn value_with<T>(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> T
    where
        T: for<'a> FromSql<'a>,
    {
        let row = within(sql, self.client.query_one(sql, parameters)).await;
        row.unwrap_or_else(|error| panic!("{sql}: {}", error_text(&error))).get(0)
    }

    /// The first value that a statement gives by the simple protocol, after which nothing is left to be said: a prepared
    /// statement would still be closed.
    pub(crate) async fn simple(&self, sql: &str) -> String {
        let messages = within(sql, self.client.simple_query(sql)).await;
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {}", error_text(&error)));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        rows.map(str::to_owned).next().unwrap_or_default()
    }

    /// The server process behind the connection: the same as long as it is the same database connection.
    pub(crate) async fn pid(&self) -> i32 {
        self.simple("select pg_backend_pid()").await.parse().expect("a number")
    }

    /// Waits until the other side ends the connection, and returns its last error: SQLSTATE and message.
    pub(crate) async fn error_at_end(self) -> String {
        let ended = within("the end of the connection", self.ended).await.expect("the task does not panic");
        ended.map_or_else(|error| error_text(&error), |()| "nothing".into())
    }
}

/// The error that a client got: SQLSTATE and message of the server, or the driver's own message.
pub(crate) fn error_text(error: &Error) -> String {
    let by_server = error.as_db_error().map(|error| format!("{} {}", error.code().code(), error.message()));
    by_server.unwrap_or_else(|| {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
        format!("{error}: {cause:?}")
    })
}

/// Work that must not hang a test.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes longer than {PATIENCE:?}"))
}

/// Asks the server until its answer is as expected.
pub(crate) async fn until_server_says(server: &PgServer, sql: &str, expected: &str) {
    within(sql, async {
        while tokio::task::block_in_place(|| server.admin(sql)) != expected {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Waits until the connection of this name is inside `pg_sleep`.
pub(crate) async fn until_asleep(server: &PgServer, name: &str) {
    let sql = format!("select wait_event from pg_stat_activity where application_name = '{name}'");
    until_server_says(server, &sql, "PgSleep").await;
}
