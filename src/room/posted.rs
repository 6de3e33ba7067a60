//! What a poll needs to know of its event's policy, published as plain numbers: cheaper to read than
//! a snapshot, and none of it depends on the rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{Micros, Order, Policy, micros};

/// One event's notice.
#[derive(Debug, Default)]
pub(super) struct Posted {
    /// Everybody is let in: who waits is called by the poll itself.
    lets_all: AtomicBool,
    /// Places are drawn then; 0 when they are not drawn.
    draw_at: AtomicU64,
    poll_min: AtomicU64,
    poll_max: AtomicU64,
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
        self.poll_min.store(micros(min), Ordering::Relaxed);
        self.poll_max.store(micros(max), Ordering::Relaxed);
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
        let of = |bound: &AtomicU64| Duration::from_micros(bound.load(Ordering::Relaxed));
        (of(&self.poll_min), of(&self.poll_max))
    }
}
