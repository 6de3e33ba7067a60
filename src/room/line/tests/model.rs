//! The slowest line that is right.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::model::{Micros, TicketId, TicketKey};

/// All tickets, each with everything that was ever said of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) tickets: BTreeMap<TicketId, Ticket>,
}

#[derive(Debug, Clone)]
pub(super) struct Ticket {
    pub(super) arrivals: BTreeSet<Micros>,
    /// The removal that counts: that of who entered before all others.
    pub(super) removed: Option<(bool, Micros, Reason)>,
    /// Of a live ticket.
    pub(super) turn: State,
    pub(super) leaving: bool,
}

impl Ticket {
    fn new() -> Self {
        let (arrivals, removed) = (BTreeSet::new(), None);
        Self {
            arrivals,
            removed,
            turn: State::Waiting,
            leaving: false,
        }
    }

    /// The arrival that counts.
    pub(super) fn arrival(&self) -> Option<Micros> {
        let after = |a, (entered, at, _): (bool, Micros, Reason)| !entered && a > at;
        let counts = |a: &&Micros| self.removed.is_none_or(|removed| after(**a, removed));
        self.arrivals.iter().find(counts).copied()
    }

    pub(super) fn state(&self) -> State {
        match (self.arrival(), self.removed) {
            (None, Some((.., Reason::Expired))) => State::Expired,
            (None, Some((.., Reason::Left))) => State::Left,
            (None, Some((.., Reason::Entered))) => State::Entered,
            _ => self.turn,
        }
    }

    pub(super) fn time(&self) -> Micros {
        self.arrival()
            .or(self.removed.map(|(_, at, _)| at))
            .unwrap_or_default()
    }
}

impl Model {
    pub(super) fn join(&mut self, key: TicketKey) {
        let ticket = self.tickets.entry(key.id).or_insert_with(Ticket::new);
        ticket.arrivals.insert(key.arrival);
    }

    pub(super) fn remove(&mut self, id: TicketId, at: Micros, why: Reason) {
        let ticket = self.tickets.entry(id).or_insert_with(Ticket::new);
        let before = ticket.arrival();
        let removed = (why == Reason::Entered, at, why);
        ticket.removed = ticket.removed.max(Some(removed));
        if ticket.arrival() != before {
            ticket.leaving = false;
        }
        if ticket.arrival().is_none() {
            ticket.turn = State::Waiting;
        }
    }

    /// Changes the turn of a live ticket, as `to` says of its state.
    pub(super) fn turn(&mut self, id: TicketId, to: impl FnOnce(State) -> State) {
        if let Some(ticket) = self.tickets.get_mut(&id).filter(|t| t.arrival().is_some()) {
            ticket.turn = to(ticket.turn);
        }
    }

    pub(super) fn in_state(&self, wanted: State) -> Vec<TicketKey> {
        let mut keys: Vec<_> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.state() == wanted)
            .map(|(&id, ticket)| TicketKey {
                arrival: ticket.time(),
                id,
            })
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Compares everything that can be asked of `line`. `every` samples the tickets.
    pub(super) fn check(&self, line: &Line, every: usize) {
        let waiting = self.in_state(State::Waiting);
        let returned = self.in_state(State::Returned);
        for (i, (id, ticket)) in self.tickets.iter().enumerate() {
            if i % every != 0 {
                continue;
            }
            let view = line.find(id).unwrap_or_else(|| panic!("{id} is lost"));
            let told = (view.state, view.time, view.leaving);
            assert_eq!(
                told,
                (ticket.state(), ticket.time(), ticket.leaving),
                "{id}"
            );
            let key = TicketKey {
                arrival: ticket.time(),
                id: *id,
            };
            let place = match ticket.state() {
                State::Waiting => Some(waiting.binary_search(&key).unwrap() as u64 + 1),
                State::Returned => Some(1),
                _ => None,
            };
            assert_eq!(line.place(&view), place, "{id}");
            let look = line.look(id, None, Micros(0)).unwrap();
            assert_eq!(
                (look.place, look.state, look.time),
                (place, view.state, view.time)
            );
            for slot in [look.slot, look.slot.wrapping_add(1), 0, u32::MAX] {
                let again = line.look(id, Some(slot), Micros(0)).unwrap();
                assert_eq!(
                    (again.place, again.state),
                    (look.place, look.state),
                    "slot {slot}"
                );
            }
            let rank = waiting.partition_point(|k| *k < key) as u64 + 1;
            assert_eq!(line.rank_of_key(&key), rank, "{id}");
            let after = TicketKey {
                arrival: key.arrival,
                id: TicketId::from_u128(u128::MAX),
            };
            let rank = waiting.partition_point(|k| *k < after) as u64 + 1;
            assert_eq!(line.rank_of_key(&after), rank, "{id}");
            let prefix = id.as_bytes()[..12].try_into().unwrap();
            assert_eq!(line.find_prefix(&prefix).map(|v| v.id), Some(*id));
        }
        let gone = self
            .tickets
            .values()
            .filter(|t| t.arrival().is_none())
            .count();
        let counts = line.counts();
        assert_eq!(counts.waiting, waiting.len() as u64);
        assert_eq!(counts.returned, returned.len() as u64);
        assert_eq!(counts.gone, gone as u64);
        assert_eq!(line.len(), self.tickets.len() as u64);
        let mut everybody: Vec<_> = returned.into_iter().chain(waiting).collect();
        everybody.sort_unstable();
        assert_eq!(line.waiting(), everybody.len() as u64);

        let writer = line.write();
        for count in [0, 1, 3, everybody.len() + 1] {
            let mut front = Vec::new();
            writer.front(count, true, &mut front);
            assert_eq!(front, everybody[..count.min(everybody.len())]);
        }
        let mut front = Vec::new();
        writer.front(usize::MAX, false, &mut front);
        let staying = everybody.iter().filter(|k| !self.tickets[&k.id].leaving);
        assert!(front.iter().eq(staying));

        let (mut entries, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            from = writer.entries(start, 100, &mut entries);
        }
        entries.sort_unstable_by_key(|e| e.id);
        assert!(
            entries
                .iter()
                .map(|e| e.id)
                .eq(self.tickets.keys().copied())
        );
        for (entry, ticket) in entries.iter().zip(self.tickets.values()) {
            let live = ticket.arrival().is_some();
            let removed = ticket.removed.map(|(_, at, _)| at).filter(|_| live);
            assert_eq!((entry.time, entry.state), (ticket.time(), ticket.state()));
            assert_eq!(entry.removed, removed);
            let later = ticket.arrivals.iter().filter(|&&a| live && a > entry.time);
            assert!(entry.later.iter().eq(later));
        }
    }
}
