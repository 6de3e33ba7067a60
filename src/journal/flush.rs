//! Carries batches from the journal to the store: several lanes at once, one batch a lane.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::health::Health;
use super::lane::{BEACON_EVERY, Journal};
use crate::clock::Clock;
use crate::model::{Batch, EventId, Micros, Record};
use crate::store::{Position, Store, StoreError};

/// A failed lane is tried again after this, doubling up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Whether the store may have lost writes is looked at so often, also when there is nothing to write.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// How much sooner it comes when the last batch was behind with what it says is told, at most.
const BEHIND_MAX: Duration = Duration::from_millis(900);
/// Records of one batch when a partition is written anew.
const REWRITE_RECORDS: usize = 4_096;

/// Hands out all that memory holds of a partition since a moment, event by event.
pub type Dump = dyn Fn(u16, Micros) -> Vec<(EventId, Vec<Record>)> + Send + Sync;

/// What a flusher works with.
pub struct Flusher {
    /// Where records come from.
    pub journal: Arc<Journal>,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// When they are due.
    pub clock: Clock,
    /// Told how the store answers.
    pub health: Arc<Health>,
    /// Whether other nodes listen: then an empty batch tells them that this node is well when
    /// nothing else did for [`BEACON_EVERY`].
    pub in_fleet: bool,
    /// For a partition that lost records, here or in the store.
    pub dump: Box<Dump>,
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flusher")
    }
}

/// What the flusher knows of a lane beside what the journal does.
#[derive(Clone, Copy)]
struct Lane {
    busy: bool,
    /// Since when what is on its way writes the partition anew, if it does.
    rewrites: Option<Micros>,
    failures: u32,
    retry_at: Option<Micros>,
}

type Done = (u16, Result<Position, StoreError>);

