//! How a ticket's records merge: the newest removal, and the smallest arrival later than it. One that
//! entered has entered, whatever else is said of it.

use crate::model::{Gone, Kind, Micros, Record, TicketId};

use super::Stored;

/// What is durable of one ticket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// In line since; `None` when not in line.
    pub arrival: Option<Micros>,
    /// The removal that counts, while it is remembered.
    pub removed: Option<(Micros, Gone)>,
}

impl Held {
    /// Merges one record in. Answers whether anything changed.
    pub fn apply(&mut self, record: &Record) -> bool {
        let before = *self;
        if let Some(why) = record.kind.gone() {
            // Of two removals in one microsecond the greater kind stays, on every copy.
            let rank = |(at, why): (Micros, Gone)| (why == Gone::Entered, at, why.kind() as u8);
            if self
                .removed
                .is_none_or(|held| rank(held) < rank((record.at, why)))
            {
                self.removed = Some((record.at, why));
            }
            self.arrival = self.arrival.filter(|arrival| self.counts(*arrival));
        } else if record.kind == Kind::Joined && self.counts(record.at) {
            self.arrival = Some(self.arrival.map_or(record.at, |held| held.min(record.at)));
        }
        *self != before
    }

    /// Whether an arrival is of a ticket in line, as far as its removal goes.
    fn counts(&self, arrival: Micros) -> bool {
        self.removed
            .is_none_or(|(at, why)| why != Gone::Entered && arrival > at)
    }

    /// Forgets a removal of `horizon` or before.
    pub fn forget_removed(&mut self, horizon: Micros) {
        self.removed = self.removed.filter(|(at, _)| *at > horizon);
    }

    /// Forgets what happened until this moment.
    pub fn erase(&mut self, until: Micros) {
        self.arrival = self.arrival.filter(|arrival| *arrival > until);
        self.forget_removed(until);
    }

    /// Whether nothing is left to remember.
    pub fn is_empty(&self) -> bool {
        self.arrival.is_none() && self.removed.is_none()
    }

    /// The ticket as a load answers it.
    pub fn stored(&self, id: TicketId) -> impl Iterator<Item = Stored> {
        let removed = self
            .removed
            .map(|(at, why)| Stored::Removed { id, at, why });
        let live = self.arrival.map(|arrival| Stored::Live { id, arrival });
        removed.into_iter().chain(live)
    }
}
