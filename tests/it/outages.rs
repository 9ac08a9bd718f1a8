//! Outages with both kinds of clients on top: the link dies without a word, AWS is slow to give it back, credentials expire
//! meanwhile, it breaks again at once. Connections live on, new clients wait, and get an error when the time is over.

use std::time::{Duration, Instant};

use futures_util::future::join;
use mysql_async::{Conn, Error, OptsBuilder, prelude::Queryable};
use sandbox::{Failure, Faults, Identity, Offline, Operation, Pace, Sandbox};
use tokio::process::Command;

use crate::support::{
    driver::{Driver, error_text, within},
    gate::{BASTION, Gate, GateOptions, sandbox, sandbox_with},
    rows::Rows,
    servers::{Engine, Server},
};

/// Every way into a session: nothing gets through while they fail.
const WAYS_IN: [Operation; 3] = [Operation::StartSession, Operation::ResumeSession, Operation::OpenDataChannel];

/// A connection of either engine, and the number by which its server knows it.
enum Client {
    Postgres(Driver),
    Mysql(Conn),
}

impl Client {
    async fn connected(gate: &Gate, engine: Engine) -> Self {
        if engine == Engine::Postgres {
            return Self::Postgres(Driver::connected(gate, "outages").await);
        }
        let door = gate.door();
        let options = OptsBuilder::default().ip_or_hostname(door.host).tcp_port(door.port).user(Some(door.user));
        let options = options.db_name(Some(door.database)).prefer_socket(false);
        let connected = within("connect", Conn::new(options)).await;
        Self::Mysql(connected.unwrap_or_else(|error| panic!("{error}\n{}", gate.log())))
    }

    /// The same as long as it is the same database connection.
    async fn number(&mut self) -> u64 {
        match self {
            Self::Postgres(driver) => driver.pid().await.try_into().expect("positive"),
            Self::Mysql(conn) => {
                let number = within("a query", conn.query_first("select connection_id()")).await;
                number.unwrap_or_else(|error| panic!("{error}")).expect("a row")
            }
        }
    }

    /// The reply to a query: the code and the words of the error.
    async fn hears(&mut self) -> String {
        match self {
            Self::Postgres(driver) => {
                let error = within("a query", driver.simple_query("select 1")).await.expect_err("it is over");
                error_text(&error)
            }
            Self::Mysql(conn) => match within("a query", conn.query_drop("select 1")).await {
                Err(Error::Server(error)) => format!("{} {}", error.code, error.message),
                other => format!("{other:?}"),
            },
        }
    }
}

/// One session all along, whose websocket opened so often at least, by a client that kept to the protocol.
fn survived(sandbox: &Sandbox, opens: u64) {
    let sessions = sandbox.sessions();
    let [session] = &sessions[..] else { panic!("{sessions:?}") };
    assert!(session.ended.is_none() && session.opens >= opens, "{session:?}");
    assert_eq!(session.violations, Vec::<String>::new());
}

fn failed(sandbox: &Sandbox, operation: Operation) -> usize {
    sandbox.calls().iter().filter(|call| call.operation == operation && call.error.is_some()).count()
}

/// Waits until the given number of calls have failed.
async fn until_failed(sandbox: &Sandbox, operation: Operation, times: usize) {
    within("failing calls", sandbox.until(|_| failed(sandbox, operation) >= times)).await;
}

