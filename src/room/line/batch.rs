//! Many joins at once: the feeds of other nodes, the load at start.

use crate::model::{Micros, TicketKey};

use super::reader::{Line, prefix};
use super::state::{Kind, Word};
use super::writer::{Joined, LineWriter};

/// What came of a batch of joins, as counts of [`Joined`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joins {
    /// In line now and not before.
    pub new: u64,
    /// Moved ahead to an earlier arrival.
    pub moved: u64,
    /// In line before, unchanged.
    pub known: u64,
    /// Removed at or after the arrival.
    pub gone: u64,
    /// Not taken: the line was full.
    pub full: u64,
}

impl LineWriter<'_> {
    /// Merges joins, in any order, duplicates allowed, with the same result as
    /// [`LineWriter::join`] on each; `now` is when the new ones were last seen. Late ones are put
    /// between those in line a segment at a time, so a batch costs little more than its tickets at
    /// the end would. The writer is held throughout: give some thousands at once while others wait.
    pub fn join_many(&mut self, joins: &[TicketKey], now: Micros) -> Joins {
        let Line {
            arena,
            index,
            order,
            ..
        } = self.line;
        let mut joins_done = Joins::default();
        let mut batch = Vec::with_capacity(joins.len());
        let mut again = Vec::new();
        for key in joins {
            // An entry without a state is one that this batch has just made.
            let same = |entry| (arena.id(entry) == Some(key.id)).then_some(entry);
            match index.find(prefix(&key.id), same) {
                Some(entry) if arena.word(entry).kind() == Kind::Free => again.push(*key),
                Some(_) => joins_done.count(self.join(&key.id, key.arrival, now)),
                None => match self.create(&key.id, key.arrival, now) {
                    Some(entry) => {
                        self.line.index_entry(entry, &key.id);
                        batch.push((*key, entry));
                    }
                    None => joins_done.full += 1,
                },
            }
        }
        batch.sort_unstable();
        order.insert_many(
            &mut self.state.shape,
            arena,
            &batch,
            &mut |entry, position| {
                arena.set_word(entry, Word::new(Kind::Waiting, position));
                self.line.recount(Kind::Free, Kind::Waiting);
            },
        );
        joins_done.new += batch.len() as u64;
        for key in again {
            joins_done.count(self.join(&key.id, key.arrival, now));
        }
        joins_done
    }
}

impl Joins {
    fn count(&mut self, joined: Joined) {
        let count = match joined {
            Joined::New => &mut self.new,
            Joined::Moved => &mut self.moved,
            Joined::Known => &mut self.known,
            Joined::Gone { .. } => &mut self.gone,
            Joined::Full => &mut self.full,
        };
        *count += 1;
    }
}
