//! Messages larger than usual: the trial, and its failures.

use super::*;

fn large(payload_size: usize) -> Options {
    Options { payload_size, ..without_dial_questions() }
}

#[test]
fn messages_grow_after_the_trial_was_acknowledged() {
    let mut far = Far::open_with("3.3.987.0", large(4096));
    let id = far.conversation.open_stream(far.now).unwrap();
    far.write(id, b"a small question");
    assert!(far.sizes().iter().all(|size| *size < 100), "interactive use tries nothing: {:?}", far.sizes());
    far.heard.clear();
    let data = noise(100_000);
    far.write(id, &data);
    assert_eq!(far.uploaded(id), [b"a small question", &data[..]].concat());
    let sizes = far.sizes();
    assert_eq!(sizes[..3], [1024, 4096, 4096], "a usual message, the trial, and a large message");
    assert!(far.heard[1].1.chunks(8).all(|frame| frame == NOP));
    assert!(sizes.len() < 30, "{sizes:?}");
}

#[test]
fn dropped_trial_costs_some_seconds_and_no_byte() {
    // The second fills the window alone, so that nothing can overtake it.
    for (size, millis) in [(4096, 2000), (65_536, 4000)] {
        let mut far = Far::open_with("3.3.987.0", large(size));
        far.largest = 1024;
        let id = far.conversation.open_stream(far.now).unwrap();
        let data = noise(100_000);
        far.write(id, &data);
        far.advance(Duration::from_millis(millis - 1));
        assert_eq!(far.nops(), 0, "{size}");
        far.advance(Duration::from_millis(1));
        assert_eq!(far.nops(), 1, "{size}: in its place");
        assert_eq!(far.uploaded(id), data);
        far.write(id, &data);
        assert_eq!(far.uploaded(id), data.repeat(2));
        assert!(far.sizes().iter().all(|size| *size <= 1024), "no other is tried");
    }
}

#[test]
fn trial_without_a_later_message_has_four_seconds() {
    for passes in [false, true] {
        let mut far = Far::open_with("3.3.987.0", large(4096));
        let id = far.conversation.open_stream(far.now).unwrap();
        far.write(id, b"a small question");
        far.largest = 1024;
        far.write(id, &noise(1024 - 8));
        far.advance(Duration::from_millis(2500));
        if passes {
            far.largest = usize::MAX;
        }
        far.advance(Duration::from_millis(1499));
        assert_eq!((far.nops(), far.sizes().last()), if passes { (0, Some(&4096)) } else { (0, Some(&1024)) });
        far.advance(Duration::from_secs(1));
        assert_eq!((far.nops(), far.sizes().last()), if passes { (0, Some(&4096)) } else { (1, Some(&8)) });
    }
}

#[test]
fn trial_is_not_repeated_after_the_websocket_was_closed() {
    let mut far = Far::open_with("3.3.987.0", large(4096));
    far.largest = 1024;
    let id = far.conversation.open_stream(far.now).unwrap();
    let data = noise(100_000);
    far.write(id, &data);
    far.conversation.disconnected();
    far.now += Duration::from_millis(500);
    far.largest = usize::MAX;
    far.conversation.connected(far.now);
    far.listen();
    assert_eq!(far.uploaded(id), data);
    assert_eq!(far.nops(), 1);
    assert!(far.sizes().iter().all(|size| *size <= 1024), "{:?}", far.sizes());
}

#[test]
fn no_byte_is_lost_repeated_or_reordered_with_losses_and_any_size_limit() {
    for seed in 0..1000 {
        let mut far = Far::open_with("3.3.987.0", large(2048));
        far.random = fastrand::Rng::with_seed(seed);
        far.loss = far.random.f64() * 0.3;
        far.largest = if far.random.bool() { 1024 } else { usize::MAX };
        let id = far.conversation.open_stream(far.now).unwrap();
        let data = noise(20_000);
        far.write(id, &data);
        for _ in 0..300 {
            if far.conversation.channel.is_drained() && !far.conversation.mux.has_output() {
                break;
            }
            if far.random.u8(..50) == 0 {
                far.conversation.disconnected();
                far.conversation.connected(far.now);
                far.listen();
            }
            far.advance(Duration::from_millis(300));
        }
        assert_eq!(far.uploaded(id), data, "seed {seed}");
    }
}
