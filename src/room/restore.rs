//! Taking over what the store holds after a start, and handing memory back to it.

use std::sync::Arc;

use super::Room;
use super::event::Event;
use super::line::State;
use crate::model::gate::GateView;
use crate::model::{EventId, Gone, Kind, Micros, Record, TicketId};

impl Room {
    /// Puts a chunk of live tickets of one event in line. Fast when sorted by arrival, right anyway.
    pub fn restore_live(&self, now: Micros, event: &EventId, tickets: &mut Vec<(TicketId, Micros)>) {
        let Ok(event) = self.event_or_make(now, event, true) else { return };
        if let Some(newest) = tickets.iter().map(|(_, arrival)| *arrival).max() {
            self.clock.observe(newest, now, self.identity.skew_max);
        }
        event.line.write().join_many(tickets, now);
        self.schedule.at(now, &event);
    }

    /// Remembers a chunk of removed tickets of one event.
    pub fn restore_removed(&self, now: Micros, event: &EventId, removed: &[(TicketId, Micros, Gone)]) {
        let Ok(event) = self.event_or_make(now, event, true) else { return };
        let mut writer = event.line.write();
        for (id, at, why) in removed {
            self.clock.observe(*at, now, self.identity.skew_max);
            writer.remove(id, *at, *why);
        }
        drop(writer);
        self.schedule.at(now, &event);
    }

    /// Takes over a gate: open turns are open here too, and who entered has entered.
    pub fn restore_gate(&self, now: Micros, store_now: Micros, gate: &GateView) {
        let Ok(event) = self.event_or_make(now, &gate.event, true) else { return };
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        side.gate.version = gate.version;
        side.gate.active = gate.active;
        side.gate.open_turns = u32::try_from(gate.called.len()).unwrap_or(u32::MAX);
        for turn in &gate.called {
            if event.line.find(&turn.id).is_some_and(|view| view.state == State::Waiting) {
                writer.call(&turn.id, now.after(turn.until.since(store_now)));
            }
        }
        for (id, at) in &gate.entered {
            let entered = event.line.find(id).is_some_and(|view| view.state == State::Entered);
            if !entered {
                let arrival = event.line.find(id).map_or(*at, |view| view.moment);
                let at = (*at).max(arrival);
                writer.remove(id, at, Gone::Entered);
                self.record(now, &event, Kind::Entered, *id, at);
            }
        }
        drop(side);
        drop(writer);
        self.schedule.at(now, &event);
    }

    /// Hands out, as records, all that memory holds of one partition: for a store that missed some.
    /// `take` is called once an event, without any lock held.
    pub fn dump(&self, partition: u16, mut take: impl FnMut(&EventId, Vec<Record>)) {
        for event in self.events.all() {
            let records = self.dump_event(&event, partition);
            if !records.is_empty() {
                take(&event.id, records);
            }
        }
    }

    fn dump_event(&self, event: &Arc<Event>, partition: u16) -> Vec<Record> {
        let mut records = Vec::new();
        let mine = |id: &TicketId| id.partition(self.journal.partitions()) == partition;
        event.line.each(|view, id| {
            if !mine(&id) {
                return;
            }
            let kind = match view.state {
                State::Left => Kind::Left,
                State::Expired => Kind::Expired,
                State::Entered => Kind::Entered,
                _ => Kind::Joined,
            };
            records.push(Record { kind, id, at: view.moment });
        });
        records
    }
}
