//! What operators do and see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::EventStats;
use super::eta::Measured;
use super::event::Event;
use super::side::Side;
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
        self.settings.load().patched(event, patch)
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
        let Ok(event) = self.event_or_make(now, event, true) else {
            return Ok(policy);
        };
        let applied = {
            let mut side = event.side.lock();
            let before = std::mem::replace(&mut side.patch, patch);
            let applied = self.apply_policy(now, &event, &mut side);
            if applied.is_err() {
                side.patch = before;
            }
            applied
        };
        self.schedule.at(now, &event);
        applied
    }

    /// Takes over new settings: every event gets its policy anew, as one change each.
    pub fn reconfigure(&self, now: Micros, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.create_configured(now);
        for event in self.events.all_made() {
            let applied = self.apply_policy(now, &event, &mut event.side.lock());
            self.schedule.at(now, &event);
            if let Err(mistakes) = applied {
                tracing::warn!(
                    event = %event.id,
                    mistakes = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                    "the event's override no longer fits its new policy, which is not applied"
                );
            }
        }
    }

    /// Gives an event the policy that settings and override make. Both are read while its side is
    /// held, so that the last of several changes has seen all of them.
    fn apply_policy(
        &self,
        now: Micros,
        event: &Event,
        side: &mut Side,
    ) -> Result<Policy, Vec<PolicyMistake>> {
        let settings = self.settings.load();
        let policy = settings.patched(&event.id, side.patch.as_ref())?;
        let old = event.policy.swap(Arc::new(policy.clone()));
        event.posted.publish(&policy, settings.polling);
        if policy.rate < old.rate {
            side.rate_lowered_until = now.after(REASON_TOLD);
        }
        event.publish_forecast(now, side);
        Ok(policy)
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

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    use super::*;
    use crate::journal::lane::{Journal, Limits};
    use crate::model::NodeId;
    use crate::model::pass::PassKeys;
    use crate::model::token::TicketKeys;
    use crate::room::Identity;
    use crate::sync::{check, spawn_deep};

    const NOW: Micros = Micros(1_000_000);

    /// All numbers of a configuration follow from one.
    fn settings(number: u32) -> Settings {
        let defaults = Policy {
            rate: f64::from(number),
            burst: number,
            ..Policy::default()
        };
        let second = Duration::from_secs(number.into());
        Settings {
            defaults,
            events: Default::default(),
            create_on_demand: true,
            polling: (second, 2 * second),
        }
    }

    fn numbers(event: &Event) -> (f64, u32) {
        let policy = event.policy.load();
        (policy.rate, policy.burst)
    }

    fn room() -> Arc<Room> {
        let second = Duration::from_secs(1);
        let limits = Limits {
            records_max: 10,
            batch_records: 10,
            batch_bytes: 1_000,
            flush_interval: second,
            patient_interval: second,
            tail_records: 0,
        };
        let identity = Identity {
            node: NodeId(0),
            fleet: 1,
            epoch: 1,
            events_max: 2,
            skew_max: second,
            lag_max: second,
            share_limit: second,
        };
        let key = [("k1".to_owned(), [7; 32])];
        let keys = (
            TicketKeys::new("k1", &key).expect("a key"),
            PassKeys::new("k1", &key).expect("a key"),
        );
        let journal = Arc::new(Journal::new(1, NodeId(0), 1, limits));
        Arc::new(Room::new(NOW, identity, settings(1), keys, journal))
    }

    fn sale() -> EventId {
        EventId::new("sale").expect("a name")
    }

    fn deeply(model: fn()) {
        check(2, move || spawn_deep(model).join().expect("it ends"));
    }

    /// Would catch a request that finds half of one configuration and half of the other, and an event
    /// that is made by the old one when all have been given the new.
    #[test]
    fn an_event_is_of_one_configuration_and_soon_of_the_last() {
        deeply(|| {
            let room = room();
            let other = Arc::clone(&room);
            let swap = spawn_deep(move || other.reconfigure(NOW, settings(2)));
            let made = room.event_or_make(NOW, &sale(), true);
            let event = made.unwrap_or_else(|_| unreachable!("there is room for two"));
            let seen = numbers(&event);
            assert!(seen == (1.0, 1) || seen == (2.0, 2), "{seen:?}");
            let (min, max) = event.posted.polling();
            assert_eq!(max, 2 * min);
            swap.join().expect("it ends");
            assert_eq!(numbers(&event), (2.0, 2));
            assert_eq!(event.posted.polling(), settings(2).polling);
        });
    }

    /// Would catch an override that is worked out from the configuration before the last, or that the
    /// last configuration knows nothing of.
    #[test]
    fn an_override_and_a_configuration_at_once_both_count() {
        deeply(|| {
            let room = room();
            let made = room.event_or_make(NOW, &sale(), true);
            let event = made.unwrap_or_else(|_| unreachable!("there is room for two"));
            let other = Arc::clone(&room);
            let swap = spawn_deep(move || other.reconfigure(NOW, settings(2)));
            let patch = PolicyPatch {
                burst: Some(9),
                ..PolicyPatch::default()
            };
            let set = room.set_patch(NOW, &sale(), Some(patch));
            assert!(set.is_ok_and(|policy| policy.burst == 9));
            swap.join().expect("it ends");
            assert_eq!(numbers(&event), (2.0, 9));
        });
    }
}
