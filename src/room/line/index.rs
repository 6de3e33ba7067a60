//! Who: from a ticket's id to its entry, read without a lock.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, LazyLock};

use ahash::RandomState;

use crate::sync::{ArcSwap, AtomicU64, OnceLock, random_state, zeroed};

/// How many tables share the ids of a long line, so that making one larger is a short pause.
const SHARDS: usize = 512;
/// How many ids are in one table before there are shards, so that a short line costs little.
const UNSHARDED_MAX: usize = 4096;
/// A slot that was never used: the search ends here.
const EMPTY: u64 = 0;
/// A slot whose entry was taken out: the search goes on.
const TOMB: u64 = u32::MAX as u64;
/// The smallest table.
const SLOTS_MIN: usize = 4;

/// What all lines without tickets share.
static NOTHING: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::new(0)));

/// Open addressing with linear probing. A slot holds 32 bits of the hash and the entry's index
/// plus one. Ids are hashed by their first eight bytes only, so that all ids of one prefix are
/// found on one path; the hash is keyed anew for every line.
///
/// A miss is certain: whoever was inserted before the search began is found, because a larger
/// table is complete before it is published, and a slot goes back to empty only at the end of a
/// path.
///
/// The same holds for the one table of a short line: it stays as it was when the shards came, for
/// those who looked just before.
pub(super) struct Index {
    first: ArcSwap<Table>,
    shards: OnceLock<Box<[ArcSwap<Table>]>>,
    hasher: RandomState,
}

struct Table {
    slots: Box<[AtomicU64]>,
    /// Slots that are not empty, in the high half; those that hold an entry, in the low half. The
    /// writer's alone.
    usage: std::sync::atomic::AtomicU64,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            first: ArcSwap::new(Arc::clone(&NOTHING)),
            shards: OnceLock::new(),
            hasher: random_state(),
        }
    }

    /// The table, and the hash fragment, of ids that begin with `prefix`.
    fn hash(&self, prefix: u64) -> (&ArcSwap<Table>, u32) {
        let hash = self.hasher.hash_one(prefix);
        let shard = self.shards.get().and_then(|shards| shards.get(shard(hash)));
        (shard.unwrap_or(&self.first), (hash >> 32) as u32)
    }

    /// The first answer of `test` among the entries whose ids may begin with `prefix`.
    pub(super) fn find<R>(&self, prefix: u64, mut test: impl FnMut(u32) -> Option<R>) -> Option<R> {
        let (shard, fragment) = self.hash(prefix);
        let table = shard.load();
        table.path(fragment).find_map(|(_, slot)| {
            let candidate = slot >> 32 == u64::from(fragment) && slot as u32 != TOMB as u32;
            if candidate {
                test(slot as u32 - 1)
            } else {
                None
            }
        })
    }

    /// Adds entry `index`, which must not be in the index, under `prefix`. `prefix_of` tells the
    /// prefix of those that are.
    pub(super) fn insert(&self, prefix: u64, index: u32, prefix_of: impl Fn(u32) -> u64) {
        if self.shards.get().is_none() && self.first.load().usage().1 >= UNSHARDED_MAX {
            self.split(prefix_of);
        }
        let (shard, fragment) = self.hash(prefix);
        let table = shard.load();
        let (filled, held) = table.usage();
        if filled < table.slots.len() * 3 / 4 {
            table.put(fragment, index);
            return;
        }
        let larger = table.rehashed(held);
        larger.put(fragment, index);
        shard.store(Arc::new(larger));
    }

    /// Deals the entries of the first table out to shards.
    fn split(&self, prefix_of: impl Fn(u32) -> u64) {
        let mut shards: Vec<Vec<(u32, u32)>> = vec![Vec::new(); SHARDS];
        for (fragment, index) in self.first.load().entries() {
            let hash = self.hasher.hash_one(prefix_of(index));
            shards[shard(hash)].push((fragment, index));
        }
        let table = |entries: Vec<(u32, u32)>| {
            let table = Table::new(slots_for(entries.len()));
            entries
                .into_iter()
                .for_each(|(fragment, index)| table.put(fragment, index));
            ArcSwap::from_pointee(table)
        };
        self.shards
            .get_or_init(|| shards.into_iter().map(table).collect());
    }

    /// Takes entry `index`, which is in the index under `prefix`, out.
    pub(super) fn remove(&self, prefix: u64, index: u32) {
        let (shard, fragment) = self.hash(prefix);
        let table = shard.load();
        table.take(fragment, index);
        let (_, held) = table.usage();
        if held * 8 < table.slots.len() && table.slots.len() > SLOTS_MIN {
            let smaller = if held == 0 {
                Arc::clone(&NOTHING)
            } else {
                Arc::new(table.rehashed(held))
            };
            shard.store(smaller);
        }
    }
}

/// The shard of a hash. The first have half as many ids again as the last, evenly in between: so
/// they outgrow their tables one after the other, as much of the index as ever is empty slots, and
/// the table that one leaves is of the size that the next one wants.
fn shard(hash: u64) -> usize {
    // x (6 - x) / 5 for x from 0 to 1, whose slope falls from 6/5 to 4/5, in units of 2^-28.
    let x = hash as u32 >> 4;
    let x = u64::from(x);
    let y = x * ((6 << 28) - x) / 5;
    (y >> (56 - SHARDS.ilog2())) as usize
}

