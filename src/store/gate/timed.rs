//! Tickets that are looked up by id and disposed of by time.

use std::collections::BTreeSet;

use ahash::AHashMap;

use crate::model::{Micros, TicketId};

/// Tickets by id and by a moment.
#[derive(Debug, Default)]
pub(super) struct Timed {
    pub(super) by_id: AHashMap<TicketId, Micros>,
    pub(super) by_time: BTreeSet<(Micros, TicketId)>,
}

impl Timed {
    pub(super) fn insert(&mut self, id: TicketId, at: Micros) {
        if let Some(old) = self.by_id.insert(id, at) {
            self.by_time.remove(&(old, id));
        }
        self.by_time.insert((at, id));
    }

    pub(super) fn remove(&mut self, id: &TicketId) -> Option<Micros> {
        let at = self.by_id.remove(id)?;
        self.by_time.remove(&(at, *id));
        Some(at)
    }

    /// Takes the earliest out if it is not after `moment`.
    pub(super) fn pop(&mut self, moment: u64) -> Option<(Micros, TicketId)> {
        let &(at, id) = self.by_time.first()?;
        if at.0 > moment {
            return None;
        }
        self.remove(&id).map(|at| (at, id))
    }

    pub(super) fn len(&self) -> u32 {
        self.by_id.len().try_into().unwrap_or(u32::MAX)
    }
}
