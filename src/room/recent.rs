//! A window of recent idempotency keys, to notice one key used for two events.
//!
//! The same key with another body of the same event is noticed by the ticket id itself, for as long
//! as the ticket is known. Across events there is no common id, so a fixed table remembers the last
//! keys and the places told for them: 2 MiB, no lock, newer keys overwrite older ones.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromZeros;

const SLOTS: usize = 1 << 17;

/// The window.
pub struct RecentKeys {
    slots: Box<[AtomicU64]>,
    /// The place told at each key's join, plus one, so that a replay tells the same.
    told: Box<[AtomicU64]>,
}

impl RecentKeys {
    /// An empty window.
    pub fn new() -> Self {
        // Pages that no key has come to take no memory. As with `Vec`, no memory means no process.
        let slots =
            || <[AtomicU64]>::new_box_zeroed_with_elems(SLOTS).expect("the allocator has memory");
        Self {
            slots: slots(),
            told: slots(),
        }
    }

    /// Remembers the place that was told for `key`, if any was.
    pub fn tell(&self, key: u64, told: Option<u32>) {
        let told = told.map_or(0, |told| told.saturating_add(1));
        let word = (key >> 32) << 32 | u64::from(told);
        self.told[key as usize % SLOTS].store(word, Ordering::Relaxed);
    }

    /// The place that was told for `key`, if that is remembered.
    pub fn told(&self, key: u64) -> Option<u32> {
        let word = self.told[key as usize % SLOTS].load(Ordering::Relaxed);
        let told = (word as u32).checked_sub(1)?;
        (word >> 32 == key >> 32).then_some(told)
    }

    /// Notes that `key` came with `body`; answers `false` when it lately came with another body.
    pub fn agrees(&self, key: u64, body: u32) -> bool {
        let slot = &self.slots[key as usize % SLOTS];
        let mine = (key >> 32) << 32 | u64::from(body);
        let seen = slot.load(Ordering::Relaxed);
        if seen >> 32 == mine >> 32 && seen != 0 {
            return seen == mine;
        }
        slot.store(mine, Ordering::Relaxed);
        true
    }
}

impl std::fmt::Debug for RecentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecentKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_another_body_is_noticed_and_others_are_not_disturbed() {
        let recent = RecentKeys::new();
        let key = 7 << 40 | 3;
        assert!(recent.agrees(key, 1));
        assert!(recent.agrees(key, 1), "a replay");
        assert!(!recent.agrees(key, 2));
        assert!(
            recent.agrees(9 << 40 | 3, 2),
            "another key in the same slot takes it over"
        );
        assert!(recent.agrees(key, 2), "a forgotten key is new");
    }
}