/// The slots of a table for `held` entries: at least twice as many, of sizes that all tables share.
/// A table that is full, at three quarters, is followed by the next size, never by the one after.
fn slots_for(held: usize) -> usize {
    let mut slots = SLOTS_MIN;
    while slots < held * 2 {
        slots += slots / 2;
    }
    slots
}

impl Table {
    fn new(slots: usize) -> Self {
        Self {
            slots: zeroed(slots),
            usage: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// How many slots are not empty, and how many hold an entry.
    fn usage(&self) -> (usize, usize) {
        let usage = self.usage.load(Relaxed);
        ((usage >> 32) as usize, usage as u32 as usize)
    }

    fn set_usage(&self, (filled, held): (usize, usize)) {
        self.usage
            .store((filled as u64) << 32 | held as u64, Relaxed);
    }

    /// Where the search for `fragment` begins. Monotone in the fragment, so that growing a table
    /// walks both old and new one in order.
    fn home(&self, fragment: u32) -> usize {
        ((u64::from(fragment) * self.slots.len() as u64) >> 32) as usize
    }

    /// The slots that are not empty from the home of `fragment` on, as (place, value).
    fn path(&self, fragment: u32) -> impl Iterator<Item = (usize, u64)> {
        let (before, after) = self.slots.split_at(self.home(fragment));
        let places = before.len()..;
        let turned = places.zip(after).chain((0..).zip(before));
        turned
            .map(|(place, slot)| (place, slot.load(Acquire)))
            .take_while(|&(_, slot)| slot != EMPTY)
    }

    /// Stores an entry in the first free slot of its path. There is one.
    fn put(&self, fragment: u32, index: u32) {
        let (mut filled, held) = self.usage();
        let mut place = self.home(fragment);
        loop {
            match self.slots[place].load(Relaxed) {
                EMPTY => {
                    filled += 1;
                    break;
                }
                TOMB => break,
                _ => place = self.next(place),
            }
        }
        self.slots[place].store(u64::from(fragment) << 32 | (u64::from(index) + 1), Release);
        self.set_usage((filled, held + 1));
    }

    /// Frees an entry's slot; at the end of a path, the tombs that lead there too.
    fn take(&self, fragment: u32, index: u32) {
        let wanted = u64::from(fragment) << 32 | (u64::from(index) + 1);
        let Some((mut place, _)) = self.path(fragment).find(|&(_, slot)| slot == wanted) else {
            return;
        };
        let (mut filled, held) = self.usage();
        self.slots[place].store(TOMB, Release);
        if self.slots[self.next(place)].load(Relaxed) == EMPTY {
            while self.slots[place].load(Relaxed) == TOMB {
                self.slots[place].store(EMPTY, Release);
                filled -= 1;
                place = if place == 0 {
                    self.slots.len() - 1
                } else {
                    place - 1
                };
            }
        }
        self.set_usage((filled, held - 1));
    }

    fn next(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() {
            0
        } else {
            place + 1
        }
    }

    /// A table with room for `held` entries and as it comes half as many more, and with the same
    /// ones.
    fn rehashed(&self, held: usize) -> Self {
        let new = Self::new(slots_for(held));
        self.entries()
            .for_each(|(fragment, index)| new.put(fragment, index));
        new
    }

    /// The hash fragments and indices of all entries.
    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        let slots = self.slots.iter().map(|slot| slot.load(Relaxed));
        let held = slots.filter(|&slot| slot != EMPTY && slot != TOMB);
        held.map(|slot| ((slot >> 32) as u32, slot as u32 - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(index: &Index, prefix: u64, entry: u32) -> bool {
        index.find(prefix, |i| (i == entry).then_some(())).is_some()
    }

    #[test]
    fn everything_put_in_is_found_until_taken_out() {
        let index = Index::new();
        let prefix = |i: u32| u64::from(i / 3);
        for i in 0..20_000 {
            assert!(!has(&index, prefix(i), i));
            index.insert(prefix(i), i, prefix);
            assert!(has(&index, prefix(i), i));
        }
        for i in (0..20_000).filter(|i| i % 7 != 0) {
            index.remove(prefix(i), i);
        }
        for i in 0..20_000 {
            assert_eq!(has(&index, prefix(i), i), i % 7 == 0, "{i}");
        }
        for i in (0..20_000).filter(|i| i % 7 == 0) {
            index.remove(prefix(i), i);
        }
        let shards = index.shards.get().expect("it was long enough");
        assert!(shards.iter().all(|s| s.load().slots.len() <= SLOTS_MIN));
    }

    #[test]
    fn an_id_takes_thirteen_bytes_however_many_there_are() {
        let index = Index::new();
        for held in 1..=400_000u32 {
            index.insert(u64::from(held), held, u64::from);
            if held % 10_000 == 0 {
                let shards = index.shards.get().expect("it is long enough");
                let slots: usize = shards.iter().map(|s| s.load().slots.len()).sum();
                let bytes = (slots * 8) as f64 / f64::from(held);
                assert!((12.5..13.8).contains(&bytes), "{bytes} with {held}");
            }
        }
    }

    #[test]
    fn slots_are_reclaimed_under_churn() {
        let index = Index::new();
        for i in 0..100_000u32 {
            index.insert(u64::from(i), i % 64, |_| {
                unreachable!("too few to be sharded")
            });
            if i >= 50 {
                index.remove(u64::from(i - 50), (i - 50) % 64);
            }
        }
        let slots = index.first.load().slots.len();
        assert!(slots < 1_000, "{slots}");
    }
}
