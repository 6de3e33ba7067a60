//! How the store is doing, from what its calls answered.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Micros;

/// Failures in a row after which the store counts as down.
const DOWN_AFTER: u32 = 5;

/// Counts of what the store's calls answered. Shared by everybody who calls it.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    failed_total: AtomicU64,
    answered_at: AtomicU64,
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answers.
    Up,
    /// Failed lately, or is late.
    Degraded,
    /// Fails every time.
    Down,
}

impl Health {
    /// A call was answered.
    pub fn answered(&self, now: Micros) {
        self.answered_at.fetch_max(now.0, Ordering::Relaxed);
        if self.failures.swap(0, Ordering::Relaxed) >= DOWN_AFTER {
            tracing::info!("the store answers again");
        }
    }

    /// A call failed, or was not answered in time.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        self.failed_total.fetch_add(1, Ordering::Relaxed);
        let failures = self
            .failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        // Edges are logged, not repetitions.
        if failures == 1 {
            tracing::warn!(%error, "a store call failed");
        } else if failures == DOWN_AFTER {
            tracing::error!(%error, failures, "the store is down");
        }
    }

    /// Failed calls since the start.
    pub fn failed_total(&self) -> u64 {
        self.failed_total.load(Ordering::Relaxed)
    }

    /// The verdict, given how old the oldest unacknowledged record is and how old it may be.
    pub fn verdict(&self, age: Duration, stale_after: Duration) -> Verdict {
        match self.failures.load(Ordering::Relaxed) {
            DOWN_AFTER.. => Verdict::Down,
            0 if age <= stale_after => Verdict::Up,
            _ => Verdict::Degraded,
        }
    }
}
