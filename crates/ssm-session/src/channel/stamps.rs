//! The marks that make each message of ours unique: its name and its time of day.

use std::time::{Instant, SystemTime};

use uuid::Uuid;

/// Gives each message of a channel its MessageId and its CreatedDate.
#[derive(Debug)]
pub(super) struct Stamps {
    random: fastrand::Rng,
    /// An instant, and the wall clock at it in milliseconds since the Unix epoch.
    epoch: (Instant, u64),
}

impl Stamps {
    pub(super) fn new(random: fastrand::Rng, now: Instant, wall_clock: SystemTime) -> Self {
        Self { random, epoch: (now, millis_since_epoch(wall_clock)) }
    }

    /// Corrects the time of day for messages from `now` on.
    pub(super) fn set_wall_clock(&mut self, now: Instant, wall_clock: SystemTime) {
        self.epoch = (now, millis_since_epoch(wall_clock));
    }

    /// The CreatedDate of a message made at `now`.
    pub(super) fn created_date(&self, now: Instant) -> u64 {
        let (since, millis) = self.epoch;
        let elapsed = now.saturating_duration_since(since).as_millis();
        millis.saturating_add(u64::try_from(elapsed).unwrap_or(0))
    }

    /// A new MessageId. It only has to be unique within the session, so a fast generator suffices.
    pub(super) fn message_id(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.random.u128(..).to_ne_bytes()).into_uuid()
    }
}

/// A time of day as messages carry it, where 0 is not allowed.
fn millis_since_epoch(wall_clock: SystemTime) -> u64 {
    let millis = wall_clock.duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_millis().max(1));
    u64::try_from(millis).unwrap_or(u64::MAX)
}
