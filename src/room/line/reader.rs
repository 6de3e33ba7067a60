//! The line of one event, as any thread may read it: without a lock, without allocating.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::sync::waits::Mutex;

use crate::model::{Micros, TicketId, TicketKey};
use crate::sync::{AtomicU32, Guard};

use super::arena::{Arena, Reading, Seen};
use super::index::Index;
use super::order::Order;
use super::state::{Kind, State};
use super::time::{Epoch, ticks};
use super::writer::{LineWriter, Writer};

/// All tickets of one event: *who* (id → entry) and *where* (order statistics over arrival and id).
///
/// Status polls read published atomics and never wait, neither for each other nor for a writer.
/// Whoever changes the line takes the writer with [`Line::write`]. Resident memory is about 65
/// bytes a ticket and 1.5 KiB an empty line.
pub struct Line {
    pub(super) epoch: Epoch,
    pub(super) arena: Arena,
    pub(super) index: Index,
    pub(super) order: Order,
    changing: Changing,
}

/// What every change writes: on cache lines of its own, so that readers of the rest keep theirs.
#[repr(align(128))]
struct Changing {
    /// Tickets by [`Kind`].
    counts: [AtomicU32; 8],
    /// Guards all changes; held for one change or one bounded batch of them.
    writer: Mutex<Writer>,
}

/// What is known of one ticket: a value as of when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// The ticket.
    pub id: TicketId,
    /// When it joined, or, if it is gone, when it was removed. (While a removal is under way on
    /// another thread, a gone ticket may for a moment show its arrival here.)
    pub time: Micros,
    /// Where it stands.
    pub state: State,
    /// The visitor said goodbye and may still think better of it.
    pub leaving: bool,
    pub(super) position: u32,
    pub(super) retired: u32,
}

/// What a poll needs to know of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Where the ticket is kept, for a quicker look next time. Good for this line's life.
    pub slot: u32,
    /// When it joined, or, if it is gone, when it was removed.
    pub time: Micros,
    /// Where it stands.
    pub state: State,
    /// The visitor said goodbye and may still think better of it.
    pub leaving: bool,
    /// Its place, from 1, while it waits.
    pub place: Option<u64>,
    /// When it was last polled for before, to a tenth of a second.
    pub previous_seen: Micros,
    /// When the fleet was last told of a sighting, to a tenth of a second.
    pub published: Micros,
}

/// How many tickets stand where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// In line.
    pub waiting: u64,
    /// Ready to enter.
    pub called: u64,
    /// Late for their turn.
    pub missed: u64,
    /// Back after a missed turn, ahead of the line.
    pub returned: u64,
    /// Removed and still remembered.
    pub gone: u64,
}

impl Line {
    /// An empty line. Times of sightings and turns are kept from `epoch` on (earlier ones count as
    /// `epoch`) for 13 years. Tickets that join at the end are put `stride` slots apart (1–64):
    /// more than 1 leaves room for those that other nodes took meanwhile, at 4 bytes a slot.
    pub fn new(epoch: Micros, stride: usize) -> Self {
        let (order, shape) = Order::new(stride);
        Self {
            epoch: Epoch::new(epoch),
            arena: Arena::new(),
            index: Index::new(),
            order,
            changing: Changing {
                counts: Default::default(),
                writer: Mutex::new(Writer::new(shape)),
            },
        }
    }

