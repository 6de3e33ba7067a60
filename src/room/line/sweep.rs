//! Those whose time is over: found without their help, a bounded number at a time.

use std::time::Duration;

use crate::model::{Micros, TicketId, TicketKey};

use super::reader::prefix;
use super::state::Kind;
use super::time::ticks;
use super::writer::LineWriter;

/// A ticket whose time is over. It stays as it is until the caller changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The ticket.
    pub id: TicketId,
    /// What is over.
    pub lapse: Lapse,
}

/// What of a ticket is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// It waits, and was last seen then, which is too long ago.
    Silent {
        /// When it was last seen, to a tenth of a second.
        last_seen: Micros,
    },
    /// It was called, and its turn is over. (The gate keeps its own time; this finds what it
    /// missed.)
    Turn,
    /// It missed its turn, and its late grace is over.
    Grace,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Entries looked at.
    pub examined: usize,
    /// Gone tickets forgotten.
    pub forgotten: usize,
    /// Whether the budget ended before the work did.
    pub more: bool,
}

impl LineWriter<'_> {
    /// Looks at entries whose time may have come by `now`, at most `budget`. Forgets tickets that
    /// were removed `ticket_ttl` ago. If `expire`, appends to `out` the waiting tickets not seen for
    /// `heartbeat_ttl` and those whose turn or late grace is over; they are named again after a
    /// quarter of `heartbeat_ttl` if nothing is done about them. Everything is found within 0.8
    /// seconds of its time; after `heartbeat_ttl` was shortened, within the old one.
    pub fn sweep(
        &mut self,
        now: Micros,
        heartbeat_ttl: Duration,
        ticket_ttl: Duration,
        expire: bool,
        budget: usize,
        out: &mut Vec<Due>,
    ) -> Swept {
        let now = self.line.epoch.tick(now);
        let (heartbeat, memory) = (ticks(heartbeat_ttl), ticks(ticket_ttl));
        self.state.patience = heartbeat;
        let mut swept = Swept::default();
        while swept.examined < budget {
            let Some(index) = self.state.wheel.pop(now) else {
                return swept;
            };
            swept.examined += 1;
            let due = self.due(index, heartbeat, memory);
            let TicketKey { id, .. } = self.line.arena.key(index);
            let again = match due {
                // Not later than this: a gone ticket may join again, a shorter time may be set.
                (at, _) if at > now => at.min(now.saturating_add(1 + heartbeat)),
                (_, None) => {
                    self.forget(index, &id);
                    swept.forgotten += 1;
                    continue;
                }
                (_, Some(lapse)) => {
                    if expire {
                        out.push(Due { id, lapse });
                    }
                    now.saturating_add(1 + heartbeat / 4)
                }
            };
            self.state.wheel.arm(index, again);
        }
        swept.more = true;
        swept
    }

    /// When the time of an entry is over, and what is over then; `None`: it is to be forgotten.
    fn due(&self, index: u32, heartbeat: u32, memory: u32) -> (u32, Option<Lapse>) {
        let (epoch, arena) = (self.line.epoch, &self.line.arena);
        let word = arena.word(index);
        match word.kind() {
            Kind::Called => (word.low(), Some(Lapse::Turn)),
            Kind::Missed => (word.low(), Some(Lapse::Grace)),
            Kind::Waiting | Kind::Returned => {
                let last = arena.seen(index).last;
                let last_seen = epoch.time(last);
                (
                    last.saturating_add(heartbeat),
                    Some(Lapse::Silent { last_seen }),
                )
            }
            _ => (
                epoch.deadline(arena.time(index)).saturating_add(memory),
                None,
            ),
        }
    }

    /// Frees the entry of a gone ticket.
    fn forget(&mut self, index: u32, id: &TicketId) {
        let line = self.line;
        line.recount(line.arena.word(index).kind(), Kind::Free);
        line.index.remove(prefix(id), index);
        line.arena.erase(index);
        self.state.free.push(index);
    }
}
