//! Taking over what the store holds after a start, and handing memory back to it.

use std::sync::Arc;
use std::time::Duration;

use super::Room;
use super::event::Event;
use super::line::State;
use crate::model::gate::GateView;
use crate::model::{EventId, Gone, Kind, Micros, Record, TicketId, TicketKey};

/// Entries looked at while the line's writer is held.
const DUMPED_AT_ONCE: u32 = 4_096;
/// Polls are noted to a tenth of a second, and one in the same as a goodbye counts as after it.
pub(super) const SEEN_TO: Duration = Duration::from_millis(100);

impl Room {
    /// Puts a chunk of live tickets of one event in line. Fast when sorted by arrival, right anyway.
    /// What arrived before the event was forgotten is passed over.
    pub fn restore_live(&self, now: Micros, event: &EventId, tickets: &[TicketKey]) {
        let mut kept = Vec::new();
        let mut tickets = tickets;
        if let Some(until) = self.events.forgotten(event) {
            kept.extend(tickets.iter().filter(|key| key.arrival > until));
            tickets = &kept;
        }
        if tickets.is_empty() {
            return;
        }
        let Ok(event) = self.event_or_make(now, event, true) else {
            return;
        };
        if let Some(newest) = tickets.iter().map(|key| key.arrival).max() {
            self.clock.observe(newest, now, self.identity.skew_max);
        }
        event.line.write().join_many(tickets, now);
        self.events
            .note_moved(&event, tickets.iter().map(|key| key.id));
        self.schedule.at(now, &event);
    }

    /// Remembers a chunk of removed tickets of one event.
    pub fn restore_removed(
        &self,
        now: Micros,
        event: &EventId,
        removed: &[(TicketId, Micros, Gone)],
    ) {
        let forgotten = self.events.forgotten(event).unwrap_or_default();
        let mut removed = removed
            .iter()
            .filter(|(_, at, _)| *at > forgotten)
            .peekable();
        if removed.peek().is_none() {
            return;
        }
        let Ok(event) = self.event_or_make(now, event, true) else {
            return;
        };
        self.events
            .note_moved(&event, removed.clone().map(|(id, ..)| *id));
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        for (id, at, why) in removed {
            self.clock.observe(*at, now, self.identity.skew_max);
            self.strike(now, &event, &mut writer, &mut side, id, (*at, *why));
        }
        drop(side);
        drop(writer);
        self.schedule.at(now, &event);
    }

    /// Takes over a gate: open turns are open here too, who missed one may come back,
    /// and who entered has entered.
    pub fn restore_gate(&self, now: Micros, gate: &GateView) {
        // Who entered has a ticket; of an event that was forgotten and has none it is an old gate.
        let unknown = self.event(gate.event.as_str()).is_none();
        if unknown && self.events.forgotten(&gate.event).is_some() {
            return;
        }
        let Ok(event) = self.event_or_make(now, &gate.event, true) else {
            return;
        };
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        self.note_store_clock(now, gate.now, Duration::MAX);
        side.gate
            .note_version(self.by_our_clock(gate.lost_at), gate.version);
        side.gate.active = gate.active;
        side.gate.open_turns = u32::try_from(gate.called.len()).unwrap_or(u32::MAX);
        let late_grace = crate::model::micros(event.policy.load().late_grace);
        let called = gate.called.iter().map(|turn| Record {
            kind: Kind::Called,
            id: turn.id,
            at: turn.until,
        });
        let missed = gate.missed.iter().map(|turn| Record {
            kind: Kind::Missed,
            id: turn.id,
            // One that was told again after a loss is remembered for longer.
            at: Micros(turn.until.0.saturating_sub(late_grace)).min(gate.now),
        });
        for word in missed.chain(called) {
            self.merge_turn(now, &event, &mut writer, &mut side, &word);
        }
        for (id, at) in &gate.entered {
            let entered = event
                .line
                .find(id)
                .is_some_and(|view| view.state == State::Entered);
            if !entered {
                self.strike(
                    now,
                    &event,
                    &mut writer,
                    &mut side,
                    id,
                    (*at, Gone::Entered),
                );
                self.record(now, &event, Kind::Entered, *id, *at);
            }
        }
        drop(side);
        drop(writer);
        self.schedule.at(now, &event);
    }

    /// Hands out, as records, all that memory holds of one partition, sightings and goodbyes too, or only
    /// the joins and removals since a moment that is not 0: for a store that missed some. `take` is called
    /// once an event, without any lock held.
    pub fn dump(&self, partition: u16, since: Micros, mut take: impl FnMut(&EventId, Vec<Record>)) {
        for event in self.events.all() {
            let mut records = self.dump_event(&event, Some(partition));
            if since > Micros(0) {
                // Who lives has heard of sightings, and none of them lasts.
                records.retain(|record| record.at >= since && record.kind != Kind::Seen);
            } else {
                let leaves = event.side.lock().leaving.to_end();
                let of = |id: &TicketId| id.partition(self.journal.partitions()) == partition;
                records.extend(leaves.into_iter().filter(|leave| of(&leave.id)));
            }
            if !records.is_empty() {
                take(&event.id, records);
            }
        }
    }

    /// The records that make an event's line, of one partition or of all.
    pub(super) fn dump_event(&self, event: &Arc<Event>, partition: Option<u16>) -> Vec<Record> {
        let mut records = Vec::new();
        let mut entries = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            // The writer is let go between pieces: others want it.
            next = event
                .line
                .write()
                .entries(from, DUMPED_AT_ONCE, &mut entries);
            for entry in entries.drain(..) {
                let of = entry.id.partition(self.journal.partitions());
                if partition.is_some_and(|partition| of != partition) {
                    continue;
                }
                let record = |kind, at| Record {
                    kind,
                    id: entry.id,
                    at,
                };
                // A ticket that came back after a removal: the removal still refuses older joins.
                records.extend(entry.removed.map(|at| record(Kind::Left, at)));
                records.push(record(
                    match entry.state {
                        State::Left => Kind::Left,
                        State::Expired => Kind::Expired,
                        State::Entered => Kind::Entered,
                        _ => Kind::Joined,
                    },
                    entry.time,
                ));
                records.extend(entry.later.iter().map(|at| record(Kind::Joined, *at)));
                // What was to be told of a poll may be among what is missing.
                if partition.is_some() && !entry.state.is_gone() {
                    records.push(record(Kind::Seen, entry.last_seen.after(SEEN_TO)));
                }
            }
        }
        records
    }
}
