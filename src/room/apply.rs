//! Another node's records, and the gate's, become part of this memory.
//!
//! All of it is harmless when it comes twice, late, or in another order: joins and removals merge,
//! and a word about a turn is passed over when the ticket has moved on since.

use std::sync::Arc;
use std::time::Duration;

use super::Room;
use super::eta::Measured;
use super::event::Event;
use super::leave::reason;
use super::line::{LineWriter, State, View};
use super::restore::SEEN_TO;
use super::side::Side;
use super::tick::was_back;
use crate::model::gate::Turn;
use crate::model::{Batch, EventId, Gone, Kind, Micros, NodeId, Policy, Record};
use crate::model::{TicketId, TicketKey};

/// The epoch in batches that gates write into the feed, in the same step that gives turns or lets
/// in. Their node is the one that asked, their number the gate's version, their clock the store's.
/// No node's own: an asker whose answer was lost hears of its turns here.
pub const GATE_EPOCH: u32 = 0;

/// Records applied while the line's writer is held.
const APPLIED_AT_ONCE: usize = 2_048;
/// What two readings of the same moment may be apart, besides the clocks: a tick of the line and a
/// little for the store's clock.
const SLACK: Duration = Duration::from_millis(200);
/// A join heard of this late counts as seen when it is heard of: of what came since nobody told.
const LATE: Duration = Duration::from_secs(1);

/// Where records come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// A node's journal.
    Node(NodeId),
    /// A gate, with its version.
    Gate { version: u64 },
    /// What a store holds.
    Store,
}

impl Room {
    /// Applies a batch from a feed; answers whether it was news. What this life of this node wrote
    /// is not; what an earlier life wrote is applied like anybody's.
    pub fn apply(&self, now: Micros, batch: &Batch) -> bool {
        let origin = if batch.epoch == GATE_EPOCH {
            self.guess_store_clock(now, batch.clock);
            Origin::Gate { version: batch.seq }
        } else {
            if (batch.node, batch.epoch) == (self.identity.node, self.identity.epoch) {
                return false;
            }
            self.hear(now, batch);
            Origin::Node(batch.node)
        };
        for (event, records) in &batch.events {
            for piece in records.chunks(APPLIED_AT_ONCE) {
                self.merge(now, event, piece, origin);
            }
        }
        true
    }

    /// Merges what a store holds of a partition into the line in service. It holds no sightings.
    pub fn reload(&self, now: Micros, event: &EventId, records: &[Record]) {
        self.note_deaf(now);
        for piece in records.chunks(APPLIED_AT_ONCE) {
            self.merge(now, event, piece, Origin::Store);
        }
    }

    pub(super) fn merge(&self, now: Micros, name: &EventId, records: &[Record], origin: Origin) {
        let forgotten = self.events.forgotten(name);
        let mut kept = Vec::new();
        let mut records = records;
        if let Some(until) = forgotten {
            kept.extend(records.iter().filter(|record| !record.is_void(until)));
            records = &kept;
        }
        // An event that nobody knows is not made for a sighting, nor one that was forgotten for a
        // turn: it may be an old one.
        let lasting = |record: &Record| match record.kind {
            Kind::Called => forgotten.is_none(),
            kind => kind == Kind::Joined || kind.gone().is_some(),
        };
        if self.event(name.as_str()).is_none() && !records.iter().any(lasting) {
            return;
        }
        let event = loop {
            let Ok(event) = self.event_or_make(now, name, true) else {
                return;
            };
            let mut writer = event.line.write();
            let mut side = event.side.lock();
            if side.retired {
                continue;
            }
            self.events
                .note_moved(&event, records.iter().map(|record| record.id));
            self.merge_joins(now, &event, &mut writer, &mut side, records);
            let mut called = 0;
            for record in records {
                called +=
                    u32::from(self.merge_one(now, &event, &mut writer, &mut side, record, origin));
            }
            self.note_gate(now, &event, &mut side, called, origin);
            drop(side);
            drop(writer);
            break event;
        };
        self.schedule.at(now.after(self.period_max()), &event);
    }

    fn merge_joins(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        records: &[Record],
    ) {
        let joins: Vec<_> = records
            .iter()
            .filter(|record| record.kind == Kind::Joined)
            .map(|record| TicketKey {
                arrival: record.at,
                id: record.id,
            })
            .collect();
        let Some(newest) = joins.iter().map(|key| key.arrival).max() else {
            return;
        };
        self.clock.observe(newest, now, self.identity.skew_max);
        side.joined_at = side.joined_at.max(newest.min(now));
        let seen = if now.since(newest) > LATE {
            now
        } else {
            newest.min(now)
        };
        let done = writer.join_many(&joins, seen);
        for key in joins {
            if done.known > 0 {
                // Perhaps a place that a removal is yet to lay open: its owner was there then.
                event.line.heard(&key.id, key.arrival.min(now));
            }
            self.catch_up(now, event, writer, side, &key);
        }
    }

