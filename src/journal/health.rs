//! How the store is doing, from what its calls answered, and whether to ask it at all.
//!
//! A circuit breaker (Nygard, "Release It!", 2007): a store that fails every time is left alone for a
//! while, then tried carefully, then believed again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::Micros;

/// Failures in a row after which the store is left alone, if they took so long at least: of a cluster
/// that has lost one of its servers the others answer in between.
const OPEN_AFTER: u32 = 5;
const OPEN_SPAN: Duration = Duration::from_secs(1);
/// How often single failures are told of at most.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// For how long, give or take a fifth, so that the nodes of a fleet do not come back as one.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// The same after a try that failed.
const OPEN_AGAIN_FOR: Duration = Duration::from_secs(3);
/// Answers in a row after which it is believed again.
const CLOSE_AFTER: u32 = 3;

/// What the store's calls answered. Shared by everybody who calls it.
#[derive(Debug, Default)]
pub struct Health {
    /// Held for a few comparisons.
    circuit: Mutex<Circuit>,
    failed_total: AtomicU64,
    /// Spreads the moments at which nodes try again.
    salt: u64,
    /// When a single failure was last told of.
    told_at: AtomicU64,
}

/// Whether the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    /// It is; so many calls in a row have failed.
    Closed {
        /// How many.
        failures: u32,
        /// When the first of them did.
        since: Micros,
    },
    /// It is left alone until then.
    Open {
        /// When it is tried.
        until: Micros,
    },
    /// It is tried; so many calls in a row were answered.
    HalfOpen {
        /// How many.
        answers: u32,
    },
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed {
            failures: 0,
            since: Micros(0),
        }
    }
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
    /// A store of which nothing bad is known. Nodes with different salts try it at different moments.
    pub fn new(salt: u64) -> Self {
        Self {
            salt,
            ..Self::default()
        }
    }

    /// Until when the store is to be left alone; `None` when it may be asked.
    pub fn alone_until(&self, now: Micros) -> Option<Micros> {
        let mut circuit = self.circuit.lock();
        match *circuit {
            Circuit::Open { until } if now < until => Some(until),
            Circuit::Open { .. } => {
                *circuit = Circuit::HalfOpen { answers: 0 };
                None
            }
            _ => None,
        }
    }

    /// Leaves the store alone until it is [`Health::found`].
    pub fn leave_alone(&self) {
        *self.circuit.lock() = Circuit::Open {
            until: Micros(u64::MAX),
        };
    }

    /// The store was found to answer, by whoever looked for it.
    pub fn found(&self) {
        *self.circuit.lock() = Circuit::default();
    }

    /// A call was answered.
    pub fn answered(&self) {
        let mut circuit = self.circuit.lock();
        let answers = match *circuit {
            Circuit::Closed { failures: 0, .. } => return,
            Circuit::Closed { .. } => CLOSE_AFTER,
            // One that was on its way when the circuit opened.
            Circuit::Open { .. } => return,
            Circuit::HalfOpen { answers } => answers + 1,
        };
        let recovered = matches!(*circuit, Circuit::HalfOpen { .. }) && answers >= CLOSE_AFTER;
        *circuit = if answers >= CLOSE_AFTER {
            Circuit::default()
        } else {
            Circuit::HalfOpen { answers }
        };
        drop(circuit);
        if recovered {
            tracing::info!("the store answers again");
        }
    }

    /// A call failed, or was not answered in time.
    pub fn failed(&self, now: Micros, error: &dyn std::fmt::Display) {
        self.failed_total.fetch_add(1, Ordering::Relaxed);
        let mut circuit = self.circuit.lock();
        let before = *circuit;
        // From the moment, so that a day can be lived again to the microsecond.
        let mixed = (now.0 ^ self.salt << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let share = 800 + ((mixed >> 32) % 400) as u32;
        let opened = |time: Duration| Circuit::Open {
            until: now.after(time * share / 1_000),
        };
        *circuit = match before {
            Circuit::Closed { failures, since } => {
                let failures = failures.saturating_add(1);
                let since = if failures == 1 { now } else { since };
                if failures < OPEN_AFTER || now.since(since) < OPEN_SPAN {
                    Circuit::Closed { failures, since }
                } else {
                    opened(OPEN_FOR)
                }
            }
            Circuit::HalfOpen { .. } => opened(OPEN_AGAIN_FOR),
            Circuit::Open { .. } => before,
        };
        let after = *circuit;
        drop(circuit);
        // Edges are logged, not repetitions.
        match (before, after) {
            (Circuit::Closed { failures, .. }, Circuit::Open { .. }) => {
                tracing::error!(%error, failures, "the store is down, leaving it alone");
            }
            (Circuit::HalfOpen { .. }, Circuit::Open { .. }) => {
                tracing::warn!(%error, "the store is still down, leaving it alone again");
            }
            (Circuit::Closed { failures: 0, .. }, _) if self.is_worth_telling(now) => {
                tracing::warn!(%error, "a store call failed");
            }
            _ => {}
        }
    }

    /// Whether no single failure was told of lately.
    fn is_worth_telling(&self, now: Micros) -> bool {
        let told = Micros(self.told_at.load(Ordering::Relaxed));
        let worth = told == Micros(0) || now.since(told) >= TOLD_EVERY;
        if worth {
            self.told_at.store(now.0, Ordering::Relaxed);
        }
        worth
    }

    /// Failed calls since the start.
    pub fn failed_total(&self) -> u64 {
        self.failed_total.load(Ordering::Relaxed)
    }

    /// Whether the store is asked at present.
    pub fn circuit(&self) -> Circuit {
        *self.circuit.lock()
    }

    /// The verdict, given how old the oldest unacknowledged record is and how old it may be.
    pub fn verdict(&self, age: Duration, stale_after: Duration) -> Verdict {
        match self.circuit() {
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => Verdict::Down,
            Circuit::Closed { failures: 0, .. } if age <= stale_after => Verdict::Up,
            Circuit::Closed { .. } => Verdict::Degraded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_left_alone_tried_and_believed_again() {
        let health = Health::default();
        let at = |second: u64| Micros(second * 1_000_000);
        for _ in 0..4 {
            health.failed(at(0), &"away");
        }
        assert!(health.alone_until(at(0)).is_none());
        health.answered();
        assert_eq!(
            health.circuit(),
            Circuit::default(),
            "one answer ends a row of failures"
        );
        for _ in 0..9 {
            health.failed(at(1), &"away");
        }
        assert!(
            health.alone_until(at(1)).is_none(),
            "others may answer in a moment"
        );
        health.failed(at(2), &"away");
        let until = health.alone_until(at(2)).expect("left alone");
        assert!((at(10)..=at(14)).contains(&until));
        health.answered();
        assert!(
            health.alone_until(at(8)).is_some(),
            "a late answer opens nothing"
        );
        assert!(health.alone_until(until).is_none());
        health.answered();
        health.failed(until, &"away");
        assert!(
            health.alone_until(until).is_some(),
            "one failure while it is tried"
        );
        let again = at(30);
        assert!(health.alone_until(again).is_none());
        for _ in 0..3 {
            assert_eq!(
                health.verdict(Duration::ZERO, Duration::ZERO),
                Verdict::Down
            );
            health.answered();
        }
        assert_eq!(health.verdict(Duration::ZERO, Duration::ZERO), Verdict::Up);
    }

    #[test]
    fn a_store_that_is_left_alone_stays_so_until_it_is_found() {
        let health = Health::default();
        health.leave_alone();
        health.answered();
        health.failed(Micros(1), &"away");
        assert!(health.alone_until(Micros(u64::MAX - 1)).is_some());
        health.found();
        assert!(health.alone_until(Micros(0)).is_none());
    }
}
