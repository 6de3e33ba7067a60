//! The only place that reads time.
//!
//! Everything else takes `now` as an argument, so that tests and simulations own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock is read so often at most: in between, a slew moves it by less than a microsecond.
const WALL_EVERY_US: u64 = 1_000;

/// A clock as a value: real, or moved by hand.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Guarded(Arc<Guarded>),
    Manual(Arc<AtomicU64>),
}

/// Does something and tells how long it took.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads time"
)]
pub fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let begun = Instant::now();
    (work(), begun.elapsed())
}

/// A clock's reading, in microseconds since 1970.
type Reading = dyn Fn() -> u64 + Send + Sync;

/// The wall clock, guarded by the monotonic one: small corrections are followed, a jump ahead by
/// more than `jump_max` is refused and time goes on evenly from where it was.
struct Guarded {
    steady: Box<Reading>,
    wall: Box<Reading>,
    jump_max: i64,
    /// How far the wall clock is allowed to have moved against the monotonic one, in microseconds.
    offset: AtomicI64,
    /// When the wall clock was last read, in microseconds since `started`.
    read_at: AtomicU64,
    refused: AtomicU64,
}

impl Clock {
    /// The machine's clock. A jump of the wall clock by more than `jump_max` is refused.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that reads time"
    )]
    pub fn real(jump_max: Duration) -> Self {
        let (started, started_wall) = (Instant::now(), wall());
        let steady = move || started_wall.saturating_add(micros(started.elapsed()));
        Self::guarded(jump_max, steady, wall)
    }

    /// A clock over any steady clock and wall clock, which tell microseconds since 1970 and are alike
    /// at the start. A jump of the wall clock by more than `jump_max` is refused.
    pub fn guarded(
        jump_max: Duration,
        steady: impl Fn() -> u64 + Send + Sync + 'static,
        wall: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self(Source::Guarded(Arc::new(Guarded {
            steady: Box::new(steady),
            wall: Box::new(wall),
            jump_max: i64::try_from(jump_max.as_micros()).unwrap_or(i64::MAX),
            offset: AtomicI64::new(0),
            read_at: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })))
    }

    /// A clock that stands at `micros` until it is moved, and the handle that moves it.
    pub fn manual(micros: u64) -> (Self, ManualTime) {
        let now = Arc::new(AtomicU64::new(micros));
        (Self(Source::Manual(Arc::clone(&now))), ManualTime(now))
    }

    /// Microseconds since 1970. Never jumps ahead by more than the bound; may step back a little
    /// with the wall clock (the hybrid logical clock on top of it never does). About 25 ns.
    pub fn now_micros(&self) -> u64 {
        match &self.0 {
            Source::Guarded(guarded) => guarded.now_micros(),
            Source::Manual(now) => now.load(Ordering::SeqCst),
        }
    }

    /// How many readings were refused because the wall clock had jumped.
    pub fn jumps_refused(&self) -> u64 {
        match &self.0 {
            Source::Guarded(guarded) => guarded.refused.load(Ordering::Relaxed),
            Source::Manual(_) => 0,
        }
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guarded(offset {:?})", self.offset)
    }
}

impl Guarded {
    fn now_micros(&self) -> u64 {
        let steady = (self.steady)();
        let read_at = self.read_at.load(Ordering::Relaxed);
        if steady.wrapping_sub(read_at) < WALL_EVERY_US {
            return steady.saturating_add_signed(self.offset.load(Ordering::Relaxed));
        }
        self.read_at.store(steady, Ordering::Relaxed);
        let offset = self.follow(steady, (self.wall)());
        steady.saturating_add_signed(offset)
    }

    /// The offset to go by: that of the wall clock, unless it moved too far at once.
    fn follow(&self, steady: u64, wall: u64) -> i64 {
        let known = self.offset.load(Ordering::Relaxed);
        let seen = wall.wrapping_sub(steady) as i64;
        if seen.saturating_sub(known).saturating_abs() <= self.jump_max {
            if seen != known {
                self.offset.store(seen, Ordering::Relaxed);
            }
            return seen;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        known
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads time"
)]
fn wall() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    micros(since)
}

/// Whole microseconds, without the 128-bit arithmetic of `as_micros`.
fn micros(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000);
    whole.saturating_add(u64::from(duration.subsec_micros()))
}

/// Moves a manual clock.
#[derive(Debug, Clone)]
pub struct ManualTime(Arc<AtomicU64>);

impl ManualTime {
    /// Moves time on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(
            u64::try_from(by.as_micros()).unwrap_or(u64::MAX),
            Ordering::SeqCst,
        );
    }

    /// Sets time, forward or back.
    pub fn set(&self, micros: u64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_corrections_are_followed_and_jumps_are_refused() {
        let read = Arc::new(AtomicI64::new(0));
        let wall = Arc::clone(&read);
        // Each reading of the steady clock is an hour after the last.
        let time = Arc::new(AtomicU64::new(0));
        let hour = Arc::clone(&time);
        let clock = Clock::guarded(
            Duration::from_micros(100),
            move || time.fetch_add(3_600_000_000, Ordering::Relaxed) + 3_600_000_000,
            move || {
                let steady = hour.load(Ordering::Relaxed);
                steady.saturating_add_signed(wall.load(Ordering::Relaxed))
            },
        );
        let reads = |offset| {
            read.store(offset, Ordering::Relaxed);
            clock.now_micros() % 3_600_000_000
        };
        assert_eq!(reads(80), 80);
        assert_eq!(reads(150), 150);
        assert_eq!(reads(60_000), 150, "a jump ahead is refused");
        assert_eq!(reads(-9_000), 150, "and so is one back");
        assert_eq!(clock.jumps_refused(), 2);
    }

    #[test]
    fn a_manual_clock_stands_until_moved() {
        let (clock, time) = Clock::manual(5);
        assert_eq!(clock.now_micros(), 5);
        time.advance(Duration::from_millis(1));
        assert_eq!(clock.now_micros(), 1_005);
    }
}
