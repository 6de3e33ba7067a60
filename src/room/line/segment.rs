//! A stretch of the line: up to 3,584 slots in key order, of which some hold a ticket.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

use zerocopy::FromZeros;

use crate::model::TicketKey;

use super::arena::Arena;

/// Slots in a block: what fits a cache line beside the counter.
const BLOCK_SLOTS: usize = 64 * BLOCK_WORDS;
const BLOCK_WORDS: usize = 7;
/// The most slots a segment has: eight blocks, so that a slot's number fits 12 bits.
pub(super) const SLOTS_MAX: usize = 8 * BLOCK_SLOTS;

/// One cache line: which slots are taken, and how many are in the blocks before.
#[derive(Default)]
#[repr(align(64))]
struct Block {
    before: AtomicU32,
    taken: [AtomicU64; BLOCK_WORDS],
}

/// Tickets in order. Slots may be empty anywhere: they cost nothing in a rank, and give room to
/// tickets that turn up late. A ticket never changes its slot; a segment that has to be spread
/// anew is replaced by new ones.
///
/// Readers count, one writer changes. A removal changes one of the numbers that any one reader
/// adds up: the bit for slots of the same block, the counter for those of later blocks.
pub(super) struct Segment {
    /// Its name in the positions of its tickets.
    pub(super) number: u32,
    /// How many slots are taken.
    live: AtomicU32,
    blocks: Box<[Block]>,
    /// The entries in the slots; of an empty slot, whatever was there.
    entries: Box<[AtomicU32]>,
    /// No ticket here is before this one, except in the first segment of a line.
    pub(super) low: TicketKey,
}