async fn scene(engine: Engine) -> (&'static Server, Sandbox) {
    let server = tokio::task::block_in_place(|| Server::shared_of(engine));
    (server, sandbox(server).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_dies_without_a_word_is_replaced() {
    let (server, sandbox) = scene(Engine::Postgres).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut client = Client::connected(&gate, server.engine).await;
    let number = client.number().await;
    sandbox.half_open_all();
    // The far side does not answer: a ping is sent after 15 s, and after 5 more the link counts as dead.
    assert_eq!(client.number().await, number);
    assert!(gate.until(|log| log.contains("after a message was not acknowledged")).await);
    survived(&sandbox, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_died_during_sleep_is_replaced_at_once() {
    let (server, sandbox) = scene(Engine::MariaDb).await;
    let mut gate = Gate::start(server, &sandbox).await;
    let mut client = Client::connected(&gate, server.engine).await;
    let number = client.number().await;
    gate.signal("STOP");
    sandbox.half_open_all();
    // Time is what this is about: timers that come 10 s late are a process that stood still.
    tokio::time::sleep(Duration::from_secs(17)).await;
    gate.signal("CONT");
    let woken = Instant::now();
    assert!(gate.until(|log| log.contains("no answer within 5 s after the machine slept")).await, "{}", gate.log());
    assert_eq!(client.number().await, number);
    println!("back {:.1} s after waking", woken.elapsed().as_secs_f64());
    survived(&sandbox, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_that_is_refused_in_every_way_succeeds_in_the_end() {
    for engine in [Engine::Postgres, Engine::MySql] {
        let (server, sandbox) = scene(engine).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut client = Client::connected(&gate, engine).await;
        let number = client.number().await;
        for failure in [
            Failure::InternalServerError,
            Failure::Throttling,
            Failure::Unavailable,
            Failure::Disconnect,
            Failure::ExpiredCredentials,
            // Once: what is denied with fresh credentials too is denied.
            Failure::AccessDenied,
        ] {
            sandbox.fail(Operation::ResumeSession, failure, Some(1));
        }
        sandbox.fail(Operation::OpenDataChannel, Failure::AccessDenied, Some(2));
        sandbox.cut_all();
        assert_eq!(client.number().await, number, "{engine:?}");
        assert_eq!(failed(&sandbox, Operation::ResumeSession), 6, "{engine:?}");
        survived(&sandbox, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn resuming_that_stays_denied_with_fresh_credentials_ends_the_session() {
    let (server, sandbox) = scene(Engine::Postgres).await;
    let gate = Gate::start(server, &sandbox).await;
    let mut client = Client::connected(&gate, server.engine).await;
    client.number().await;
    sandbox.fail(Operation::ResumeSession, Failure::AccessDenied, None);
    sandbox.cut_all();
    let Client::Postgres(driver) = client else { unreachable!() };
    let heard = driver.error_at_end().await;
    assert!(heard.starts_with("08006 ") && heard.contains("ResumeSession: access denied"), "{heard}");
    assert_eq!(failed(&sandbox, Operation::ResumeSession), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_outage_while_recovering_from_the_first_is_survived() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let (server, sandbox) = scene(engine).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut client = Client::connected(&gate, engine).await;
        let number = client.number().await;
        sandbox.faults(Faults { cut_after: Some(1), ..Faults::default() });
        let resumed = sandbox.until(|sessions| sessions[0].opens >= 4);
        let (again, ()) = join(client.number(), async {
            within("websockets that are cut at once", resumed).await;
            sandbox.fail(Operation::ResumeSession, Failure::Throttling, Some(3));
            sandbox.faults(Faults::default());
            sandbox.cut_all();
        })
        .await;
        assert_eq!(again, number, "{engine:?}");
        // The answer may have come before the last cut.
        within("the next websocket", sandbox.until(|sessions| sessions[0].opens >= 5)).await;
        survived(&sandbox, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_during_the_outage_and_come_back_are_waited_for() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let (server, sandbox) = scene(engine).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut client = Client::connected(&gate, engine).await;
        let number = client.number().await;
        let key = Identity::user().access_key;
        assert!(sandbox.identity(&key, |identity| identity.expired = true));
        sandbox.cut_all();
        until_failed(&sandbox, Operation::ResumeSession, 4).await;
        assert!(sandbox.identity(&key, |identity| identity.expired = false));
        assert_eq!(client.number().await, number, "{engine:?}");
        survived(&sandbox, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_clients_wait_for_the_end_of_an_outage_and_then_connect() {
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let (server, sandbox) = scene(engine).await;
        let gate = Gate::start(server, &sandbox).await;
        let mut client = Client::connected(&gate, engine).await;
        let number = client.number().await;
        for way in WAYS_IN {
            sandbox.fail(way, Failure::Unavailable, None);
        }
        sandbox.cut_all();
        until_failed(&sandbox, Operation::ResumeSession, 1).await;
        let mut command = if engine == Engine::Postgres { gate.psql_command() } else { mariadb(&gate) };
        let command = command.args([if engine == Engine::Postgres { "-c" } else { "-e" }, "select 'connected'"]);
        let waiting = within("the new client", command.output());
        let (output, ()) = join(waiting, async {
            let before = failed(&sandbox, Operation::ResumeSession);
            until_failed(&sandbox, Operation::ResumeSession, before + 3).await;
            for way in WAYS_IN {
                sandbox.heal(way);
            }
        })
        .await;
        let output = output.expect("the client is installed");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(stdout.trim_end(), "connected", "{engine:?}: {stderr}\n{}", gate.log());
        assert_eq!(client.number().await, number, "{engine:?}");
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_client_waits_no_longer_than_its_connect_timeout() {
    for (engine, code) in
        [(Engine::Postgres, "timed out|no connection within 2s"), (Engine::MariaDb, "no connection within 2s")]
    {
        let (server, sandbox) = scene(engine).await;
        let gate = GateOptions::new(server, &sandbox).flag("--connect-timeout", "2s").start().await;
        let mut client = Client::connected(&gate, engine).await;
        client.number().await;
        for way in WAYS_IN {
            sandbox.fail(way, Failure::Unavailable, None);
        }
        sandbox.cut_all();
        until_failed(&sandbox, Operation::ResumeSession, 1).await;
        let mut command = if engine == Engine::Postgres { gate.psql_command() } else { mariadb(&gate) };
        let command = command.args([if engine == Engine::Postgres { "-c" } else { "-e" }, "select 1"]);
        let started = Instant::now();
        let output = within("the new client", command.output()).await.expect("the client is installed");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && code.split('|').any(|words| stderr.contains(words)),
            "{engine:?}: {stderr}"
        );
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}

/// MariaDB's command line, as a user would type it.
fn mariadb(gate: &Gate) -> Command {
    let mut client = Command::new("mariadb");
    client
        .args(["--no-defaults", "--skip-ssl", "--batch", "--skip-column-names", "-h", "127.0.0.1", "-u", "app_user"])
        .args(["-P", &gate.port.to_string()])
        .env("LC_ALL", "C.UTF-8")
        .kill_on_drop(true);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_outage_each_client_gets_an_error_of_its_own_protocol() {
    for (engine, code) in [(Engine::Postgres, "08006"), (Engine::MariaDb, "1927"), (Engine::MySql, "1927")] {
        let (server, sandbox) = scene(engine).await;
        let mut gate = GateOptions::new(server, &sandbox).env("RDSGATE_RESUME_FOR", "3s").start().await;
        let (mut asking, mut idle) = (Client::connected(&gate, engine).await, Client::connected(&gate, engine).await);
        for client in [&mut asking, &mut idle] {
            client.number().await;
        }
        for way in WAYS_IN {
            sandbox.fail(way, Failure::Unavailable, None);
        }
        let cut = Instant::now();
        sandbox.cut_all();
        let heard = asking.hears().await;
        let took = cut.elapsed();
        let words = "the SSM session ended: the connection to AWS was lost and could not be resumed: ";
        assert!(heard.starts_with(code) && heard.contains(words), "{engine:?}: {heard}");
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(30), "{took:?}");
        assert!(gate.until(|log| log.matches("connection ended").count() == 2).await);
        if engine != Engine::Postgres {
            // Who waits for nothing is closed, which every driver takes for a lost connection.
            let heard = idle.hears().await;
            assert!(!heard.contains("SSM"), "{engine:?}, idle: {heard}");
        }
        for way in WAYS_IN {
            sandbox.heal(way);
        }
        Client::connected(&gate, engine).await.number().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hourly_bye_in_the_middle_of_a_mysql_result_is_not_noticed() {
    // Eight megabytes.
    const SQL: &str = "with recursive s (n) as (select 1 union all select n + 1 from s where n < 900) \
                       select a.n * 10 + b.n, repeat(sha2(a.n * 10 + b.n, 256), 15) from s a join s b on b.n < 10";
    for engine in [Engine::MariaDb, Engine::MySql] {
        let server = tokio::task::block_in_place(|| Server::shared_of(engine));
        let sandbox = sandbox_with(server, |mut options| {
            (options.agent.window, options.offline) = (24, Offline::Buffer);
            options
        })
        .await;
        let gate = GateOptions::new(server, &sandbox).flag("--compress", "off").start().await;
        let mut client = Client::connected(&gate, engine).await;
        let number = client.number().await;
        let Client::Mysql(conn) = &mut client else { unreachable!() };
        let mut rows = within("the result", conn.query_iter(SQL)).await.expect("it starts");
        let (mut count, mut sum) = (0_u32, 0_u64);
        while let Some(row) = within("a row", rows.next()).await.expect("no error") {
            let (n, text): (u64, String) = mysql_async::from_row(row);
            assert_eq!(text.len(), 960);
            count += 1;
            sum += n;
            if count % 2000 == 1000 {
                let opens = sandbox.sessions()[0].opens;
                sandbox.bye_all();
                within("the next websocket", sandbox.until(|sessions| sessions[0].opens > opens)).await;
            }
        }
        drop(rows);
        let expected = (1..=900_u64).map(|a| 90 * a + 45).sum::<u64>();
        assert_eq!((count, sum), (8100, expected), "{engine:?}");
        assert_eq!(client.number().await, number, "{engine:?}");
        survived(&sandbox, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stalls_when_it_is_flooded_is_not_flooded_for_long() {
    const BYTES: usize = 2_000_000;
    let (server, sandbox) = scene(Engine::Postgres).await;
    let gate = Gate::start(server, &sandbox).await;
    let (bulk, other) = (Driver::connected(&gate, "flood").await, Driver::connected(&gate, "beside").await);
    let pid = bulk.pid().await;
    let pace = Pace { bytes_per_second: 500_000, stall: Some((100_000, Duration::from_secs(3))) };
    sandbox.faults(Faults { pace: Some(pace), ..Faults::default() });
    let started = Instant::now();
    let copy = async {
        Rows::of_bytes(BYTES, 9).copy_in(&bulk, |_| {}).await;
        started.elapsed()
    };
    let questions = async {
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let asked = Instant::now();
            other.pid().await;
            longest = longest.max(asked.elapsed());
        }
        longest
    };
    let (took, longest) = join(copy, questions).await;
    println!("{BYTES} bytes in {:.1} s, the slowest query beside took {longest:?}", took.as_secs_f64());
    // About 5 s at this pace; each stall costs 3 more.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(bulk.pid().await, pid);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn silently_dead_agent_is_replaced_and_its_connections_get_an_error() {
    let (server, sandbox) = scene(Engine::Postgres).await;
    let gate = Gate::start(server, &sandbox).await;
    let mut old = Client::connected(&gate, server.engine).await;
    old.number().await;
    sandbox.kill_agents();
    let died = Instant::now();
    let mut new = Client::connected(&gate, server.engine).await;
    assert!(died.elapsed() < Duration::from_secs(9), "{:?}", died.elapsed());
    new.number().await;
    assert_eq!(sandbox.sessions().len(), 2, "{}", gate.log());
    // It waits for an answer until the session is given up, a minute after the agent's last word.
    let heard = old.hears().await;
    assert!(heard.starts_with("08006 ") && heard.contains("has not answered for"), "{heard}");
    println!("told {:.1} s after the agent's death", died.elapsed().as_secs_f64());
    new.number().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_connection_after_a_sleep_in_which_the_session_ended_gets_a_new_one() {
    let (server, sandbox) = scene(Engine::Postgres).await;
    let gate = Gate::start(server, &sandbox).await;
    Client::connected(&gate, server.engine).await.number().await;
    gate.signal("STOP");
    sandbox.half_open_all();
    sandbox.end_all("idle");
    // Time is what this is about: timers that come 10 s late are a process that stood still.
    tokio::time::sleep(Duration::from_secs(17)).await;
    gate.signal("CONT");
    let woken = Instant::now();
    Client::connected(&gate, server.engine).await.number().await;
    assert!(woken.elapsed() < Duration::from_secs(9), "{:?}", woken.elapsed());
    assert_eq!(sandbox.sessions().len(), 2, "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_through_a_stopped_bastion_end_as_soon_as_aws_reports_it() {
    let (server, sandbox) = scene(Engine::MariaDb).await;
    // The attempt to have a session ready again shows that the bastion is gone.
    let gate = GateOptions::new(server, &sandbox).usual_sessions().start().await;
    let mut client = Client::connected(&gate, server.engine).await;
    client.number().await;
    sandbox.kill_agents();
    sandbox.bastion(BASTION, false);
    let asked = Instant::now();
    let heard = client.hears().await;
    assert!(heard.contains("not connected to AWS any more"), "{heard}\n{}", gate.log());
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}
