//! Follows what operators rule at any node, and erases what forgotten events left in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::journal::health::Health;
use crate::model::{EventId, Micros};
use crate::room::Room;
use crate::store::{Store, StoreError};

/// A node of a fleet looks this often whether anything was ruled at another.
pub const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// By then every node that reaches the store has looked: it writes no more of what was forgotten.
pub const SPREAD_AFTER: Duration = Duration::from_millis(1500);
/// A failed look is repeated after this.
const RETRY: Duration = Duration::from_millis(250);

/// No revision has this number: all is read.
const UNKNOWN: u64 = u64::MAX;

/// What the follower of rulings works with.
pub struct Follow {
    /// Who goes by them.
    pub room: Arc<Room>,
    /// Who holds them.
    pub store: Arc<dyn Store>,
    /// Told how the store answers.
    pub health: Arc<Health>,
    /// Time.
    pub clock: Clock,
    /// Whether others may rule too.
    pub in_fleet: bool,
}

/// What a forgotten event left, and when it may be erased.
struct Left {
    event: EventId,
    until: Micros,
    due: Micros,
    /// Records that were on their way when it was forgotten are among these.
    ends: Vec<u64>,
}

impl Follow {
    /// Follows until `stop` says so. `known` is the revision that was loaded, `void` what the load
    /// found of events that were forgotten.
    pub async fn run(self, mut known: u64, void: Vec<EventId>, mut stop: watch::Receiver<bool>) {
        let mut done: BTreeMap<_, _> = self.room.forgotten().into_iter().collect();
        done.retain(|event, _| !void.contains(event));
        let mut left = Vec::new();
        let mut generation = self.store.generation();
        // Right away: something may have been ruled during the load.
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.room.ruled() => known = UNKNOWN,
                () = sleep(wait) => {}
            }
            if generation != self.store.generation() {
                // What was lost may have had the number of what is there now.
                (generation, known) = (self.store.generation(), UNKNOWN);
            }
            let now = self.now();
            wait = match self.health.alone_until(now) {
                Some(until) => until.since(now).max(RETRY),
                None => match self.look(known).await {
                    Ok(revision) => {
                        known = revision;
                        self.room.note_rulings(now);
                        LOOKED_EVERY
                    }
                    Err(error) => {
                        self.health.failed(now, &error);
                        RETRY
                    }
                },
            };
            self.note_forgotten(&mut done, &mut left);
            self.erase(&mut left).await;
            if !self.in_fleet && left.is_empty() && wait == LOOKED_EVERY {
                // Nobody else rules: the next ruling is made here.
                wait = Duration::from_secs(3600);
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }

    /// Takes over what was ruled since `known`, and tells the store what it lost. Answers the
    /// revision that is known now.
    async fn look(&self, known: u64) -> Result<u64, StoreError> {
        let Some(rulings) = self.store.rulings(known).await? else {
            self.health.answered();
            return Ok(known);
        };
        let lost = self.room.take_rulings(self.now(), &rulings);
        if !lost.is_empty() {
            // Or it was ruled here after the store was read: then it has something newer by now.
            if self.store.rulings(rulings.revision).await?.is_some() {
                return Ok(known);
            }
            tracing::warn!(
                rulings = lost.len(),
                "the store lost rulings, restoring them"
            );
            self.store.restore_rulings(lost).await?;
        }
        Ok(rulings.revision)
    }

    fn note_forgotten(&self, done: &mut BTreeMap<EventId, Micros>, left: &mut Vec<Left>) {
        let forgotten = self.room.forgotten();
        done.retain(|event, _| forgotten.iter().any(|(name, _)| name == event));
        for (event, until) in forgotten {
            if done.get(&event).is_none_or(|erased| *erased < until) {
                done.insert(event.clone(), until);
                left.push(Left {
                    event,
                    until,
                    due: self.now().after(SPREAD_AFTER),
                    ends: self.room.journal().ends(),
                });
            }
        }
    }

    async fn erase(&self, left: &mut Vec<Left>) {
        let now = self.now();
        let due = |left: &Left| left.due <= now && self.room.journal().has_acknowledged(&left.ends);
        let (ready, not_yet): (Vec<_>, Vec<_>) = left.drain(..).partition(due);
        *left = not_yet;
        for mut at in ready {
            if let Err(error) = self.store.erase(at.event.clone(), at.until).await {
                tracing::warn!(event = %at.event, %error, "a forgotten event is not erased yet");
                at.due = now.after(LOOKED_EVERY);
                left.push(at);
            }
        }
    }
}
