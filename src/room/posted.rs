//! What a poll needs to know of its event's policy, published as plain numbers: cheaper to read than
//! a snapshot, and no number depends on another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::{Micros, Order, Policy};
use crate::sync::{AtomicBool, AtomicU64};

/// One event's notice.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// Everybody is let in: who waits is called by the poll itself.
    lets_all: AtomicBool,
    /// Places are drawn then; 0 when they are not drawn.
    draw_at: AtomicU64,
    /// The shortest time between polls and the longest, milliseconds, in one word: they are told
    /// together.
    polling: AtomicU64,
}

impl Posted {
    /// Publishes what a policy says.
    pub fn publish(&self, policy: &Policy, polling: (Duration, Duration)) {
        let (min, max) = polling;
        let max = max.min(policy.heartbeat_ttl / 3).max(min);
        let lottery = policy.order == Order::Lottery;
        let draw_at = policy.opens.filter(|_| lottery).map_or(0, |opens| opens.0);
        let lets_all = policy.order == Order::Passthrough && !policy.paused;
        self.lets_all.store(lets_all, Ordering::Relaxed);
        self.draw_at.store(draw_at, Ordering::Relaxed);
        let millis =
            |span: Duration| u64::from(u32::try_from(span.as_millis()).unwrap_or(u32::MAX));
        let polling = millis(min) << 32 | millis(max);
        self.polling.store(polling, Ordering::Relaxed);
    }

    pub fn lets_all(&self) -> bool {
        self.lets_all.load(Ordering::Relaxed)
    }

    /// Whether places are still to be drawn: nobody has one before that.
    pub fn is_before_draw(&self, now: Micros) -> bool {
        now.0 < self.draw_at.load(Ordering::Relaxed)
    }

    /// The shortest and the longest time between polls that visitors are told.
    pub fn polling(&self) -> (Duration, Duration) {
        let polling = self.polling.load(Ordering::Relaxed);
        let of = |millis: u64| Duration::from_millis(millis);
        (of(polling >> 32), of(polling & u64::from(u32::MAX)))
    }
}

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    use std::sync::Arc;

    use super::*;
    use crate::sync::check;

    /// Would catch a poll that is told a shortest time of one configuration and a longest of
    /// another.
    #[test]
    fn the_bounds_of_polling_are_of_one_configuration() {
        check(3, || {
            let span = |sec| (Duration::from_secs(sec), Duration::from_secs(sec + 1));
            let posted = Arc::new(Posted::default());
            posted.publish(&Policy::default(), span(1));
            let other = Arc::clone(&posted);
            let writer = loom::thread::spawn(move || other.publish(&Policy::default(), span(5)));
            let seen = posted.polling();
            assert!(seen == span(1) || seen == span(5), "{seen:?}");
            writer.join().expect("it ends");
        });
    }
}
