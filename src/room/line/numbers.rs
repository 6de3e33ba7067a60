//! Segment numbers, of which there are a million, given again only when nobody can mistake them.

use std::collections::VecDeque;

/// A number rests until this many others were retired after it: a reader who met it before and
/// notices that fewer were retired since cannot meet its next owner.
pub(super) const REST: u32 = 4096;
/// Bits of a number.
pub(super) const NUMBER_BITS: u32 = 20;

/// The numbers of one line's segments.
#[derive(Default)]
pub(super) struct Numbers {
    fresh: u32,
    resting: VecDeque<u32>,
    retired: u32,
}

impl Numbers {
    /// A number that no segment has.
    ///
    /// They suffice: neighbours with few tickets are merged, so that two neighbours have at least
    /// 512 together, and an arena has room for 2²⁷.
    pub(super) fn take(&mut self) -> u32 {
        if self.resting.len() > REST as usize
            && let Some(number) = self.resting.pop_front()
        {
            return number;
        }
        assert!(
            self.fresh < 1 << NUMBER_BITS,
            "segments outnumber what an arena can fill"
        );
        self.fresh += 1;
        self.fresh - 1
    }

    /// The number's segment is no more.
    pub(super) fn retire(&mut self, number: u32) {
        self.resting.push_back(number);
        self.retired = self.retired.wrapping_add(1);
    }

    /// How many were retired so far, wrapping.
    pub(super) const fn retired(&self) -> u32 {
        self.retired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_before_it_is_given_again() {
        let mut numbers = Numbers::default();
        let first = numbers.take();
        numbers.retire(first);
        let stamp = numbers.retired();
        loop {
            let number = numbers.take();
            if number == first {
                break;
            }
            numbers.retire(number);
        }
        assert_eq!(numbers.retired() - stamp, REST);
        assert_eq!(numbers.fresh, REST + 1);
    }
}
