//! The messages of ours that wait for an acknowledgement, in order: which are unsent, in flight or lost.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::inference::Copies;
use crate::sequence::SequenceNumber;

#[derive(Debug)]
struct Entry {
    frame: Bytes,
    /// Bytes of its payload.
    payload: usize,
    is_output: bool,
    first_sent: Option<Instant>,
    last_sent: Option<Instant>,
    transmissions: u32,
    /// Sent, and neither lost nor acknowledged.
    in_flight: bool,
    copies: Copies,
}

/// A message that has been acknowledged.
#[derive(Debug)]
pub(super) struct Acknowledged {
    /// Bytes of its payload.
    pub(super) payload: usize,
    /// Whether it carried Output, and not a handshake or a flag.
    pub(super) is_output: bool,
    /// Whether every message before it had been acknowledged.
    pub(super) was_oldest: bool,
    /// Bytes in flight before, its own included.
    pub(super) in_flight: usize,
    pub(super) first_sent: Option<Instant>,
    pub(super) last_sent: Option<Instant>,
    pub(super) transmissions: u32,
}

/// Messages from the oldest unacknowledged to the newest.
///
/// Invariants (asserted in debug builds): the first entry is not acknowledged; no number past the end has been sent;
/// `in_flight` is the payload of the entries that are in flight.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The number of the first entry.
    base: SequenceNumber,
    /// `None`: acknowledged, while an older message is not.
    entries: VecDeque<Option<Entry>>,
    /// The first number never sent.
    next_unsent: SequenceNumber,
    lost: BTreeSet<SequenceNumber>,
    /// Transmissions in the order they were made; entries of acknowledged or resent messages are stale.
    transmissions: VecDeque<(Instant, SequenceNumber)>,
    in_flight: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            base: SequenceNumber::FIRST,
            entries: VecDeque::new(),
            next_unsent: SequenceNumber::FIRST,
            lost: BTreeSet::new(),
            transmissions: VecDeque::new(),
            in_flight: 0,
        }
    }

    /// Whether every message has been acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message was never sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.next_unsent < self.end()
    }

    /// Whether a message has to be sent again.
    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Bytes of payload in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The number of the next message.
    pub(super) fn end(&self) -> SequenceNumber {
        self.base.plus(self.entries.len())
    }

    /// Whether every message before this one has been acknowledged.
    pub(super) fn is_oldest(&self, sequence: SequenceNumber) -> bool {
        sequence == self.base
    }

    /// Whether a message that was queued has been acknowledged.
    pub(super) fn is_acknowledged(&self, sequence: SequenceNumber) -> bool {
        sequence < self.end() && self.entry(sequence).is_none()
    }

    /// Whether a later message has been acknowledged, and this one has not.
    pub(super) fn is_overtaken(&self, sequence: SequenceNumber) -> bool {
        let later = sequence.places_after(self.base).map(|index| self.entries.iter().skip(index + 1));
        self.entry(sequence).is_some() && later.is_some_and(|mut later| later.any(Option::is_none))
    }

    /// Since when the oldest message waits on this connection.
    pub(super) fn oldest_waits_since(&self) -> Option<Instant> {
        self.oldest()?.copies.first()
    }

    /// When the oldest message was sent last, if it is in flight.
    pub(super) fn oldest_in_flight_since(&self) -> Option<Instant> {
        self.oldest().filter(|oldest| oldest.in_flight)?.last_sent
    }

    /// How often the oldest message was sent, if it carries Output.
    pub(super) fn oldest_output_transmissions(&self) -> Option<u32> {
        self.oldest().filter(|oldest| oldest.is_output).map(|oldest| oldest.transmissions)
    }

    /// When the copies of the oldest message were enough to suspect that the agent has it.
    pub(super) fn oldest_suspected(&self) -> Option<Instant> {
        self.oldest()?.copies.suspected()
    }

    /// Queues a message with `payload` bytes under the number [`Outbox::end`].
    pub(super) fn push(&mut self, frame: Bytes, payload: usize, is_output: bool) {
        self.entries.push_back(Some(Entry {
            frame,
            payload,
            is_output,
            first_sent: None,
            last_sent: None,
            transmissions: 0,
            in_flight: false,
            copies: Copies::default(),
        }));
    }

    /// The message to send next: a lost one before an unsent one, or the other way round.
    pub(super) fn next(&self, unsent_first: bool) -> Option<SequenceNumber> {
        let unsent = self.has_unsent().then_some(self.next_unsent);
        let lost = self.lost.first().copied();
        if unsent_first { unsent.or(lost) } else { lost.or(unsent) }
    }

    /// The frame of a message that goes out now, and whether it went out before.
    pub(super) fn transmit(&mut self, sequence: SequenceNumber, now: Instant) -> Option<(Bytes, bool)> {
        self.lost.remove(&sequence);
        let entry = self.entry_mut(sequence)?;
        entry.transmissions += 1;
        entry.in_flight = true;
        entry.last_sent = Some(now);
        entry.first_sent.get_or_insert(now);
        entry.copies.count(now);
        let (frame, payload, again) = (entry.frame.clone(), entry.payload, entry.transmissions > 1);
        self.in_flight += payload;
        self.transmissions.push_back((now, sequence));
        self.next_unsent = self.next_unsent.max(sequence.next());
        self.assert_invariants();
        Some((frame, again))
    }

    /// Takes out a message that has been acknowledged; `None` if it was before, or was never queued.
    pub(super) fn acknowledge(&mut self, sequence: SequenceNumber) -> Option<Acknowledged> {
        let index = sequence.places_after(self.base)?;
        let entry = self.entries.get_mut(index)?.take()?;
        let (was_oldest, in_flight) = (self.is_oldest(sequence), self.in_flight);
        self.lost.remove(&sequence);
        if entry.in_flight {
            self.in_flight -= entry.payload;
        }
        self.drop_acknowledged();
        let Entry { payload, is_output, first_sent, last_sent, transmissions, .. } = entry;
        Some(Acknowledged { payload, is_output, was_oldest, in_flight, first_sent, last_sent, transmissions })
    }

    /// Takes out the oldest message: the agent is known to have it.
    pub(super) fn acknowledge_oldest(&mut self) {
        self.acknowledge(self.base);
    }

    /// Notes that a message has to be sent again, if it was sent.
    pub(super) fn mark_lost(&mut self, sequence: SequenceNumber) {
        let Some(entry) = self.entry_mut(sequence) else { return };
        if entry.in_flight {
            entry.in_flight = false;
            let payload = entry.payload;
            self.in_flight -= payload;
        }
        if sequence < self.next_unsent {
            self.lost.insert(sequence);
        }
    }

    /// Notes that the oldest message has to be sent again, if it was sent.
    pub(super) fn mark_oldest_lost(&mut self) {
        self.mark_lost(self.base);
    }

    /// Notes that every message in flight for longer than `timeout` has to be sent again.
    pub(super) fn mark_overdue(&mut self, timeout: Duration, now: Instant) {
        let is_overdue = |entry: &Entry| entry.in_flight && entry.last_sent.is_some_and(|sent| now >= sent + timeout);
        let entries = self.entries.iter().enumerate();
        let overdue = entries.filter(|(_, entry)| entry.as_ref().is_some_and(is_overdue));
        for sequence in overdue.map(|(index, _)| self.base.plus(index)).collect::<Vec<_>>() {
            self.mark_lost(sequence);
        }
    }

    /// The transmission that has waited longest for its acknowledgement. Forgets the stale ones before it.
    pub(super) fn oldest_transmission(&mut self) -> Option<(Instant, SequenceNumber)> {
        while let Some(&(sent, sequence)) = self.transmissions.front() {
            if self.entry(sequence).is_some_and(|entry| entry.in_flight && entry.last_sent == Some(sent)) {
                return Some((sent, sequence));
            }
            self.transmissions.pop_front();
        }
        None
    }

    /// Puts another frame in the place of a message that is not acknowledged.
    pub(super) fn replace(&mut self, sequence: SequenceNumber, frame: Bytes, payload: usize) {
        self.mark_lost(sequence);
        if let Some(entry) = self.entry_mut(sequence) {
            (entry.frame, entry.payload) = (frame, payload);
        }
    }

    /// The connection is a new one: nothing is in flight on it, and everything sent has to be sent again.
    pub(super) fn restart(&mut self) {
        self.transmissions.clear();
        self.in_flight = 0;
        self.lost.clear();
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let Some(entry) = entry else { continue };
            entry.in_flight = false;
            entry.copies = Copies::default();
            let sequence = self.base.plus(index);
            if sequence < self.next_unsent {
                self.lost.insert(sequence);
            }
        }
    }

    fn drop_acknowledged(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.base = self.base.next();
        }
        self.next_unsent = self.next_unsent.max(self.base);
        self.assert_invariants();
    }

    fn oldest(&self) -> Option<&Entry> {
        self.entry(self.base)
    }

    fn entry(&self, sequence: SequenceNumber) -> Option<&Entry> {
        self.entries.get(sequence.places_after(self.base)?)?.as_ref()
    }

    fn entry_mut(&mut self, sequence: SequenceNumber) -> Option<&mut Entry> {
        self.entries.get_mut(sequence.places_after(self.base)?)?.as_mut()
    }

    fn assert_invariants(&self) {
        debug_assert!(!matches!(self.entries.front(), Some(None)), "the first entry is not acknowledged");
        debug_assert!(self.base <= self.next_unsent && self.next_unsent <= self.end(), "nothing past the end was sent");
    }
}

#[cfg(test)]
impl Outbox {
    /// Bytes of payload that wait for an acknowledgement, sent or not.
    pub(super) fn unacknowledged(&self) -> usize {
        self.entries.iter().flatten().map(|entry| entry.payload).sum()
    }
}
