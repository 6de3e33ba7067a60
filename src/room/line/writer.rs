//! The line of one event, as its one writer changes it: who joins, who goes, who is next.

use std::collections::BTreeMap;

use ahash::AHashMap;
use parking_lot::MutexGuard;

use crate::model::{Micros, TicketId, TicketKey};

use super::arena::{Arena, Reading, Seen};
use super::history::History;
use super::order::Shape;
use super::reader::Line;
use super::state::{Kind, Reason, State, Word};
use super::wheel::Wheel;

/// What only the writer of a line needs to know.
pub(super) struct Writer {
    pub(super) shape: Shape,
    pub(super) wheel: Wheel,
    /// The tickets in state `Returned`: a handful, ahead of the line.
    pub(super) returned: BTreeMap<TicketKey, u32>,
    /// For entries whose word says so.
    pub(super) history: AHashMap<u32, History>,
    /// Indices to use again, the last freed first.
    pub(super) free: Vec<u32>,
    /// The first index that was never used.
    fresh: u32,
    /// After how many ticks a new entry is first looked at: the last heartbeat time heard of.
    pub(super) patience: u32,
}

impl Writer {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            wheel: Wheel::default(),
            returned: BTreeMap::new(),
            history: AHashMap::default(),
            free: Vec::new(),
            fresh: 0,
            patience: 0,
        }
    }
}

/// The right to change a line, for as long as it is held. Keep it short: other writers wait.
pub struct LineWriter<'a> {
    pub(super) line: &'a Line,
    pub(super) state: MutexGuard<'a, Writer>,
}

/// What came of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// The ticket is in line now and was not before (or had been removed before this arrival).
    New,
    /// It was in line with a later arrival, and has moved ahead to this one.
    Moved,
    /// It was in line with this or an earlier arrival: nothing changed.
    Known,
    /// It was removed at or after this arrival, or entered: nothing changed.
    Gone {
        /// How it went.
        state: State,
        /// When it went.
        removed: Micros,
    },
    /// The line holds all tickets it can (134 million): nothing changed.
    Full,
}

/// What came of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Where the ticket stood before; `None` if it was not known.
    pub was: Option<State>,
    /// Where it stands now: not gone if it is known to have joined after the removal. `None` if it
    /// was not known and the line has no room to remember that it is gone.
    pub now: Option<State>,
}

/// Everything that is known of a ticket: what another node needs to know as much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The ticket.
    pub id: TicketId,
    /// When it joined, or, if it is gone, when it was removed.
    pub time: Micros,
    /// Where it stands.
    pub state: State,
    /// The visitor said goodbye and may still think better of it.
    pub leaving: bool,
    /// When it was last polled for, to a tenth of a second.
    pub last_seen: Micros,
    /// Of a live ticket, its newest removal before `time`, if there was one.
    pub removed: Option<Micros>,
    /// Of a live ticket, arrivals after `time` that other nodes gave it.
    pub later: Vec<Micros>,
}

