//! When a visitor is told to ask again: soon near the front, late at the back, never all at once.

use std::time::Duration;

/// A tenth of the expected wait between polls: a million visitors at a thousand a second then poll
/// some twenty thousand times a second, and the answer is never off by more than a tenth.
const SHARE_OF_WAIT: u64 = 10;

/// The bounds for one visitor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polls {
    pub min: Duration,
    pub max: Duration,
    /// Different for each visitor and visit.
    pub salt: u64,
}

impl Polls {
    /// For one whose wait is expected to be so many seconds.
    pub fn after(&self, wait_sec: u64) -> Duration {
        let millis = wait_sec.saturating_mul(1000 / SHARE_OF_WAIT);
        self.jittered(Duration::from_millis(millis).clamp(self.min, self.max))
    }

    /// For one whose turn it is.
    pub fn soon(&self) -> Duration {
        self.jittered(self.min)
    }

    /// For one who is through.
    pub fn late(&self) -> Duration {
        self.jittered(self.max)
    }

    /// Up to a fifth less or more, so that visitors who came together do not poll together.
    fn jittered(&self, base: Duration) -> Duration {
        // The finaliser of SplitMix64 (Steele et al. 2014) spreads neighbouring salts evenly.
        let mut x = self.salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (x >> 32) % 401;
        let micros = crate::model::micros(base);
        Duration::from_micros(micros.saturating_mul(800 + part) / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polls(salt: u64) -> Polls {
        Polls {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            salt,
        }
    }

    #[test]
    fn the_interval_grows_with_the_wait_within_bounds() {
        for salt in 0..1000 {
            let polls = polls(salt);
            let near = polls.after(1).as_millis();
            let middle = polls.after(100).as_millis();
            let far = polls.after(100_000).as_millis();
            assert!((800..=1_200).contains(&near), "{near}");
            assert!((8_000..=12_000).contains(&middle), "{middle}");
            assert!((48_000..=72_000).contains(&far), "{far}");
        }
    }

    #[test]
    fn neighbours_are_spread() {
        let sum: u128 = (0..1000)
            .map(|salt| polls(salt).after(100).as_millis())
            .sum();
        assert!((9_800..=10_200).contains(&(sum / 1000)), "{}", sum / 1000);
        assert_ne!(polls(1).after(100), polls(2).after(100));
    }

    #[test]
    fn a_million_visitors_cost_tens_of_thousands_of_polls_a_second() {
        let rate = 1000u64;
        let polls_per_sec: f64 = (1..=1000u64)
            .map(|k| 1000.0 / polls(k).after(k * 1000 / rate).as_secs_f64())
            .sum();
        assert!(
            (10_000.0..80_000.0).contains(&polls_per_sec),
            "{polls_per_sec}"
        );
    }
}