    /// A ticket has become known: what was heard of its turn before counts now.
    pub(super) fn catch_up(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        key: &TicketKey,
    ) {
        side.rewind(key);
        if let Some(word) = side.early.take(&key.id) {
            // Times in kept words are on our clock already.
            self.merge_turn(now, event, writer, side, &word);
        }
    }

    /// Merges one record that is not a join. Answers whether it is a turn that is news.
    fn merge_one(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
        origin: Origin,
    ) -> bool {
        let Record { kind, id, mut at } = *record;
        let of_gate = matches!(origin, Origin::Gate { .. });
        // That of an entry is the same to all, since the pass is made from it.
        if kind.is_of_turn() {
            at = self.by_our_clock(at);
        }
        if of_gate && kind == Kind::Called {
            side.gate.note_turn(&Turn {
                id,
                until: record.at,
            });
        }
        match kind {
            Kind::Joined => false,
            Kind::Seen => {
                self.merge_seen(now, event, writer, side, record);
                false
            }
            Kind::Leaving => {
                self.merge_leaving(now, event, writer, side, record);
                false
            }
            Kind::Left | Kind::Expired | Kind::Entered => {
                let why = kind.gone().unwrap_or(Gone::Left);
                if of_gate {
                    self.merge_entry(now, event, writer, side, record);
                } else {
                    self.merge_removal(now, event, writer, side, record, why);
                }
                false
            }
            Kind::Called | Kind::Missed | Kind::Returned => {
                if let (Kind::Called, Origin::Node(node)) = (kind, origin)
                    && at > now
                {
                    // A turn out of that node's lease: entering here tells the gate of it.
                    side.gate.lent.insert(id, (node, Turn { id, until: at }));
                } else if of_gate {
                    side.gate.lent.remove(&id);
                }
                self.merge_turn(now, event, writer, side, &Record { kind, id, at })
            }
        }
    }

    fn merge_seen(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
    ) {
        event.line.heard(&record.id, record.at.min(now));
        self.note_back(now, event, writer, side, record);
        if !mutant!(RefreshLeaves)
            && side
                .leaving
                .said(&record.id)
                .is_some_and(|said| record.at > said)
        {
            side.leaving.cancel(&record.id);
            writer.set_leaving(&record.id, false);
            if let Some(view) = event.line.find(&record.id) {
                side.rewind(&TicketKey {
                    arrival: view.time,
                    id: record.id,
                });
            }
        }
    }

    /// Who was seen after a missed turn is back, though the word of it did not come here: no store that
    /// nodes load from keeps it.
    fn note_back(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
    ) {
        let Some(view) = event.line.find(&record.id) else {
            return;
        };
        if let State::Missed { until } = view.state
            && was_back(&event.policy.load(), until, record.at)
        {
            merge_return(now, writer, side, &record.id, until);
        }
    }

    fn merge_leaving(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
    ) {
        let Record { id, at, .. } = *record;
        if event.line.find(&id).is_none_or(|view| view.state.is_gone()) {
            return;
        }
        let (polled, told) = event.line.sightings(&id).unwrap_or_default();
        if told > at || polled > told && polled.after(SEEN_TO) > at {
            // Perhaps only this node knows: whoever took the beacon has to. When it was, and not that
            // it is now: there may be a later goodbye that nobody has come back from.
            let seen = polled.max(told).max(Micros(at.0.saturating_add(1)));
            if event.line.claim_sighting(&id, seen, Duration::ZERO) {
                self.record(now, event, Kind::Seen, id, seen);
            }
        } else if side.leaving.said(&id).is_none_or(|said| said < at) {
            side.leaving.heard(id, at);
            writer.set_leaving(&id, true);
        }
    }

    /// A removal that a node wrote down.
    fn merge_removal(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
        why: Gone,
    ) {
        let Record { id, at, .. } = *record;
        let before = event.line.find(&id);
        if mutant!(TombstoneForgotten) && before.is_none() {
            return;
        }
        let removed = writer.remove(&id, at, reason(why));
        self.uncovered(now, event, before.map(|view| view.time), &id);
        let was_live = removed.was.is_some_and(|state| !state.is_gone());
        if was_live && removed.now.is_some_and(|state| state.is_gone()) {
            side.forget(&id);
            side.early.take(&id);
            if why != Gone::Entered {
                side.departures = side.departures.saturating_add(1);
            }
        }
    }

