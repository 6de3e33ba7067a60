//! What operators do and see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::EventStats;
use super::eta::Measured;
use super::event::Event;
use super::tick::REASON_TOLD;
use super::{Room, Settings};
use crate::model::policy::PolicyMistake;
use crate::model::{EventId, Micros, Policy, PolicyPatch};

impl Room {
    /// All events in figures, by name.
    pub fn stats(&self) -> Vec<EventStats> {
        let mut stats: Vec<_> = self
            .events
            .all()
            .iter()
            .map(|event| stats_of(event))
            .collect();
        stats.sort_by(|a, b| a.event.cmp(&b.event));
        stats
    }

    /// The policy an event goes by now.
    pub fn policy(&self, event: &EventId) -> Option<Policy> {
        Some(Policy::clone(&self.event(event.as_str())?.policy.load()))
    }

    /// The override set at run time, if any.
    pub fn patch(&self, event: &EventId) -> Option<PolicyPatch> {
        self.event(event.as_str())?.side.lock().patch.clone()
    }

    /// What an event's policy would be with an override.
    ///
    /// # Errors
    /// The outcome breaks a rule.
    pub fn try_patch(
        &self,
        event: &EventId,
        patch: Option<&PolicyPatch>,
    ) -> Result<Policy, Vec<PolicyMistake>> {
        let base = self.base_policy(event);
        patch.map_or(Ok(base.clone()), |patch| patch.apply(&base))
    }

    /// Sets an event's override or takes it away; the event is made if it is not there. Nobody loses
    /// a place by it.
    ///
    /// # Errors
    /// The outcome breaks a rule; nothing was changed.
    pub fn set_patch(
        &self,
        now: Micros,
        event: &EventId,
        patch: Option<PolicyPatch>,
    ) -> Result<Policy, Vec<PolicyMistake>> {
        let policy = self.try_patch(event, patch.as_ref())?;
        if let Ok(event) = self.event_or_make(now, event, true) {
            event.side.lock().patch = patch;
            self.apply_policy(now, &event, policy.clone());
        }
        Ok(policy)
    }

    /// Takes over new settings: every event gets its policy anew, as one change each.
    pub fn reconfigure(&self, now: Micros, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.create_configured(now);
        for event in self.events.all() {
            let patch = event.side.lock().patch.clone();
            match self.try_patch(&event.id, patch.as_ref()) {
                Ok(policy) => self.apply_policy(now, &event, policy),
                Err(mistakes) => tracing::warn!(
                    event = %event.id,
                    mistakes = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    "the event's override no longer fits its new policy, which is not applied"
                ),
            }
        }
    }

    fn apply_policy(&self, now: Micros, event: &Arc<Event>, policy: Policy) {
        let old = event.policy.swap(Arc::new(policy.clone()));
        event.posted.publish(&policy, self.settings.load().polling);
        {
            let mut side = event.side.lock();
            if policy.rate < old.rate {
                side.rate_lowered_until = now.after(REASON_TOLD);
            }
            event.publish_forecast(now, &side);
        }
        self.schedule.at(now, event);
    }

    /// How waits came out against what was promised.
    pub fn promises(&self) -> &Promises {
        &self.promises
    }
}

fn stats_of(event: &Event) -> EventStats {
    let side = event.side.lock();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    EventStats {
        event: event.id.clone(),
        waiting: event.line.waiting(),
        ready: u64::from(side.gate.open_turns) + side.gate.leased.len() as u64,
        active: u64::from(side.gate.active),
        joined: count(&event.tally.joined),
        entered: count(&event.tally.entered),
        left: count(&event.tally.left),
        calls_per_sec: side.measured.as_ref().map_or(0.0, Measured::calls_per_sec),
        paused: event.policy.load().paused,
    }
}

/// Sampled waits: what was promised at the join, and what it was.
#[derive(Debug, Default)]
pub struct Promises {
    count: AtomicU64,
    promised_ms: AtomicU64,
    real_ms: AtomicU64,
    off_ms: AtomicU64,
}

impl Promises {
    pub(super) fn note(&self, promised: Duration, real: Duration) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.promised_ms
            .fetch_add(millis(promised), Ordering::Relaxed);
        self.real_ms.fetch_add(millis(real), Ordering::Relaxed);
        self.off_ms
            .fetch_add(millis(promised.abs_diff(real)), Ordering::Relaxed);
    }

    /// Sampled waits so far, and the seconds promised, waited and off, summed.
    pub fn totals(&self) -> (u64, f64, f64, f64) {
        let sec = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64 / 1000.0;
        let count = self.count.load(Ordering::Relaxed);
        (
            count,
            sec(&self.promised_ms),
            sec(&self.real_ms),
            sec(&self.off_ms),
        )
    }
}
