//! A ticket's place: its key, and the time unit it is told in.

use serde::{Deserialize, Serialize};

use super::ids::TicketId;

/// Microseconds since 1970 on the hybrid logical clock. Fits a double exactly until 2255, so a
/// Redis ZSET score orders exactly as memory does.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// This moment plus `duration`, saturating.
    pub const fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// How long after `earlier` this moment is; zero when it is not after it.
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A duration in whole microseconds, saturating.
pub const fn micros(duration: std::time::Duration) -> u64 {
    let micros = duration.as_micros();
    if micros > u64::MAX as u128 { u64::MAX } else { micros as u64 }
}

/// What orders the line: arrival first, then the id's bytes. One total order, the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TicketKey {
    /// When the ticket joined.
    pub arrival: Micros,
    /// Breaks ties between tickets of the same microsecond.
    pub id: TicketId,
}