    /// The right to change the line; waits for other writers, never for readers.
    pub fn write(&self) -> LineWriter<'_> {
        LineWriter {
            line: self,
            state: self.changing.writer.lock(),
        }
    }

    /// What is known of ticket `id`, live or gone.
    pub fn find(&self, id: &TicketId) -> Option<View> {
        let retired = self.order.retired();
        let (_, reading) = self.entry(id)?;
        self.view(*id, reading, retired)
    }

    /// The ticket whose id begins with `prefix`, a live one if there are several: "the same key
    /// with another body".
    pub fn find_prefix(&self, prefix: &[u8; 12]) -> Option<View> {
        let retired = self.order.retired();
        let [first, ..] = prefix.as_chunks().0 else {
            return None;
        };
        let mut gone = None;
        let live = self.index.find(u64::from_be_bytes(*first), |index| {
            let id = self
                .arena
                .id(index)
                .filter(|id| id.as_bytes().starts_with(prefix))?;
            let view = self.view(id, self.arena.read(index, &id)?, retired)?;
            if view.state.is_gone() {
                gone.get_or_insert(view);
                return None;
            }
            Some(view)
        });
        live.or(gone)
    }

    /// The place of a ticket, from 1; `None` if it does not wait. A `Returned` ticket has place 1.
    /// Quickest right after the view was taken.
    pub fn place(&self, view: &View) -> Option<u64> {
        match view.state {
            State::Waiting => match self.order.rank_again(view.position, view.retired) {
                Some(rank) => Some(u64::from(rank) + 1),
                None => {
                    let directory = self.order.load();
                    let (index, reading) = self.entry(&view.id)?;
                    self.settle(directory, index, &view.id, reading)?.1
                }
            },
            State::Returned => Some(1),
            _ => None,
        }
    }

    /// What a poll at `now` needs to know of ticket `id`; a live ticket is noted as seen at `now`.
    /// Never rises from poll to poll because others are removed.
    ///
    /// `slot` may name where the ticket was last found ([`Look::slot`]): if it is still there, the
    /// index is not asked, which saves one of the cold reads that make up most of the cost.
    pub fn look(&self, id: &TicketId, slot: Option<u32>, now: Micros) -> Option<Look> {
        let directory = self.order.load();
        let remembered = slot.and_then(|slot| Some((slot, self.arena.read(slot, id)?)));
        let (index, reading) = match remembered {
            Some(found) => found,
            None => self.entry(id)?,
        };
        let seen = self.arena.seen(index);
        let (reading, place) = self.settle(directory, index, id, reading)?;
        let state = reading.word.state(self.epoch)?;
        let tick = self.epoch.tick(now);
        if seen.last < tick && !state.is_gone() {
            self.arena.note_seen(index, Seen { last: tick, ..seen });
        }
        Some(Look {
            slot: index,
            time: reading.time,
            state,
            leaving: reading.word.is_leaving(),
            place,
            previous_seen: self.epoch.time(seen.last),
            published: self.epoch.time(seen.published),
        })
    }

    /// Whether the fleet should be told that ticket `id` was seen at `now`, because it was last told
    /// `every` ago or longer. Of several threads that ask at once, one is told so (two, if a poll
    /// is noted in the same nanoseconds; telling twice is harmless).
    pub fn claim_sighting(&self, id: &TicketId, now: Micros, every: Duration) -> bool {
        let Some((index, _)) = self.entry(id) else {
            return false;
        };
        let (old, tick) = (self.arena.seen(index), self.epoch.tick(now));
        let new = Seen {
            last: old.last.max(tick),
            published: tick,
        };
        tick.saturating_sub(old.published) >= ticks(every) && self.arena.set_seen(index, old, new)
    }

    /// When ticket `id` was last polled for, and when the fleet was last told so, to a tenth of a
    /// second: the first is later while only this node knows of the poll.
    pub fn sightings(&self, id: &TicketId) -> Option<(Micros, Micros)> {
        let seen = self.arena.seen(self.entry(id)?.0);
        Some((self.epoch.time(seen.last), self.epoch.time(seen.published)))
    }

    /// Another node saw ticket `id` at `at`: it is alive, and the fleet knows.
    pub fn heard(&self, id: &TicketId, at: Micros) {
        let Some((index, _)) = self.entry(id) else {
            return;
        };
        let tick = self.epoch.tick(at);
        loop {
            let old = self.arena.seen(index);
            let new = Seen {
                last: old.last.max(tick),
                published: old.published.max(tick),
            };
            if new == old || self.arena.set_seen(index, old, new) {
                return;
            }
        }
    }

    /// The place a waiting ticket with `key` has or would have, from 1, as if it were in line.
    pub fn rank_of_key(&self, key: &TicketKey) -> u64 {
        u64::from(self.order.load().rank_of(key, &self.arena)) + 1
    }

    /// How many wait for their turn.
    pub fn waiting(&self) -> u64 {
        self.count(&[Kind::Waiting, Kind::Returned])
    }

    /// How many tickets are known, gone ones included.
    pub fn len(&self) -> u64 {
        let Counts {
            waiting,
            called,
            missed,
            returned,
            gone,
        } = self.counts();
        waiting + called + missed + returned + gone
    }

    /// Whether no ticket is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tickets stand where.
    pub fn counts(&self) -> Counts {
        Counts {
            waiting: self.count(&[Kind::Waiting]),
            called: self.count(&[Kind::Called]),
            missed: self.count(&[Kind::Missed]),
            returned: self.count(&[Kind::Returned]),
            gone: self.count(&[Kind::Expired, Kind::Left, Kind::Entered]),
        }
    }

    fn count(&self, kinds: &[Kind]) -> u64 {
        kinds
            .iter()
            .map(|&kind| u64::from(self.changing.counts[kind as usize].load(Relaxed)))
            .sum()
    }

    /// Lets entry `index`, ticket `id`'s, be found. For the one writer.
    pub(super) fn index_entry(&self, index: u32, id: &TicketId) {
        self.index
            .insert(prefix(id), index, |index| prefix(&self.arena.key(index).id));
    }

    /// Moves one ticket from one count to the other. For the one writer.
    pub(super) fn recount(&self, from: Kind, to: Kind) {
        let add = |kind: Kind, change: i32| {
            let count = &self.changing.counts[kind as usize];
            count.store(count.load(Relaxed).wrapping_add_signed(change), Relaxed);
        };
        add(from, -1);
        add(to, 1);
    }

    /// The entry of ticket `id`.
    pub(super) fn entry(&self, id: &TicketId) -> Option<(u32, Reading)> {
        self.index.find(prefix(id), |index| {
            Some((index, self.arena.read(index, id)?))
        })
    }

    /// The place of a ticket whose entry was read after `directory` was loaded. Reads again while
    /// the entry is ahead of the directory.
    fn settle(
        &self,
        mut directory: Guard<std::sync::Arc<super::directory::Directory>>,
        index: u32,
        id: &TicketId,
        mut reading: Reading,
    ) -> Option<(Reading, Option<u64>)> {
        loop {
            match reading.word.kind() {
                Kind::Waiting => {
                    if let Some(rank) = self.order.rank(&directory, reading.word.low()) {
                        return Some((reading, Some(u64::from(rank) + 1)));
                    }
                }
                Kind::Returned => return Some((reading, Some(1))),
                _ => return Some((reading, None)),
            }
            directory = self.order.load();
            reading = self.arena.read(index, id)?;
        }
    }

    fn view(&self, id: TicketId, Reading { time, word }: Reading, retired: u32) -> Option<View> {
        let state = word.state(self.epoch)?;
        let leaving = word.is_leaving();
        Some(View {
            id,
            time,
            state,
            leaving,
            position: word.low(),
            retired,
        })
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

/// The part of an id that is hashed.
pub(super) const fn prefix(id: &TicketId) -> u64 {
    (id.as_u128() >> 64) as u64
}