impl Flusher {
    /// Runs until `drain` says so, and then until nothing is left. Answers how many records are left
    /// when the store stops taking them while draining: then it gives up after the retry at hand.
    pub async fn run(self, mut drain: watch::Receiver<bool>) -> usize {
        let lane = Lane {
            busy: false,
            rewrites: None,
            failures: 0,
            retry_at: None,
        };
        let mut lanes = vec![lane; usize::from(self.journal.partitions())];
        let mut flights = JoinSet::<Done>::new();
        let mut draining = *drain.borrow();
        let mut spoken = Micros(0);
        let mut generation = self.store.generation();
        loop {
            let present = self.store.generation();
            if present != generation {
                generation = present;
                let records = self.journal.write_again();
                tracing::warn!(
                    records,
                    "the store may have lost writes, writing the last minute again"
                );
            }
            for number in 0..self.journal.partitions() {
                self.start(number, &mut lanes, &mut flights, draining, &mut spoken);
            }
            if draining && flights.is_empty() {
                return self.journal.depth();
            }
            let wait = self.wait(&lanes, spoken);
            tokio::select! {
                biased;
                changed = drain.changed(), if !draining => {
                    draining = changed.is_err() || *drain.borrow();
                }
                Some(done) = flights.join_next() => self.land(done, &mut lanes),
                () = self.journal.woken() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// Sends what a lane has due, if anything.
    fn start(
        &self,
        number: u16,
        lanes: &mut [Lane],
        flights: &mut JoinSet<Done>,
        draining: bool,
        spoken: &mut Micros,
    ) {
        let lane = &mut lanes[usize::from(number)];
        if lane.busy {
            return;
        }
        let now = Micros(self.clock.now_micros());
        if !draining && self.health.alone_until(now).is_some() {
            return;
        }
        let again = match lane.retry_at {
            Some(at) if draining || at > now => return,
            Some(_) => {
                lane.retry_at = None;
                self.journal.unacknowledged(number)
            }
            None => None,
        };
        let next = again.or_else(|| self.journal.cut(number, now, now, draining));
        let mut batches = Vec::from_iter(next);
        if batches.is_empty() {
            lane.rewrites = self.journal.take_lost(number);
            if let Some(since) = lane.rewrites {
                batches = self.rewritten(number, now, since);
                tracing::warn!(
                    lane = number,
                    batches = batches.len(),
                    "writing a partition anew"
                );
            }
        }
        let silent = self.in_fleet
            && !draining
            && number == self.journal.own_lane()
            && now.since(*spoken) >= BEACON_EVERY;
        if batches.is_empty() && silent {
            batches.push(self.journal.outside(number, now, Vec::new()));
        }
        if batches.is_empty() {
            lane.rewrites = None;
            return;
        }
        // One that could not say that all is told yet is soon followed by one that can.
        let told = batches.last().map_or(now, |batch| batch.clock);
        *spoken = told.max(Micros(
            now.0.saturating_sub(crate::model::micros(BEHIND_MAX)),
        ));
        lane.busy = true;
        let store = Arc::clone(&self.store);
        flights.spawn(async move {
            let mut last = Ok(Position::default());
            for batch in batches {
                last = store.append(number, batch).await;
                if last.is_err() {
                    break;
                }
            }
            (number, last)
        });
    }

    fn rewritten(&self, number: u16, now: Micros, since: Micros) -> Vec<Arc<Batch>> {
        let mut batches = Vec::new();
        for (event, records) in (self.dump)(number, since) {
            for chunk in records.chunks(REWRITE_RECORDS) {
                let events = vec![(event.clone(), chunk.to_vec())];
                batches.push(self.journal.outside(number, now, events));
            }
        }
        batches
    }

    /// Books what came of a batch.
    fn land(&self, done: Result<Done, tokio::task::JoinError>, lanes: &mut [Lane]) {
        let (number, answer) = match done {
            Ok(done) => done,
            // An append that panicked is a defect of the store; its lane stays busy, and the
            // journal's age says so in the metrics.
            Err(error) => return tracing::error!(%error, "an append ended in a panic"),
        };
        let lane = &mut lanes[usize::from(number)];
        lane.busy = false;
        let rewrites = lane.rewrites.take();
        match answer {
            _ if mutant!(FailedIsDone) => self.journal.acknowledge(number),
            Ok(_) => {
                self.health.answered();
                *lane = Lane {
                    busy: false,
                    rewrites: None,
                    failures: 0,
                    retry_at: None,
                };
                self.journal.acknowledge(number);
            }
            Err(error) => {
                self.health.failed(Micros(self.clock.now_micros()), &error);
                if let Some(since) = rewrites {
                    self.journal.set_lost(number, since);
                }
                let wait = RETRY_MIN
                    .saturating_mul(1 << lane.failures.min(16))
                    .min(RETRY_MAX);
                lane.failures = lane.failures.saturating_add(1);
                lane.retry_at = Some(Micros(self.clock.now_micros()).after(wait));
            }
        }
    }

    /// How long until something is to be done, if nothing happens before: a store that may have lost
    /// writes says so to whoever looks.
    fn wait(&self, lanes: &[Lane], spoken: Micros) -> Duration {
        let now = Micros(self.clock.now_micros());
        if let Some(until) = self.health.alone_until(now) {
            return until.since(now);
        }
        let retries = lanes.iter().filter_map(|lane| lane.retry_at);
        // A lane that is busy or waits for its retry says so by itself.
        let own = &lanes[usize::from(self.journal.own_lane())];
        let free = self.in_fleet && !own.busy && own.retry_at.is_none();
        let beacon = free.then(|| spoken.after(BEACON_EVERY));
        let due = retries.chain(self.journal.due()).chain(beacon).min();
        let next = due.map_or(LOOKED_EVERY, |due| due.since(now).min(LOOKED_EVERY));
        // A lane that is due but waits for its retry must not make this spin.
        next.max(Duration::from_millis(1))
    }
}
