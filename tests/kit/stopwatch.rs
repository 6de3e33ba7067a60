//! Monotonic time as a black-box test sees it.

use std::time::{Duration, Instant};

/// Counts microseconds from the moment it was started; copies count from the same moment.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment `us` microseconds after the start, as the runtime's timer takes it.
    pub fn at(self, us: u64) -> tokio::time::Instant {
        (self.0 + Duration::from_micros(us)).into()
    }
}
