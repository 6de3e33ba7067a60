//! The hybrid logical clock: physical microseconds that never go back and never repeat on a node.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014), with the logical part folded into the
//! microseconds: a node hands out fewer than a million stamps a second, so the fold stays close.

use std::sync::atomic::Ordering;

use super::ticket::Micros;
use crate::sync::AtomicU64;

/// The last stamp given or seen. Shared by all threads of a node.
#[derive(Debug, Default)]
pub struct Hlc {
    last: AtomicU64,
}

impl Hlc {
    /// A stamp later than every stamp given or seen here, and not before `now`.
    pub fn tick(&self, now: Micros) -> Micros {
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = now.0.max(last.saturating_add(1));
            match self
                .last
                .compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Micros(next),
                Err(other) => last = other,
            }
        }
    }

    /// Takes notice of another node's stamp, so that later stamps here are after it. One that is
    /// more than `skew_max` ahead of `now` is ignored: that clock is off, and must not drag us.
    /// Answers whether it was taken.
    pub fn observe(&self, stamp: Micros, now: Micros, skew_max: std::time::Duration) -> bool {
        if stamp > now.after(skew_max) {
            return false;
        }
        self.last.fetch_max(stamp.0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stamps_rise_even_when_time_goes_back() {
        let clock = Hlc::default();
        assert_eq!(clock.tick(Micros(100)), Micros(100));
        assert_eq!(clock.tick(Micros(50)), Micros(101));
        assert_eq!(clock.tick(Micros(101)), Micros(102));
    }

    #[test]
    fn a_clock_that_is_far_ahead_does_not_drag_us() {
        let clock = Hlc::default();
        let second = Duration::from_secs(1);
        assert!(clock.observe(Micros(500), Micros(0), second));
        assert!(!clock.observe(Micros(2_000_000), Micros(0), second));
        assert_eq!(clock.tick(Micros(10)), Micros(501));
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    use std::sync::Arc;

    use super::*;
    use crate::sync::check;

    /// Would catch two joins that get the same arrival, or one before what was heard of.
    #[test]
    fn stamps_are_given_once_and_after_what_was_seen() {
        check(3, || {
            let clock = Arc::new(Hlc::default());
            let other = Arc::clone(&clock);
            let second = loom::thread::spawn(move || {
                other.observe(Micros(70), Micros(60), std::time::Duration::from_secs(1));
                other.tick(Micros(60))
            });
            let first = clock.tick(Micros(60));
            let second = second.join().unwrap();
            assert!(first != second && second > Micros(70));
        });
    }
}
