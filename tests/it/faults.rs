//! A path that loses, repeats, reorders, breaks and pauses: the database connection lives on and not a byte is wrong.

use std::{cell::RefCell, time::Duration};

use futures_util::future::join_all;
use sandbox::{Failure, Faults, Messages, Offline, Operation, Options, Rates, Sandbox};
use tokio::time::timeout;

use crate::support::{
    driver::Driver,
    gate::{Gate, sandbox, sandbox_with},
    rows::Rows,
    servers::PgServer,
};

/// A hook for a copy: calls `act` at `times` places of `bytes` that the seed chooses.
fn at_random_places(seed: u64, bytes: usize, times: usize, mut act: impl FnMut()) -> impl FnMut(usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut places: Vec<usize> = std::iter::repeat_with(|| random.usize(bytes / 20..bytes)).take(times).collect();
    places.sort_unstable_by(|a, b| b.cmp(a));
    move |done| {
        while places.pop_if(|place| *place <= done).is_some() {
            act();
        }
    }
}

/// Messages that are lost with a websocket on its way down come back at one each 100 ms: the fewer the better.
fn little_in_flight(mut options: Options) -> Options {
    options.agent.window = 24;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_duplication_and_reordering_leave_a_copy_exact() {
    let server = PgServer::shared();
    join_all((1..=3).map(async |seed| {
        let rates = Rates { loss: 0.05, duplication: 0.05, reordering: 0.05, of: Messages::All };
        let sandbox = sandbox_with(server, |mut options| {
            (options.faults, options.seed) = (Faults::both(rates), seed);
            options
        })
        .await;
        let gate = Gate::start(server, &sandbox).await;
        let client = Driver::connected(&gate, "loss").await;
        let pid = client.pid().await;
        Rows::of_bytes(4_000_000, seed).copy_in(&client, |_| {}).await;
        // The agent sends one lost message again each 100 ms, so little takes long.
        client.batch_execute("delete from copied where n >= 400").await.expect("no error");
        Rows { seed, count: 400, width: 1000 }.copy_out(&client, |_| {}).await;
        assert_eq!(client.pid().await, pid, "seed {seed}");
        assert_eq!(sandbox.sessions().len(), 1, "seed {seed}");
        assert_eq!(sandbox.violations(), Vec::<String>::new(), "seed {seed}");
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_cut_at_random_places_are_not_noticed_by_a_copy() {
    const BYTES: usize = 8_000_000;
    let server = PgServer::shared();
    join_all((1..=2).map(async |seed| {
        let sandbox = sandbox_with(server, |options| Options { seed, ..little_in_flight(options) }).await;
        let gate = Gate::start(server, &sandbox).await;
        let client = Driver::connected(&gate, "cut").await;
        let pid = client.pid().await;
        let cut = |more| at_random_places(seed + more, BYTES, 6, || sandbox.cut_all());
        Rows::of_bytes(BYTES, seed).there_and_back(&client, cut(0), cut(100)).await;
        assert_eq!(client.pid().await, pid, "seed {seed}");
        survived(&sandbox, 5);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_does_not_notice_websockets_cut_after_a_number_of_messages() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, little_in_flight).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "count").await;
    let pid = client.pid().await;
    let state = RefCell::new((fastrand::Rng::with_seed(3), 0));
    // Both directions count together, and acknowledgements, 2,048 of which are repeated after each cut.
    let next_cut = |_| {
        let (random, seen) = &mut *state.borrow_mut();
        let opens = sandbox.sessions()[0].opens;
        if std::mem::replace(seen, opens) != opens {
            sandbox.faults(Faults { cut_after: Some(random.u64(2_500..5_000)), ..Faults::default() });
        }
    };
    Rows::of_bytes(8_000_000, 3).there_and_back(&client, next_cut, next_cut).await;
    assert_eq!(client.pid().await, pid);
    survived(&sandbox, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hourly_bye_in_the_middle_of_a_copy_is_not_noticed() {
    const BYTES: usize = 8_000_000;
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "bye").await;
    let pid = client.pid().await;
    let bye = |seed| at_random_places(seed, BYTES, 4, || sandbox.bye_all());
    Rows::of_bytes(BYTES, 4).there_and_back(&client, bye(4), bye(5)).await;
    assert_eq!(client.pid().await, pid);
    survived(&sandbox, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_lost_with_the_websocket_are_sent_again() {
    const BYTES: usize = 2_000_000;
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, |options| Options { offline: Offline::Drop, ..little_in_flight(options) }).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "dropped").await;
    let pid = client.pid().await;
    let cut = |seed| at_random_places(seed, BYTES, 3, || sandbox.cut_all());
    Rows::of_bytes(BYTES, 6).there_and_back(&client, cut(6), cut(7)).await;
    assert_eq!(client.pid().await, pid);
    survived(&sandbox, 3);
}

/// One session all along, resumed at least so often, by a client that kept to the protocol.
fn survived(sandbox: &Sandbox, resumed: u64) {
    let sessions = sandbox.sessions();
    let [session] = &sessions[..] else { panic!("{sessions:?}") };
    assert_eq!(session.ended, None);
    assert!(session.opens > resumed, "{session:?}");
    assert_eq!(session.violations, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_in_the_middle_of_a_copy_lose_nothing() {
    const BYTES: usize = 8_000_000;
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "pauses").await;
    let pid = client.pid().await;
    // What the agent still says of messages that were on their way ends a pause, as it must.
    let pause = |seed| at_random_places(seed, BYTES, 20, || sandbox.pause_clients(true));
    Rows::of_bytes(BYTES, 5).there_and_back(&client, pause(5), pause(6)).await;
    assert_eq!(client.pid().await, pid);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_what_is_new_until_it_ends() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "held").await;
    let pid = client.pid().await;
    // A query that is already on its way passes a pause, and the agent's reply to it ends the pause. So the service asks again
    // until a query waits. It waits for one second, because a pause is over by itself after five.
    let received = || sandbox.sessions()[0].received;
    let (mut before, mut held) = (0, false);
    for _ in 0..10 {
        before = received();
        sandbox.pause_clients(true);
        held = timeout(Duration::from_secs(1), client.pid()).await.is_err();
        if held {
            break;
        }
    }
    assert!(held, "no query waited in ten pauses");
    assert_eq!(received(), before, "something was sent during the pause");
    sandbox.pause_clients(false);
    assert_eq!(client.pid().await, pid);
    assert_eq!(sandbox.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_without_an_end_is_probed_and_overcome() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "probe").await;
    sandbox.pause_clients(true);
    assert_eq!(client.value::<i32>("select 42").await, 42);
    Rows::of_bytes(500_000, 8).there_and_back(&client, |_| {}, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_aws_is_slow_to_resume_is_resumed_in_the_end() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let client = Driver::connected(&gate, "slow to resume").await;
    let pid = client.pid().await;
    sandbox.fail(Operation::ResumeSession, Failure::InternalServerError, Some(4));
    sandbox.fail(Operation::ResumeSession, Failure::Throttling, Some(4));
    sandbox.fail(Operation::ResumeSession, Failure::Disconnect, Some(2));
    sandbox.fail(Operation::OpenDataChannel, Failure::Unavailable, Some(2));
    sandbox.cut_all();
    assert_eq!(client.pid().await, pid);
    assert!(sandbox.calls().iter().filter(|call| call.error.is_some()).count() >= 10);
    survived(&sandbox, 1);
}
