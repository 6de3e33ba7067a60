//! What operators rule on events, at any node: taken over here, and told to a store that lost it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::waits::Mutex;
use tokio::sync::Notify;

use super::Room;
use super::apply::Origin;
use super::event::Event;
use crate::model::{EventId, Micros, PolicyPatch, Ruling, Rulings, micros};

/// A node of a fleet that could not look at the rulings for so long calls nobody: the event may be
/// paused.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// What this node knows of the rulings.
#[derive(Debug)]
pub(super) struct Known {
    /// Held while rulings are taken over, so that they are in their order. No other lock is held by
    /// who takes it.
    events: Mutex<BTreeMap<EventId, Ruling>>,
    /// When the store was last looked at.
    read_at: AtomicU64,
    changed: Notify,
}

impl Known {
    pub fn new(now: Micros) -> Self {
        Self {
            events: Mutex::default(),
            read_at: AtomicU64::new(now.0),
            changed: Notify::new(),
        }
    }
}

impl Room {
    /// What is ruled on an event.
    pub fn ruling(&self, event: &EventId) -> Ruling {
        let known = self.rulings.events.lock();
        known.get(event).cloned().unwrap_or_default()
    }

    /// Until when events were forgotten, of those that were.
    pub fn forgotten(&self) -> Vec<(EventId, Micros)> {
        let known = self.rulings.events.lock();
        let forgotten = known.iter().filter(|(_, r)| r.forgotten > Micros(0));
        forgotten.map(|(e, r)| (e.clone(), r.forgotten)).collect()
    }

    /// Until when tickets are to be void if the event is forgotten now: those of a line that is yet
    /// to be drawn have places up to its opening.
    pub fn forgetting(&self, now: Micros, event: &EventId) -> Micros {
        let stamp = self.clock.tick(now);
        let policy = self.policy(event);
        let drawn = policy.filter(|policy| Event::is_before_draw(policy, now));
        stamp.max(drawn.and_then(|policy| policy.opens).unwrap_or_default())
    }

    /// Takes over one ruling that the store has taken. Answers how many tickets were forgotten.
    pub fn take_ruling(&self, now: Micros, event: &EventId, ruling: &Ruling) -> u64 {
        let tickets = self.take(now, &mut self.rulings.events.lock(), event, ruling);
        self.rulings.changed.notify_one();
        tickets
    }

    /// Waits until a ruling was made at this node.
    pub async fn ruled(&self) {
        self.rulings.changed.notified().await;
    }

    /// Takes over what a store holds of the rulings. Answers what is known better here, to be
    /// restored there.
    pub fn take_rulings(&self, now: Micros, there: &Rulings) -> Vec<(EventId, Ruling)> {
        let mut known = self.rulings.events.lock();
        for (event, ruling) in &there.events {
            self.take(now, &mut known, event, ruling);
        }
        let kept_for = self.longest_ticket_ttl();
        let horizon = Micros(now.0.saturating_sub(micros(kept_for)));
        known.retain(|event, ruling| there.events.contains_key(event) || !ruling.is_over(horizon));
        let read_at = Micros(self.rulings.read_at.load(Ordering::Relaxed));
        let mut better = Vec::new();
        let mut ended = Vec::new();
        for (event, ruling) in &*known {
            match there.events.get(event) {
                // A store drops what says nothing any more. Who looked since then knows that this
                // one was lost; who did not cannot tell.
                None if now.since(read_at) > kept_for => ended.push(event.clone()),
                None => better.push((event.clone(), ruling.clone())),
                Some(theirs) => {
                    if theirs.clone().merge(ruling) {
                        better.push((event.clone(), ruling.clone()));
                    }
                }
            }
        }
        for event in ended {
            known.remove(&event);
            self.apply_patch(now, &event, None);
        }
        better
    }

    /// The store's rulings are known as they were at `at`.
    pub fn note_rulings(&self, at: Micros) {
        self.rulings.read_at.fetch_max(at.0, Ordering::Relaxed);
    }

    /// Whether this node knows what operators ruled until lately; one that is alone always does.
    pub(super) fn knows_rulings(&self, now: Micros) -> bool {
        let read_at = Micros(self.rulings.read_at.load(Ordering::Relaxed));
        self.is_alone() || now.since(read_at) <= STALE_AFTER
    }

    fn take(
        &self,
        now: Micros,
        known: &mut BTreeMap<EventId, Ruling>,
        event: &EventId,
        ruling: &Ruling,
    ) -> u64 {
        let mine = known.entry(event.clone()).or_default();
        let before = mine.clone();
        if !mine.merge(ruling) {
            return 0;
        }
        self.clock.observe(mine.stamp, now, self.identity.skew_max);
        let mut tickets = 0;
        if mine.forgotten > before.forgotten {
            tickets = self.forget_until(now, event, mine.forgotten);
        }
        if mine.patch != before.patch {
            self.apply_patch(now, event, mine.patch.as_deref());
        }
        tickets
    }

    /// An override that this build cannot read, or that does not fit, is told and passed over: a
    /// sale must go on.
    fn apply_patch(&self, now: Micros, event: &EventId, patch: Option<&str>) {
        if patch.is_none() && self.event(event.as_str()).is_none() {
            return;
        }
        match patch.map(serde_json::from_str::<PolicyPatch>).transpose() {
            Ok(patch) => match self.set_patch(now, event, patch) {
                Ok(_) => tracing::info!(%event, "event policy changed"),
                Err(mistakes) => {
                    let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                    tracing::warn!(%event, mistakes = mistakes.join("; "), "override not applied");
                }
            },
            Err(error) => tracing::warn!(%event, %error, "an override cannot be read"),
        }
    }

    /// Forgets an event with all that arrived until then; what came later stays. Answers how many
    /// tickets were forgotten.
    fn forget_until(&self, now: Micros, event: &EventId, until: Micros) -> u64 {
        self.clock.observe(until, now, self.identity.skew_max);
        self.journal.forget(event, until);
        let forgotten = self.events.remove(event, Some(until));
        let tickets = forgotten.map_or(0, |old| {
            let held = {
                let _writer = old.line.write();
                let mut side = old.side.lock();
                side.retired = true;
                self.end_share(now, &old, &mut side, "the event was forgotten");
                old.line.len()
            };
            let mut kept = self.dump_event(&old, None);
            kept.retain(|record| !record.is_void(until));
            self.merge(now, event, &kept, Origin::Store);
            let stay = self.event(event.as_str()).map_or(0, |new| new.line.len());
            held.saturating_sub(stay)
        });
        self.create_configured(now);
        tracing::info!(%event, tickets, "event forgotten");
        tickets
    }

    fn longest_ticket_ttl(&self) -> Duration {
        let settings = self.settings.load();
        let ttls = settings.events.values().map(|policy| policy.ticket_ttl);
        ttls.fold(settings.defaults.ticket_ttl, Duration::max)
    }
}