impl Segment {
    /// An empty segment with `slots` slots, at most [`SLOTS_MAX`].
    pub(super) fn new(number: u32, low: TicketKey, slots: usize) -> Self {
        debug_assert!(slots <= SLOTS_MAX, "a slot's number has 12 bits");
        Self {
            number,
            live: AtomicU32::new(0),
            blocks: (0..slots.div_ceil(BLOCK_SLOTS))
                .map(|_| Block::default())
                .collect(),
            // As with `Vec`, no memory means no process.
            entries: <[AtomicU32]>::new_box_zeroed_with_elems(slots)
                .expect("the allocator has memory"),
            low,
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// How many tickets are in it.
    pub(super) fn live(&self) -> u32 {
        self.live.load(Relaxed)
    }

    /// How many tickets are before `slot` in this segment. One cache line is read.
    pub(super) fn rank(&self, slot: usize) -> u32 {
        let Some(block) = self.blocks.get(slot / BLOCK_SLOTS) else {
            return self.live();
        };
        let offset = slot % BLOCK_SLOTS;
        // Without branches: all seven words, those after the slot masked away.
        let mut rank = block.before.load(Relaxed);
        for (word, taken) in block.taken.iter().enumerate() {
            let bits = offset.saturating_sub(word * 64).min(64) as u32;
            let mask = 1u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1);
            rank += (taken.load(Relaxed) & mask).count_ones();
        }
        rank
    }

    fn word(&self, slot: usize) -> &AtomicU64 {
        &self.blocks[slot / BLOCK_SLOTS].taken[slot % BLOCK_SLOTS / 64]
    }

    /// Whether `slot` holds a ticket.
    pub(super) fn is_taken(&self, slot: usize) -> bool {
        slot < self.slots() && self.word(slot).load(Acquire) >> (slot % 64) & 1 == 1
    }

    /// The entry in `slot`, which must be taken.
    pub(super) fn entry(&self, slot: usize) -> u32 {
        self.entries[slot].load(Relaxed)
    }

    /// The taken slots within `range`, in order.
    pub(super) fn taken(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        let end = range.end.min(self.slots());
        let words = range.start / 64..end.div_ceil(64);
        words.flat_map(move |w| {
            let mut bits = self.word(w * 64).load(Acquire);
            if w * 64 < range.start {
                bits &= u64::MAX << (range.start % 64);
            }
            std::iter::from_fn(move || {
                let slot = w * 64 + bits.trailing_zeros() as usize;
                let found = bits != 0 && slot < end;
                bits &= bits.wrapping_sub(1);
                found.then_some(slot)
            })
        })
    }

    /// The last taken slot before `slot`.
    pub(super) fn taken_before(&self, slot: usize) -> Option<usize> {
        (0..slot.div_ceil(64)).rev().find_map(|w| {
            let mut bits = self.word(w * 64).load(Relaxed);
            if slot < (w + 1) * 64 {
                bits &= (1u64 << (slot % 64)) - 1;
            }
            (bits != 0).then(|| w * 64 + bits.ilog2() as usize)
        })
    }

    /// The first ticket in `range`. For any thread: a slot that changes hands while it is read is
    /// looked at again.
    fn first_key(&self, range: Range<usize>, arena: &Arena) -> Option<(usize, TicketKey)> {
        self.taken(range).find_map(|slot| {
            loop {
                let entry = self.entries[slot].load(Acquire);
                let key = arena.key(entry);
                fence(Acquire);
                if !self.is_taken(slot) {
                    return None;
                }
                if self.entry(slot) == entry {
                    return Some((slot, key));
                }
            }
        })
    }

    /// The slot that parts the tickets before `key` from those at or after it: by bisection.
    pub(super) fn boundary(&self, key: &TicketKey, arena: &Arena) -> usize {
        let (mut low, mut high) = (0, self.slots());
        while low < high {
            let middle = low.midpoint(high);
            match self.first_key(middle..high, arena) {
                Some((slot, found)) if found < *key => low = slot + 1,
                _ => high = middle,
            }
        }
        low
    }

    // The rest is for the one writer.

    /// Puts an entry into an empty slot.
    pub(super) fn put(&self, slot: usize, entry: u32) {
        self.entries[slot].store(entry, Release);
        let word = self.word(slot);
        word.store(word.load(Relaxed) | 1 << (slot % 64), Release);
        for block in &self.blocks[slot / BLOCK_SLOTS + 1..] {
            block.before.store(block.before.load(Relaxed) + 1, Relaxed);
        }
        self.live.store(self.live() + 1, Relaxed);
    }

    /// Empties a taken slot.
    pub(super) fn take(&self, slot: usize) {
        let word = self.word(slot);
        word.store(word.load(Relaxed) & !(1 << (slot % 64)), Release);
        for block in &self.blocks[slot / BLOCK_SLOTS + 1..] {
            block.before.store(block.before.load(Relaxed) - 1, Relaxed);
        }
        self.live.store(self.live() - 1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Micros, TicketId};

    #[test]
    fn ranks_and_neighbours_agree_with_a_plain_count() {
        let low = TicketKey {
            arrival: Micros(0),
            id: TicketId::from_u128(0),
        };
        for slots in [64, 500, SLOTS_MAX] {
            let segment = Segment::new(1, low, slots);
            let mut taken: Vec<usize> = (0..slots).filter(|s| s * 7919 % 5 < 2).collect();
            for &slot in taken.iter().rev() {
                segment.put(slot, slot as u32 + 1);
            }
            for pass in 0..2 {
                assert_eq!(segment.live() as usize, taken.len());
                assert!(segment.taken(0..slots).eq(taken.iter().copied()));
                for slot in 0..slots {
                    let before = taken.partition_point(|&t| t < slot);
                    assert_eq!(segment.rank(slot) as usize, before);
                    assert_eq!(segment.taken_before(slot), taken[..before].last().copied());
                    assert_eq!(
                        segment.taken(slot..slots).next(),
                        taken.get(before).copied()
                    );
                    assert_eq!(segment.is_taken(slot), taken.get(before) == Some(&slot));
                }
                if pass == 0 {
                    taken
                        .iter()
                        .filter(|&s| s % 3 == 0)
                        .for_each(|&s| segment.take(s));
                    taken.retain(|s| s % 3 != 0);
                }
            }
        }
    }
}
