//! Turns: a ticket is called, misses its turn, comes back.

use crate::model::{Micros, TicketId, TicketKey};

use super::arena::Reading;
use super::state::{Kind, State};
use super::writer::LineWriter;

impl LineWriter<'_> {
    /// The turn of ticket `id` has come and lasts until `until`: it leaves the line, whether it
    /// waited, had missed its turn or had returned. A turn that was given before is prolonged, never
    /// cut. Returns where the ticket stood before, `None` if it is not known; a gone one stays gone.
    pub fn call(&mut self, id: &TicketId, until: Micros) -> Option<State> {
        self.turn(
            id,
            |kind, low, deadline| match kind {
                Kind::Waiting | Kind::Missed | Kind::Returned => Some((Kind::Called, deadline)),
                Kind::Called => Some((Kind::Called, deadline.max(low))),
                _ => None,
            },
            until,
        )
    }

    /// The turn of a called ticket has lapsed; it may come back until `until`. Tickets in other
    /// states stay as they are. Returns where the ticket stood before.
    pub fn miss(&mut self, id: &TicketId, until: Micros) -> Option<State> {
        self.turn(
            id,
            |kind, _, deadline| (kind == Kind::Called).then_some((Kind::Missed, deadline)),
            until,
        )
    }

    /// The visitor of a ticket that missed its turn is back: it waits ahead of the line. Tickets in
    /// other states stay as they are. Returns where the ticket stood before.
    pub fn give_back(&mut self, id: &TicketId) -> Option<State> {
        self.turn(
            id,
            |kind, low, _| (kind == Kind::Missed).then_some((Kind::Returned, low)),
            Micros(0),
        )
    }

    /// Those who are back after a missed turn, in order; not those who said goodbye.
    pub fn returned(&self) -> impl Iterator<Item = TicketKey> + '_ {
        let word = |index: u32| self.line.arena.word(index);
        let returned = self.state.returned.iter();
        let returned = returned.filter(move |(_, index)| !word(**index).is_leaving());
        returned.map(|(key, _)| *key)
    }

    /// Takes a turn back, used or missed, as if it had never come (it was given to an earlier place):
    /// the ticket waits at its own place again. Tickets in other states stay as they are. Returns
    /// where the ticket stood before.
    pub fn recall(&mut self, id: &TicketId) -> Option<State> {
        let (index, Reading { time, word }) = self.line.entry(id)?;
        if matches!(word.kind(), Kind::Called | Kind::Missed | Kind::Returned) {
            let key = TicketKey {
                arrival: time,
                id: *id,
            };
            self.detach(word, key);
            self.enqueue(index, key, word);
        }
        word.state(self.line.epoch)
    }

    /// Turns a ticket to what `to` makes of its kind, its word's number and the deadline `until`.
    fn turn(
        &mut self,
        id: &TicketId,
        to: impl FnOnce(Kind, u32, u32) -> Option<(Kind, u32)>,
        until: Micros,
    ) -> Option<State> {
        let (index, Reading { time, word }) = self.line.entry(id)?;
        let deadline = self.line.epoch.deadline(until);
        if let Some((kind, low)) = to(word.kind(), word.low(), deadline) {
            let key = TicketKey {
                arrival: time,
                id: *id,
            };
            self.turn_to(index, word.kind(), word.with(kind, low));
            self.detach(word, key);
            if kind == Kind::Returned {
                self.state.returned.insert(key, index);
            }
        }
        word.state(self.line.epoch)
    }
}
