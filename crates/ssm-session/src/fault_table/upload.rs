//! A bulk upload through a service that takes 500 kB/s, 20 ms away, beside an interactive connection in the same session.

use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use super::{CALM, Pace, Row, World};

const PACE: Pace = Pace { bytes_per_second: 500_000, most: u32::MAX };

/// The result of an upload.
#[derive(Debug)]
struct Upload {
    took: Duration,
    /// From each small write beside it to its arrival at the agent.
    beside: Vec<Duration>,
    stalls: u32,
}

/// Uploads this many bytes as fast as possible, with a small write beside it every 300 ms.
fn upload(pace: Pace, bytes: usize) -> Upload {
    let mut world = World::new(Row { pace: Some(pace), within: Duration::from_mins(10), ..CALM }, 1);
    world.delay = Duration::from_millis(20);
    world.open();
    let start = world.now;
    let (bulk, other) = (world.client.open_stream(start).unwrap(), world.client.open_stream(start).unwrap());
    let noise: Vec<u8> = (0..bytes).map(|n| (n * 31 + n / 251).to_le_bytes()[0]).collect();
    let (mut written, mut asked): (usize, Option<Instant>) = (0, None);
    let (mut questions, mut beside) = (0, Vec::new());
    let mut cx = Context::from_waker(Waker::noop());
    let received = |world: &World, id: u32| world.agent.received.get(&id).map_or(0, |(data, _)| data.len());
    while received(&world, bulk.0) < bytes {
        assert!(world.now - start < Duration::from_mins(10), "{:?}", world.client.tally(world.now));
        if let Poll::Ready(taken) = world.client.mux().poll_write(bulk, &mut cx, &noise[written..]) {
            written += taken.unwrap();
        }
        match asked {
            Some(at) if received(&world, other.0) == questions * 50 => {
                beside.push(world.now - at);
                asked = None;
            }
            None if world.now - start >= Duration::from_millis(300) * u32::try_from(questions).unwrap() => {
                assert_eq!(world.client.mux().poll_write(other, &mut cx, &[7; 50]), Poll::Ready(Ok(50)));
                (questions, asked) = (questions + 1, Some(world.now));
            }
            _ => {}
        }
        world.step();
    }
    assert!(world.agent.received[&bulk.0].0 == noise, "the bytes arrived changed");
    Upload { took: world.now - start, beside, stalls: world.stalls }
}

#[test]
fn small_write_beside_a_bulk_upload_arrives_within_250_ms() {
    let upload = upload(PACE, 10_000_000);
    // Messages of 1,024 bytes are 1,144 on the way, and acknowledgements of the agent's data go up as well.
    assert!(upload.took < Duration::from_secs(26), "{upload:?}");
    let settled = upload.beside.iter().skip(5);
    assert!(settled.clone().count() > 20, "{upload:?}");
    for late in settled {
        assert!(*late < Duration::from_millis(250), "{late:?} in {upload:?}");
    }
}

#[test]
fn service_that_stalls_when_flooded_is_rarely_flooded() {
    let upload = upload(Pace { most: 100_000, ..PACE }, 10_000_000);
    assert!(upload.stalls <= 3, "{upload:?}");
    assert!(upload.took < Duration::from_secs(40), "{upload:?}");
}
