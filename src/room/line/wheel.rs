//! When to look at which entry again.

use std::collections::BTreeMap;

/// Ticks of a line in one slice of the wheel: 0.8 seconds.
const SLICE_TICKS: u32 = 8;

/// Entries by the time at which to look at them. An entry is in it exactly once, from its creation
/// until it is freed; it is not moved when it is polled for, but when its time comes and it turns
/// out to be too early. So a poll costs nothing here, and an entry little more than four bytes.
#[derive(Default)]
pub(super) struct Wheel {
    slices: BTreeMap<u32, Slice>,
}

/// In pieces: one vector for all would be half empty after it grew.
#[derive(Default)]
struct Slice {
    full: Vec<Box<[u32]>>,
    last: Vec<u32>,
}

/// Entries of a full piece.
const PIECE: usize = 1_024;

impl Slice {
    fn push(&mut self, entry: u32) {
        if self.last.len() == PIECE {
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
            self.full.push(full.into_boxed_slice());
        }
        self.last.push(entry);
    }

    fn pop(&mut self) -> Option<u32> {
        if self.last.is_empty() {
            self.last = self.full.pop()?.into_vec();
        }
        self.last.pop()
    }

    fn is_empty(&self) -> bool {
        self.last.is_empty() && self.full.is_empty()
    }
}

impl Wheel {
    /// Looks at `entry` again at `tick`, or up to a slice later.
    pub(super) fn arm(&mut self, entry: u32, tick: u32) {
        self.slices
            .entry(tick.div_ceil(SLICE_TICKS))
            .or_default()
            .push(entry);
    }

    /// An entry whose time has come by `tick`.
    pub(super) fn pop(&mut self, tick: u32) -> Option<u32> {
        let mut first = self.slices.first_entry()?;
        if *first.key() > tick / SLICE_TICKS {
            return None;
        }
        let entry = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_up_at_their_time_and_not_before() {
        let mut wheel = Wheel::default();
        wheel.arm(1, 0);
        wheel.arm(2, 9);
        wheel.arm(3, 8);
        assert_eq!(wheel.pop(0), Some(1));
        assert_eq!(wheel.pop(7), None);
        assert_eq!(wheel.pop(8), Some(3));
        assert_eq!(wheel.pop(15), None);
        assert_eq!(wheel.pop(16), Some(2));
        assert_eq!(wheel.pop(u32::MAX), None);
        assert!(wheel.slices.is_empty());
    }

    #[test]
    fn a_slice_of_many_pieces_gives_back_each_entry_once() {
        let mut wheel = Wheel::default();
        let many = 3 * PIECE as u32 + 7;
        (0..many).for_each(|entry| wheel.arm(entry, 1));
        let mut popped: Vec<_> = std::iter::from_fn(|| wheel.pop(8)).collect();
        popped.sort_unstable();
        assert!(popped.into_iter().eq(0..many));
        assert!(wheel.slices.is_empty());
    }
}
