//! The entries: five words a ticket, read without a lock while one writer changes them.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::model::{Micros, TicketId, TicketKey};
use crate::sync::{AtomicU64, fence};

use super::spine::Spine;
use super::state::{Kind, Word};

/// The words of one entry. The id is written last and cleared first, so it vouches for the rest.
type Entry = [AtomicU64; 5];
const ID_HIGH: usize = 0;
const ID_LOW: usize = 1;
/// Arrival of a live ticket, removal of a gone one, in microseconds.
const TIME: usize = 2;
/// A [`Word`].
const STATE: usize = 3;
/// A [`Seen`].
const SEEN: usize = 4;

type Entries = Spine<Entry, 4, 23>;

/// When a ticket was last polled for, and when the fleet was last told so, in ticks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) last: u32,
    pub(super) published: u32,
}

impl Seen {
    const fn pack(self) -> u64 {
        (self.last as u64) << 32 | self.published as u64
    }

    const fn unpack(word: u64) -> Self {
        Self {
            last: (word >> 32) as u32,
            published: word as u32,
        }
    }
}

/// One consistent reading of an entry.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) time: Micros,
    pub(super) word: Word,
}

/// All entries of a line, named by `u32` indices. An index is reused only after
/// [`Arena::erase`].
pub(super) struct Arena {
    entries: Entries,
}

impl Arena {
    /// How many entries fit (134 million).
    pub(super) const CAPACITY: u32 = Entries::CAPACITY;

    pub(super) fn new() -> Self {
        Self {
            entries: Entries::new(),
        }
    }

    /// What entry `index` says, if it is the ticket `id`'s.
    ///
    /// Two checks make it one reading. (1) The id is the same before and after: the writer clears
    /// it before it changes anything for another ticket. (2) The state word is the same before and
    /// after the time: the writer stores the state first when a ticket goes, and the time first
    /// when it comes, so that the one mixture that passes is a gone ticket with a time between its
    /// arrival and its removal, of a change in flight. Each retry has seen the writer move on.
    pub(super) fn read(&self, index: u32, id: &TicketId) -> Option<Reading> {
        let entry = self.entries.get(index)?;
        let (high, low) = halves(id);
        if entry[ID_HIGH].load(Acquire) != high || entry[ID_LOW].load(Acquire) != low {
            return None;
        }
        loop {
            let word = entry[STATE].load(Acquire);
            let time = entry[TIME].load(Acquire);
            let again = entry[STATE].load(Acquire);
            fence(Acquire);
            if entry[ID_HIGH].load(Relaxed) != high || entry[ID_LOW].load(Relaxed) != low {
                return None;
            }
            if word == again {
                let word = Word(word);
                return (word.kind() != Kind::Free).then_some(Reading {
                    time: Micros(time),
                    word,
                });
            }
        }
    }

    /// The id in entry `index`: whole for the writer, a guess for others.
    pub(super) fn id(&self, index: u32) -> Option<TicketId> {
        let entry = self.entries.get(index)?;
        Some(join(
            entry[ID_HIGH].load(Acquire),
            entry[ID_LOW].load(Acquire),
        ))
    }

    /// The key of a ticket in line, which the caller knows to stay there or checks afterwards.
    pub(super) fn key(&self, index: u32) -> TicketKey {
        let entry = self.entries.grow(index);
        let id = join(entry[ID_HIGH].load(Acquire), entry[ID_LOW].load(Acquire));
        TicketKey {
            arrival: Micros(entry[TIME].load(Acquire)),
            id,
        }
    }

    /// The sighting word of entry `index`.
    pub(super) fn seen(&self, index: u32) -> Seen {
        Seen::unpack(self.entries.grow(index)[SEEN].load(Relaxed))
    }

    /// Notes a sighting. Any thread may, and of two at once one is lost: they are of the same
    /// moment. A compare-and-swap would make every poll wait for its entry.
    pub(super) fn note_seen(&self, index: u32, seen: Seen) {
        self.entries.grow(index)[SEEN].store(seen.pack(), Relaxed);
    }

    /// Replaces the sighting if it is still `old`.
    pub(super) fn set_seen(&self, index: u32, old: Seen, new: Seen) -> bool {
        let word = &self.entries.grow(index)[SEEN];
        word.compare_exchange(old.pack(), new.pack(), Relaxed, Relaxed)
            .is_ok()
    }

    // The rest is for the one writer.

    /// Makes entry `index` the ticket `id`'s, as [`Kind::Free`] until [`Arena::set_word`].
    pub(super) fn create(&self, index: u32, id: &TicketId, time: Micros, seen: Seen) {
        let entry = self.entries.grow(index);
        let (high, low) = halves(id);
        entry[TIME].store(time.0, Relaxed);
        entry[STATE].store(0, Relaxed);
        entry[SEEN].store(seen.pack(), Relaxed);
        entry[ID_LOW].store(low, Release);
        entry[ID_HIGH].store(high, Release);
    }

    /// Takes the id out of entry `index`, so that no reader believes what is written next.
    pub(super) fn erase(&self, index: u32) {
        let entry = self.entries.grow(index);
        entry[ID_HIGH].store(0, Relaxed);
        entry[ID_LOW].store(0, Relaxed);
        fence(Release);
        entry[STATE].store(0, Release);
    }

    pub(super) fn word(&self, index: u32) -> Word {
        Word(self.entries.grow(index)[STATE].load(Relaxed))
    }

    pub(super) fn set_word(&self, index: u32, word: Word) {
        self.entries.grow(index)[STATE].store(word.0, Release);
    }

    /// A new position, the rest of the word as it is.
    pub(super) fn set_position(&self, index: u32, position: u32) {
        self.set_word(index, self.word(index).with_low(position));
    }

    pub(super) fn time(&self, index: u32) -> Micros {
        Micros(self.entries.grow(index)[TIME].load(Relaxed))
    }

    pub(super) fn set_time(&self, index: u32, time: Micros) {
        self.entries.grow(index)[TIME].store(time.0, Release);
    }
}

const fn halves(id: &TicketId) -> (u64, u64) {
    let number = id.as_u128();
    ((number >> 64) as u64, number as u64)
}

const fn join(high: u64, low: u64) -> TicketId {
    TicketId::from_u128((high as u128) << 64 | low as u128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_answers_to_its_own_id_only() {
        let arena = Arena::new();
        let (one, two) = (
            TicketId::from_u128(1 << 64 | 7),
            TicketId::from_u128(1 << 64 | 8),
        );
        let seen = Seen {
            last: 3,
            published: 4,
        };
        arena.create(5, &one, Micros(9), seen);
        assert!(arena.read(5, &one).is_none(), "free until it has a state");
        arena.set_word(5, Word::new(Kind::Waiting, 77));
        let reading = arena.read(5, &one).unwrap();
        assert_eq!((reading.time, reading.word.low()), (Micros(9), 77));
        assert!(arena.seen(5) == seen);
        assert!(arena.read(5, &two).is_none());
        assert!(arena.read(4, &one).is_none());
        arena.erase(5);
        assert!(arena.read(5, &one).is_none());
        assert!(arena.read(5, &TicketId::from_u128(0)).is_none());
    }
}
