//! Short times: 32 bits of tenths of a second since the line's epoch, good for 13 years.

use crate::model::Micros;

/// One tick of a line, in microseconds.
const TICK_MICROS: u64 = 100_000;

/// The zero of a line's ticks: a whole tenth of a second since 1970, so that lines of different
/// nodes round alike whatever moment they were made.
#[derive(Clone, Copy)]
pub(super) struct Epoch(u64);

impl Epoch {
    /// The last whole tenth of a second at or before `at`.
    pub(super) const fn new(at: Micros) -> Self {
        Self(at.0 - at.0 % TICK_MICROS)
    }

    /// The tick in which `at` lies; saturating at both ends.
    pub(super) fn tick(self, at: Micros) -> u32 {
        u32::try_from(at.0.saturating_sub(self.0) / TICK_MICROS).unwrap_or(u32::MAX)
    }

    /// The first tick that does not begin before `at`, for deadlines; saturating at both ends.
    pub(super) fn deadline(self, at: Micros) -> u32 {
        let since = at.0.saturating_sub(self.0);
        u32::try_from(since.div_ceil(TICK_MICROS)).unwrap_or(u32::MAX)
    }

    /// When `tick` begins.
    pub(super) const fn time(self, tick: u32) -> Micros {
        Micros(self.0 + tick as u64 * TICK_MICROS)
    }
}

/// A duration in whole ticks, rounded up, saturating.
pub(super) fn ticks(duration: std::time::Duration) -> u32 {
    u32::try_from(crate::model::ticket::micros(duration).div_ceil(TICK_MICROS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_round_down_and_deadlines_up() {
        let epoch = Epoch::new(Micros(1_000_099_999));
        assert_eq!(epoch.time(0), Micros(1_000_000_000));
        assert_eq!(epoch.tick(Micros(1_000_199_999)), 1);
        assert_eq!(epoch.deadline(Micros(1_000_100_001)), 2);
        assert_eq!(epoch.tick(Micros(5)), 0);
        assert_eq!(epoch.tick(Micros(u64::MAX)), u32::MAX);
    }
}
