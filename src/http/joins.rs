//! How many joins a second this node takes: joins are shed before polls, never the reverse.

use std::num::NonZeroU32;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::waits::Mutex;
use arc_swap::ArcSwapOption;
use governor::clock::{Clock as GovernorClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Clock;
use crate::room::answer::JoinRefusal;

/// The room's clock as governor reads it.
#[derive(Debug, Clone)]
struct Ticks(Clock);

/// A moment in nanoseconds, governor's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(u64);

impl Add<Nanos> for Moment {
    type Output = Self;
    fn add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.as_u64()))
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, span: Nanos) -> Self {
        Self(self.0.checked_sub(span.as_u64()).unwrap_or(self.0))
    }
}

impl GovernorClock for Ticks {
    type Instant = Moment;
    fn now(&self) -> Moment {
        Moment(self.0.now_micros().saturating_mul(1_000))
    }
}

type Direct = RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Moment>>;

#[derive(Debug)]
pub(super) struct Limiter {
    direct: ArcSwapOption<Direct>,
    /// What is set; held while it is changed.
    per_second: Mutex<u32>,
    clock: Ticks,
}

impl Limiter {
    /// At most `per_second` joins a second, saved up for a second; 0 is any number.
    pub fn new(per_second: u32, clock: Clock) -> Self {
        let clock = Ticks(clock);
        Self {
            direct: ArcSwapOption::new(direct(per_second, &clock)),
            per_second: Mutex::new(per_second),
            clock,
        }
    }

    /// Goes by another number from now on.
    pub fn set(&self, per_second: u32) {
        let mut known = self.per_second.lock();
        if *known != per_second {
            *known = per_second;
            self.direct.store(direct(per_second, &self.clock));
        }
    }

    /// Counts a join, or refuses it. About 20 ns.
    pub fn check(&self) -> Result<(), JoinRefusal> {
        match &*self.direct.load() {
            None => Ok(()),
            Some(direct) => direct.check().map_err(|late| JoinRefusal::RateLimited {
                // A whole millisecond at least: that is what the answer can say.
                retry_after: late
                    .wait_time_from(self.clock.now())
                    .max(Duration::from_millis(1)),
            }),
        }
    }
}

fn direct(per_second: u32, clock: &Ticks) -> Option<Arc<Direct>> {
    let quota = Quota::per_second(NonZeroU32::new(per_second)?);
    Some(Arc::new(RateLimiter::direct_with_clock(
        quota,
        clock.clone(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_takes_its_number_and_the_next_as_many() {
        let (clock, time) = Clock::manual(1_000_000_000);
        let limiter = Limiter::new(2, clock);
        assert_eq!((limiter.check(), limiter.check()), (Ok(()), Ok(())));
        let Err(JoinRefusal::RateLimited { retry_after }) = limiter.check() else {
            panic!("a third join was taken");
        };
        assert_eq!(retry_after, Duration::from_millis(500));
        time.advance(Duration::from_millis(500));
        assert_eq!(limiter.check(), Ok(()));
        assert!(limiter.check().is_err());
        limiter.set(0);
        assert_eq!(limiter.check(), Ok(()));
    }
}