impl LineWriter<'_> {
    /// Merges a join of ticket `id` at `arrival`; `now` is when it was last seen, if it is new.
    ///
    /// The state of a ticket is its newest removal and the smallest arrival after that; one that
    /// entered has entered, whatever else is said of it. So joins and removals may come in any order
    /// and any number of times. To let a visitor join for the
    /// first time, look with [`Line::find`] while holding this writer, and choose an arrival after
    /// the last one: then it is put at the end.
    pub fn join(&mut self, id: &TicketId, arrival: Micros, now: Micros) -> Joined {
        if let Some((index, reading)) = self.line.entry(id) {
            return self.join_again(index, id, reading, arrival, now);
        }
        let Some(index) = self.create(id, arrival, now) else {
            return Joined::Full;
        };
        self.enqueue(
            index,
            TicketKey { arrival, id: *id },
            Word::new(Kind::Free, 0),
        );
        self.line.index_entry(index, id);
        Joined::New
    }

    /// Merges a join of a ticket that has an entry.
    pub(super) fn join_again(
        &mut self,
        index: u32,
        id: &TicketId,
        Reading { time, word }: Reading,
        arrival: Micros,
        now: Micros,
    ) -> Joined {
        if let Some(state) = word.state(self.line.epoch).filter(|state| state.is_gone()) {
            if arrival <= time || state == State::Entered {
                return Joined::Gone {
                    state,
                    removed: time,
                };
            }
            self.state.history.insert(
                index,
                History {
                    removed: Some(time),
                    later: Vec::new(),
                },
            );
            let tick = self.line.epoch.tick(now);
            self.line.arena.note_seen(
                index,
                Seen {
                    last: tick,
                    published: tick,
                },
            );
            self.line.arena.set_time(index, arrival);
            self.enqueue(
                index,
                TicketKey { arrival, id: *id },
                word.with_history(true),
            );
            return Joined::New;
        }
        let before_removal = self
            .removed_before(index, word)
            .is_some_and(|r| arrival <= r);
        if arrival == time || before_removal {
            return Joined::Known;
        }
        self.state
            .history
            .entry(index)
            .or_default()
            .add(arrival.max(time));
        let word = word.with_history(true);
        self.line.arena.set_word(index, word);
        if arrival > time {
            return Joined::Known;
        }
        self.rekey(index, id, Reading { time, word }, arrival);
        Joined::Moved
    }

    /// Merges the removal of ticket `id` at `at`. A ticket that is not known is remembered as gone. One
    /// that joined again after it stands in the same state there: whether its turn was given to that
    /// place is the caller's to know, see [`Self::recall`].
    pub fn remove(&mut self, id: &TicketId, at: Micros, why: Reason) -> Removed {
        let gone = Word::new(why.into(), 0);
        let epoch = self.line.epoch;
        let Some((index, Reading { time, word })) = self.line.entry(id) else {
            let Some(index) = self.create(id, at, at) else {
                return Removed {
                    was: None,
                    now: None,
                };
            };
            self.turn_to(index, Kind::Free, gone);
            self.line.index_entry(index, id);
            return Removed {
                was: None,
                now: gone.state(epoch),
            };
        };
        let was = word.state(epoch);
        let rank = |kind: Kind, at: Micros| (kind == Kind::Entered, at, kind);
        if word.kind().is_gone() {
            if rank(gone.kind(), at) > rank(word.kind(), time) {
                self.turn_to(index, word.kind(), gone);
                self.line.arena.set_time(index, at);
            }
        } else if why == Reason::Entered
            || self
                .removed_before(index, word)
                .is_none_or(|removed| removed < at)
        {
            self.remove_live(index, id, Reading { time, word }, at, gone);
        }
        Removed {
            was,
            now: self.line.arena.word(index).state(epoch),
        }
    }

    /// Merges a removal of a live ticket that counts for more than any other.
    fn remove_live(&mut self, index: u32, id: &TicketId, reading: Reading, at: Micros, gone: Word) {
        let Reading { time, word } = reading;
        let arena = &self.line.arena;
        let enters = gone.kind() == Kind::Entered;
        if at < time && !enters {
            self.state.history.entry(index).or_default().removed = Some(at);
            arena.set_word(index, word.with_history(true));
            return;
        }
        let next = self
            .state
            .history
            .get_mut(&index)
            .filter(|_| !enters)
            .and_then(|history| history.remove(at));
        let word = word.with_leaving(false);
        match next {
            Some(arrival) => {
                arena.set_word(index, word);
                self.rekey(index, id, Reading { time, word }, arrival);
            }
            None => {
                self.state.history.remove(&index);
                self.turn_to(index, word.kind(), gone);
                self.detach(
                    word,
                    TicketKey {
                        arrival: time,
                        id: *id,
                    },
                );
                arena.set_time(index, at);
            }
        }
    }

    /// Marks whether the visitor of a live ticket has said goodbye. Whether it is a live ticket.
    pub fn set_leaving(&mut self, id: &TicketId, leaving: bool) -> bool {
        let found = self
            .line
            .entry(id)
            .filter(|(_, reading)| !reading.word.kind().is_gone());
        if let Some((index, reading)) = found {
            self.line
                .arena
                .set_word(index, reading.word.with_leaving(leaving));
        }
        found.is_some()
    }

    /// When a live ticket was last removed before it joined again, if that is known.
    pub fn removed(&self, id: &TicketId) -> Option<Micros> {
        let (index, Reading { word, .. }) = self.line.entry(id)?;
        self.removed_before(index, word)
    }

    /// Appends the next `count` tickets to be called to `out`, in order, whether they wait for their
    /// first turn or are back after one; those who said goodbye only if `leaving`.
    pub fn front(&self, count: usize, leaving: bool, out: &mut Vec<TicketKey>) {
        let arena = &self.line.arena;
        let wanted = |index: &u32| leaving || !arena.word(*index).is_leaving();
        let returned = self.state.returned.values().copied();
        let directory = &self.state.shape.directory;
        let waiting = directory.locations().filter_map(|at| directory.segment(at));
        let waiting = waiting.flat_map(|s| s.taken(0..s.slots()).map(|slot| s.entry(slot)));
        let from = out.len();
        for of in [
            &mut returned.filter(wanted) as &mut dyn Iterator<Item = u32>,
            &mut waiting.filter(wanted),
        ] {
            out.extend(of.take(count).map(|index| arena.key(index)));
        }
        out[from..].sort_unstable();
        out.truncate(from.saturating_add(count));
    }

    /// Appends what is known of up to `count` entries, from the one with index `from` on, to `out`.
    /// Where to go on, or `None` at the end. A ticket that is known throughout a walk from 0 to the
    /// end is met exactly once, though the writer be let go in between.
    pub fn entries(&self, from: u32, count: u32, out: &mut Vec<Entry>) -> Option<u32> {
        let to = from.saturating_add(count).min(self.state.fresh);
        out.extend((from..to).filter_map(|index| self.describe(index)));
        (to < self.state.fresh).then_some(to)
    }

    fn describe(&self, index: u32) -> Option<Entry> {
        let (line, arena) = (self.line, &self.line.arena);
        let word = arena.word(index);
        let TicketKey { arrival: time, id } = arena.key(index);
        let state = word.state(line.epoch)?;
        let history = self
            .state
            .history
            .get(&index)
            .filter(|_| word.has_history());
        let History { removed, later } = history.cloned().unwrap_or_default();
        let last_seen = line.epoch.time(arena.seen(index).last);
        Some(Entry {
            id,
            time,
            state,
            leaving: word.is_leaving(),
            last_seen,
            removed,
            later,
        })
    }

    // What the parts above and the other files of this module are made of.

    /// An entry for ticket `id`, without a state yet, in the wheel but not in the index.
    pub(super) fn create(&mut self, id: &TicketId, time: Micros, now: Micros) -> Option<u32> {
        let writer = &mut *self.state;
        let index = match writer.free.pop() {
            Some(index) => index,
            None if writer.fresh < Arena::CAPACITY => {
                writer.fresh += 1;
                writer.fresh - 1
            }
            None => return None,
        };
        let tick = self.line.epoch.tick(now);
        self.line.arena.create(
            index,
            id,
            time,
            Seen {
                last: tick,
                published: tick,
            },
        );
        writer
            .wheel
            .arm(index, tick.saturating_add(writer.patience));
        Some(index)
    }

    /// Puts an entry, whose time is set and whose word is `word`, in line.
    pub(super) fn enqueue(&mut self, index: u32, key: TicketKey, word: Word) {
        let Line { order, arena, .. } = self.line;
        let position = order.insert(&mut self.state.shape, arena, key, index);
        arena.set_word(index, word.with(Kind::Waiting, position));
        self.line.recount(word.kind(), Kind::Waiting);
    }

    /// Changes the state word of an entry of kind `from`, which is to be detached from where that
    /// kind is kept afterwards.
    pub(super) fn turn_to(&self, index: u32, from: Kind, word: Word) {
        self.line.arena.set_word(index, word);
        self.line.recount(from, word.kind());
    }

    /// Takes a ticket that was in state `word` from where that state is kept.
    pub(super) fn detach(&mut self, word: Word, key: TicketKey) {
        match word.kind() {
            Kind::Waiting => {
                let Line { order, arena, .. } = self.line;
                order.remove(&mut self.state.shape, arena, word.low());
            }
            Kind::Returned => {
                self.state.returned.remove(&key);
            }
            _ => {}
        }
    }

    /// Gives a live ticket another arrival, its state unchanged.
    fn rekey(&mut self, index: u32, id: &TicketId, Reading { time, word }: Reading, to: Micros) {
        let Line { order, arena, .. } = self.line;
        let key = TicketKey {
            arrival: to,
            id: *id,
        };
        match word.kind() {
            Kind::Waiting => {
                // The old segment stays until the entry names the new one.
                let shape = &mut self.state.shape;
                order.take(shape, word.low());
                arena.set_time(index, to);
                let position = order.insert(shape, arena, key, index);
                arena.set_position(index, position);
                order.tidy(shape, arena, word.low());
            }
            Kind::Returned => {
                self.state.returned.remove(&TicketKey {
                    arrival: time,
                    id: *id,
                });
                arena.set_time(index, to);
                self.state.returned.insert(key, index);
            }
            _ => arena.set_time(index, to),
        }
    }

    /// The newest removal of a live ticket, before its arrival.
    fn removed_before(&self, index: u32, word: Word) -> Option<Micros> {
        word.has_history()
            .then(|| self.state.history.get(&index)?.removed)
            .flatten()
    }
}
