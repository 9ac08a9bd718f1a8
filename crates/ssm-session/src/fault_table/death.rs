//! An agent that dies silently, at any message of a conversation, behind a service that does not report it.

use std::{
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{CALM, ROUGH, Row, World};
use crate::{conversation::EndReason, smux::mux::StreamError};

/// Limit for the time from the agent's death to the end of its session: 15 s of silence, a probe, and the rest of a minute. On a
/// bad path the last of its messages arrives late.
const WITHIN: Duration = Duration::from_secs(76);

/// Kills the agent after a number of steps given by the seed, and checks the end of the session.
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
    // A stream of which the agent never knew has failed before.
    assert!(matches!(end, StreamError::SessionEnded(_) | StreamError::AgentSilent), "seed {seed}: {end}");
}

#[test]
fn death_of_the_agent_at_any_message_ends_the_session_within_76_seconds() {
    for seed in 0..300 {
        dies(CALM, seed);
    }
}

#[test]
fn death_of_the_agent_on_a_bad_path_ends_the_session_within_76_seconds() {
    for seed in 0..100 {
        dies(ROUGH, seed);
    }
}
