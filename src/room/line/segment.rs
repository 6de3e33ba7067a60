//! A stretch of the line: up to 4,032 slots in key order, of which some hold a ticket.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::model::TicketKey;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, fence, zeroed};

use super::arena::Arena;

/// Words of a block's bitmap, and its slots.
const BLOCK_WORDS: usize = 7;
const BLOCK_SLOTS: usize = 64 * BLOCK_WORDS;
/// The most blocks a segment has: as many as a slot's number of 12 bits allows.
const BLOCKS_MAX: usize = 9;
/// The most slots a segment has.
pub(super) const SLOTS_MAX: usize = BLOCKS_MAX * BLOCK_SLOTS;

/// One cache line: which slots are taken, and how many are before each word of that bitmap.
#[derive(Default)]
#[repr(align(64))]
struct Block {
    /// Six numbers of nine bits in one word, so that they are read at once: the taken slots of this
    /// block before its words 1, 2, 3, 4, 5, 6.
    counts: AtomicU64,
    taken: [AtomicU64; BLOCK_WORDS],
}

const COUNT_BITS: usize = 9;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// A one in each count.
const ONES: u64 = 1 | 1 << 9 | 1 << 18 | 1 << 27 | 1 << 36 | 1 << 45;

impl Block {
    /// How many taken slots of this block are before `offset`, and whether that one is taken.
    fn rank(&self, offset: usize) -> (u32, bool) {
        let word = offset / 64;
        let taken = self.taken[word].load(Acquire);
        // Word 0 has no count: the shift to the left gives it a zero.
        let counts = self.counts.load(Relaxed) << COUNT_BITS;
        let words_before = (counts >> (COUNT_BITS * word)) & COUNT_MASK;
        let bits_before = (taken & ((1 << (offset % 64)) - 1)).count_ones();
        (
            words_before as u32 + bits_before,
            taken >> (offset % 64) & 1 == 1,
        )
    }

    /// Flips the slot at `offset`, and adds 1 or -1 to the counts of the words after it.
    fn flip(&self, offset: usize, change: i64) {
        let word = offset / 64;
        let taken = &self.taken[word];
        taken.store(taken.load(Relaxed) ^ 1 << (offset % 64), Release);
        let later = ONES & u64::MAX << (COUNT_BITS * word);
        let counts = self.counts.load(Relaxed);
        self.counts.store(
            counts.wrapping_add(later.wrapping_mul(change as u64)),
            Relaxed,
        );
    }
}

/// Tickets in order. Slots may be empty anywhere: they cost nothing in a rank, and give room to
/// tickets that turn up late. A ticket never changes its slot; a segment that has to be spread
/// anew is replaced by new ones.
///
/// Readers count, one writer changes. A removal changes one of the words that any one reader adds
/// up: the bits for slots of the same word, the counts of the block for those of later words, the
/// count of their own block for those of later blocks.
// In this order and alignment a rank needs one cache line of it.
#[repr(C, align(64))]
pub(super) struct Segment {
    /// Its name in the positions of its tickets.
    pub(super) number: u32,
    /// How many slots are taken.
    live: AtomicU32,
    /// How many slots are taken in the blocks before each.
    before: [AtomicU16; BLOCKS_MAX],
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
            before: Default::default(),
            blocks: (0..slots.div_ceil(BLOCK_SLOTS))
                .map(|_| Block::default())
                .collect(),
            entries: zeroed(slots),
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

    /// How many tickets are before `slot` in this segment, and whether it is taken. Two cache lines
    /// are read.
    pub(super) fn rank(&self, slot: usize) -> (u32, bool) {
        let (block, offset) = (slot / BLOCK_SLOTS, slot % BLOCK_SLOTS);
        match self.blocks.get(block) {
            None => (self.live(), false),
            Some(inside) => {
                let before = self.before[block].load(Relaxed);
                let (rank, taken) = inside.rank(offset);
                (u32::from(before) + rank, taken)
            }
        }
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

    /// The slot, from `from` on, that parts the tickets before `key` from those at or after it. By
    /// ever longer steps and bisection of the last, so that near ones are found soon.
    pub(super) fn boundary(&self, from: usize, key: &TicketKey, arena: &Arena) -> usize {
        let (mut low, mut high, mut step) = (from, self.slots(), 64);
        while low < high {
            let middle = low.midpoint(high).min(low + step);
            match self.first_key(middle..high, arena) {
                Some((slot, found)) if found < *key => low = slot + 1,
                _ => high = middle,
            }
            step *= 2;
        }
        low
    }

    // The rest is for the one writer.

    /// Puts an entry into an empty slot.
    pub(super) fn put(&self, slot: usize, entry: u32) {
        self.entries[slot].store(entry, Release);
        self.flip(slot, 1);
    }

    /// Empties a taken slot.
    pub(super) fn take(&self, slot: usize) {
        self.flip(slot, -1);
    }

    fn flip(&self, slot: usize, change: i8) {
        let (block, offset) = (slot / BLOCK_SLOTS, slot % BLOCK_SLOTS);
        self.blocks[block].flip(offset, change.into());
        for before in &self.before[block + 1..] {
            before.store(
                before.load(Relaxed).wrapping_add_signed(change.into()),
                Relaxed,
            );
        }
        self.live
            .store(self.live().wrapping_add_signed(change.into()), Relaxed);
    }

    /// Puts entries into slots of an empty segment that nobody else has yet, `slots` in any order.
    pub(super) fn fill(&mut self, slots: impl Iterator<Item = (usize, u32)>) {
        for (slot, entry) in slots {
            self.entries[slot].store(entry, Relaxed);
            let word = self.word(slot);
            word.store(word.load(Relaxed) | 1 << (slot % 64), Relaxed);
        }
        let mut sum = 0;
        let blocks = self
            .blocks
            .iter()
            .map(Some)
            .chain(std::iter::repeat_with(|| None));
        for (before, block) in self.before.iter().zip(blocks) {
            before.store(sum, Relaxed);
            let Some(block) = block else { continue };
            let (mut counts, mut within) = (0, 0);
            for (word, taken) in block.taken.iter().enumerate() {
                // The count before word 0, which is zero, is shifted out.
                counts |= within << (COUNT_BITS * word);
                within += u64::from(taken.load(Relaxed).count_ones());
            }
            block.counts.store(counts >> COUNT_BITS, Relaxed);
            sum += within as u16;
        }
        self.live.store(sum.into(), Relaxed);
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
            let mut segment = Segment::new(1, low, slots);
            let mut taken: Vec<usize> = (0..slots).filter(|s| s * 7919 % 5 < 2).collect();
            let (filled, put) = taken.split_at(taken.len() / 2);
            segment.fill(filled.iter().map(|&slot| (slot, slot as u32 + 1)));
            put.iter()
                .rev()
                .for_each(|&slot| segment.put(slot, slot as u32 + 1));
            for pass in 0..2 {
                assert_eq!(segment.live() as usize, taken.len());
                assert!(segment.taken(0..slots).eq(taken.iter().copied()));
                for slot in 0..slots {
                    let before = taken.partition_point(|&t| t < slot);
                    let is_taken = taken.get(before) == Some(&slot);
                    assert_eq!(segment.rank(slot), (before as u32, is_taken));
                    assert_eq!(segment.taken_before(slot), taken[..before].last().copied());
                    assert_eq!(
                        segment.taken(slot..slots).next(),
                        taken.get(before).copied()
                    );
                    assert_eq!(segment.is_taken(slot), is_taken);
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
