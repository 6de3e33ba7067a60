//! Walking the waiting tickets from somewhere in the middle of the line.

use crate::model::{Micros, TicketKey};

use super::writer::LineWriter;

impl LineWriter<'_> {
    /// The arrival of the waiting ticket with so many before it, or of the last one if there are
    /// fewer, and whether it is that one. `None` if nobody waits. O(segments).
    pub fn arrival_at(&self, place: u64) -> Option<(Micros, bool)> {
        let arena = &self.line.arena;
        let directory = &self.state.shape.directory;
        let mut left = place;
        let mut last = None;
        for segment in directory.locations().filter_map(|at| directory.segment(at)) {
            let live = u64::from(segment.live());
            if live > left {
                let slot = segment.taken(0..segment.slots()).nth(left as usize)?;
                return Some((arena.key(segment.entry(slot)).arrival, true));
            }
            left -= live;
            last = (live > 0).then_some(segment).or(last);
        }
        let slot = last?.taken_before(last?.slots())?;
        Some((arena.key(last?.entry(slot)).arrival, false))
    }

    /// Shows up to `count` waiting tickets after `key`, in order, to `take`, those who said goodbye
    /// left out; ends when it answers `false`. Answers the last key that was looked at.
    pub fn walk(
        &self,
        key: TicketKey,
        count: usize,
        mut take: impl FnMut(TicketKey) -> bool,
    ) -> TicketKey {
        let arena = &self.line.arena;
        let directory = &self.state.shape.directory;
        let segments = directory.locations().filter_map(|at| directory.segment(at));
        let mut segments = segments.peekable();
        let mut last = key;
        let mut looked = 0;
        while let Some(segment) = segments.next() {
            if segments.peek().is_some_and(|next| next.low <= key) {
                continue;
            }
            let from = segment.boundary(0, &key, arena);
            for slot in segment.taken(from..segment.slots()) {
                let index = segment.entry(slot);
                let found = arena.key(index);
                if found <= key {
                    continue;
                }
                if looked == count {
                    return last;
                }
                looked += 1;
                if !arena.word(index).is_leaving() && !take(found) {
                    return last;
                }
                last = found;
            }
        }
        last
    }
}
