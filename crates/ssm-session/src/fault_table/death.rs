//! An agent that dies without a word, at any message of a conversation, behind a service that notices nothing.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{CALM, ROUGH, Row, World};
use crate::{conversation::EndReason, smux::mux::StreamError};

/// From the agent's death to the end of its session: 15 s of silence, a question, and the rest of a minute; on a bad path
/// the last of its messages is heard late.
const WITHIN: Duration = Duration::from_secs(76);

/// Kills the agent after the row's number of steps, and sees how the session ends.
fn dies(row: Row, seed: u64) {
    let mut world = World::new(row, seed);
    world.open();
    let id = world.client.open_stream(world.now).expect("it takes streams");
    world.agent.will_answer(id, vec![7; 100_000]);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..seed % 300 {
        let _ = world.client.mux().poll_write(id, &mut cx, b"more");
        let _ = world.client.mux().poll_read(id, &mut cx, 700);
        world.step();
    }
    let died = world.now;
    world.agent.die();
    while world.client.ended().is_none() {
        let _ = world.client.mux().poll_read(id, &mut cx, 700);
        world.step();
        assert!(world.now - died < WITHIN, "seed {seed}: {:?}", world.client.tally(world.now));
    }
    assert!(matches!(world.client.ended(), Some(EndReason::AgentSilent(_))), "seed {seed}: {:?}", world.client.ended());
    let end = loop {
        match world.client.mux().poll_read(id, &mut cx, 700) {
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => break error,
            Poll::Pending => panic!("seed {seed}: a stream hangs"),
        }
    };
    // One of which the agent never heard has failed before.
    assert!(matches!(end, StreamError::SessionEnded(_) | StreamError::AgentSilent), "seed {seed}: {end}");
}

#[test]
fn an_agent_that_dies_at_any_message_is_noticed_within_a_minute_or_so() {
    for seed in 0..300 {
        dies(CALM, seed);
    }
}

#[test]
fn so_is_one_that_dies_on_a_bad_path() {
    for seed in 0..100 {
        dies(ROUGH, seed);
    }
}