    /// What the gate says is so. The event's home writes it down, should the node that asked be gone
    /// before it did.
    fn merge_entry(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        record: &Record,
    ) {
        let view = event.line.find(&record.id);
        if view.is_some_and(|view| view.state == State::Entered) {
            return;
        }
        let Record { id, at, .. } = *record;
        writer.remove(&id, at, reason(Gone::Entered));
        side.forget(&id);
        side.early.take(&id);
        if self.is_home(now, event.home_key) {
            self.record(now, event, Kind::Entered, id, at);
        }
    }

    /// A removal may lay open that the ticket joined once more after it: stores that keep one
    /// arrival are told.
    pub(super) fn uncovered(
        &self,
        now: Micros,
        event: &Event,
        before: Option<Micros>,
        id: &TicketId,
    ) {
        let Some(view) = event.line.find(id).filter(|view| !view.state.is_gone()) else {
            return;
        };
        if before.is_some_and(|before| before < view.time) {
            self.record(now, event, Kind::Joined, *id, view.time);
        }
    }

    /// A word about a turn, on our clock. Answers whether it called somebody.
    pub(super) fn merge_turn(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        word: &Record,
    ) -> bool {
        let Record { kind, id, at } = *word;
        let Some(view) = event.line.find(&id) else {
            side.early.keep(*word);
            return false;
        };
        let policy = event.policy.load();
        let grace = |ended: Micros| ended.after(policy.late_grace);
        // The same turn, or an earlier one, by clocks that differ.
        let slack = SLACK + self.identity.skew_max;
        let is_over = |until: Micros| until <= at.after(slack);
        if view.state == State::Waiting && !self.is_of_this_life(now, writer, &view, at, &policy) {
            return false;
        }
        match (kind, view.state) {
            (Kind::Called, State::Waiting) => {
                writer.call(&id, at);
                if let Some((promised, real)) = side.kept(now, &id) {
                    self.promises.note(promised, real);
                }
                true
            }
            (Kind::Called, State::Missed { .. } | State::Returned) if at > now => {
                writer.call(&id, at);
                true
            }
            (Kind::Called, State::Called { .. }) => {
                writer.call(&id, at);
                false
            }
            (Kind::Called, State::Left | State::Expired) if at > now => {
                // Left before the call was heard of: one node gives the turn back.
                if self.is_home(now, event.home_key) {
                    side.gate.given_back.push(id);
                }
                false
            }
            (Kind::Missed, State::Called { until }) if is_over(until) => {
                writer.miss(&id, grace(at));
                false
            }
            // Nothing was heard of the turn before.
            (Kind::Missed, State::Waiting) => {
                writer.call(&id, at);
                writer.miss(&id, grace(at));
                false
            }
            (Kind::Returned, State::Waiting) => {
                writer.call(&id, at);
                merge_return(now, writer, side, &id, grace(at));
                false
            }
            (Kind::Returned, State::Called { until }) if is_over(until) => {
                merge_return(now, writer, side, &id, grace(at));
                false
            }
            (Kind::Returned, State::Missed { until }) if until <= grace(at).after(slack) => {
                merge_return(now, writer, side, &id, grace(at));
                false
            }
            _ => false,
        }
    }

    /// Whether a turn that ends at `end`, on our clock, was given to a waiting ticket since it joined,
    /// and not before it left and joined again: then it is that of another place. Clocks differ, so
    /// without a known removal, or when that was long before the join, some of that is forgiven.
    fn is_of_this_life(
        &self,
        now: Micros,
        writer: &LineWriter<'_>,
        view: &View,
        end: Micros,
        policy: &Policy,
    ) -> bool {
        let Some(removed) = writer.removed(&view.id) else {
            return true;
        };
        let away = view.time.since(removed) / 2;
        let given = end.after(away.min(SLACK + self.identity.skew_max));
        // Its arrival may be stamped by a clock that is ahead.
        given >= view.time.min(now).after(policy.ready_ttl)
    }

    /// Takes over what a gate's own batch says of the gate.
    fn note_gate(
        &self,
        now: Micros,
        event: &Arc<Event>,
        side: &mut Side,
        called: u32,
        origin: Origin,
    ) {
        let Origin::Gate { version } = origin else {
            return;
        };
        side.gate.note_version(now, version);
        if called > 0 {
            side.gate.stepped_at = now;
            let departures = std::mem::take(&mut side.departures);
            let waiting = event.line.waiting() > 0;
            let measured = side.measured.get_or_insert_with(|| Measured::new(now));
            measured.note(now, called, departures, waiting);
        }
    }
}

/// A called ticket, or one that missed its turn, is back: it waits at its own place again.
fn merge_return(
    now: Micros,
    writer: &mut LineWriter<'_>,
    side: &mut Side,
    id: &TicketId,
    grace: Micros,
) {
    writer.miss(id, grace);
    writer.give_back(id);
    side.returned_until = now.after(super::tick::REASON_TOLD);
}
