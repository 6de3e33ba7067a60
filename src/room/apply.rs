//! Another node's records, and the gate's, become part of this memory.
//!
//! All of it is harmless when it comes twice, late, or in another order: joins and removals merge,
//! and so do words about turns, see [`super::words`].

use std::sync::Arc;
use std::time::Duration;

use super::Room;
use super::eta::Measured;
use super::event::Event;
use super::line::{LineWriter, State};
use super::restore::SEEN_TO;
use super::shares::Given;
use super::side::Side;
use super::tick::{REASON_TOLD, was_back};
use crate::model::{Batch, EventId, Gone, Kind, Micros, NodeId, Record};
use crate::model::{TicketId, TicketKey};

/// The epoch in batches that gates write into the feed, in the same step that gives turns or lets
/// in. Their node is the one that asked, their number the gate's version, their clock the store's.
/// No node's own: an asker whose answer was lost hears of its turns here.
pub const GATE_EPOCH: u32 = 0;

/// Records applied while the line's writer is held.
const APPLIED_AT_ONCE: usize = 2_048;
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
        let Record { kind, id, at } = *record;
        let of_gate = matches!(origin, Origin::Gate { .. });
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
                let until = self.by_our_clock(at);
                if let (Kind::Called, Origin::Node(node)) = (kind, origin)
                    && until > now
                {
                    // A turn out of that node's lease: entering here tells the gate of it.
                    let turn = Given {
                        until,
                        of_store: at,
                    };
                    side.gate.lent.insert(id, (node, turn));
                } else if of_gate {
                    side.gate.lent.remove(&id);
                }
                self.merge_turn(now, event, writer, side, record)
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
            writer.give_back(&record.id);
            side.returned_until = now.after(REASON_TOLD);
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
        let removed = self.strike(now, event, writer, side, &id, (at, why));
        self.uncovered(now, event, before.map(|view| view.time), &id);
        let was_live = removed.was.is_some_and(|state| !state.is_gone());
        let is_gone = removed.now.is_some_and(|state| state.is_gone());
        if was_live && is_gone && why != Gone::Entered {
            side.departures = side.departures.saturating_add(1);
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
        self.strike(now, event, writer, side, &id, (at, Gone::Entered));
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
