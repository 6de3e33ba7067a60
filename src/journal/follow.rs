//! Reads what other nodes wrote: one reader a partition, in paced steps, each at its own position.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::health::Health;
use crate::clock::Clock;
use crate::model::{Batch, Micros};
use crate::store::{FROM_THE_GATE, Feed, Position, Store, StoreError};

/// Batches of one reading.
pub const READ_MAX: usize = 256;
/// After writes may have been lost, readers go back this far: reading twice is harmless.
const REWOUND: Duration = Duration::from_secs(60);
/// How often a position is remembered to go back to.
const MARKED_EVERY: Duration = Duration::from_secs(1);
/// A busy feed is read this often.
const PACE_BUSY: Duration = Duration::from_millis(50);
/// … but this often while nobody but gates writes to it: what they did is no news to the node that
/// asked, and the others hear of turns well before visitors come back to ask. A join by key may come
/// to lie there, too: until it was heard of, nobody who came after it may be called. So this, with
/// what writing and reading take, is less than the time for which new arrivals are held back
/// (`room::SETTLED_AFTER`).
pub const PACE_GATES: Duration = Duration::from_millis(75);
/// A quiet one is waited on for this long at once: the view of a fleet at rest is never older.
const WAITED: Duration = Duration::from_millis(200);
/// A failed reading is tried again after this, doubling up to the second.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Where the reader of one partition is. Synchronous; whoever drives it asks the store.
#[derive(Debug)]
pub struct Reader {
    at: Position,
    /// Everything that was written before this moment has been read.
    known_until: Micros,
    /// Positions of the last [`REWOUND`], to go back to.
    marks: VecDeque<(Micros, Position)>,
}

/// What to do after a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The position is behind the horizon: load the partition anew, then [`Reader::reset`].
    Reload,
    /// There is more: read again at once.
    Again,
    /// Read again at the busy pace.
    Busy,
    /// Nothing was new.
    Quiet,
}

impl Reader {
    /// A reader at `at`, which was the feed's end not before `now`. A failover may give that position
    /// to what comes later: until others are known that are old enough, it goes back to the beginning,
    /// and if that was trimmed, the partition is loaded anew.
    pub fn new(now: Micros, at: Position) -> Self {
        let rewound = now.0.saturating_sub(crate::model::micros(REWOUND));
        Self {
            at,
            known_until: now,
            marks: VecDeque::from([(Micros(rewound), Position(0)), (now, at)]),
        }
    }

    /// Read on from here.
    pub fn position(&self) -> Position {
        self.at
    }

    /// Everything that was written before this moment has been read.
    pub fn known_until(&self) -> Micros {
        self.known_until
    }

    /// Books a reading of at most `limit` batches that was asked for at `asked`; its batches are to
    /// be applied before the next one.
    pub fn take(&mut self, asked: Micros, feed: &Feed, limit: usize) -> Next {
        if feed.trimmed {
            return Next::Reload;
        }
        if let Some((last, _)) = feed.batches.last() {
            self.at = *last;
        }
        if feed.batches.len() >= limit {
            return Next::Again;
        }
        self.known_until = self.known_until.max(asked);
        self.mark(asked);
        if feed.batches.is_empty() {
            Next::Quiet
        } else {
            Next::Busy
        }
    }

    /// The partition was loaded anew; `at` was the feed's end at `now`, before that.
    pub fn reset(&mut self, now: Micros, at: Position) {
        *self = Self::new(now, at);
    }

    /// Goes back: writes may have been lost and others may have taken their positions.
    pub fn rewind(&mut self) {
        if let Some((_, position)) = self.marks.front()
            && !mutant!(NotRewound)
        {
            self.at = *position;
        }
    }

    fn mark(&mut self, now: Micros) {
        let newest = self.marks.back().map_or(Micros(0), |(at, _)| *at);
        if now.since(newest) < MARKED_EVERY {
            return;
        }
        self.marks.push_back((now, self.at));
        // The first one that is old enough stays.
        while let Some((second, _)) = self.marks.get(1)
            && now.since(*second) >= REWOUND
        {
            self.marks.pop_front();
        }
    }
}

/// Loads a partition anew; answers a position from which nothing is missed.
pub type Reload =
    dyn Fn(u16) -> Pin<Box<dyn Future<Output = Result<Position, StoreError>> + Send>> + Send + Sync;

/// Takes over another node's batch.
pub type Apply = dyn Fn(Micros, &Batch) + Send + Sync;

/// What a follower works with.
pub struct Follower {
    /// Whose feeds.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Clock,
    /// Told how the store answers.
    pub health: Arc<Health>,
    /// Takes a batch into memory.
    pub apply: Box<Apply>,
    /// For a partition whose feed no longer holds what is missing here.
    pub reload: Box<Reload>,
    /// Told, after each reading, how far this node is behind.
    pub lag: Box<dyn Fn(Micros, Duration) + Send + Sync>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}

impl Follower {
    /// Follows every partition from the positions given, until `stop` says so.
    pub async fn run(self, from: Vec<(Micros, Position)>, stop: watch::Receiver<bool>) {
        let known: Arc<Mutex<Vec<Micros>>> =
            Arc::new(Mutex::new(from.iter().map(|(now, _)| *now).collect()));
        let this = Arc::new(self);
        let mut readers = JoinSet::new();
        for (partition, (now, at)) in (0..).zip(from) {
            let (this, known) = (Arc::clone(&this), Arc::clone(&known));
            let mut stop = stop.clone();
            readers.spawn(async move {
                let reading = this.read(partition, Reader::new(now, at), &known);
                tokio::select! {
                    biased;
                    _ = stop.wait_for(|stop| *stop) => {}
                    () = reading => {}
                }
            });
        }
        while let Some(ended) = readers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the reader of a feed ended in a panic");
            }
        }
    }

    async fn read(&self, partition: u16, mut reader: Reader, known: &Mutex<Vec<Micros>>) {
        let mut generation = self.store.generation();
        // A position that may be another feed's is looked at before anything is waited for after it.
        let (mut sure, mut failures) = (false, 0u32);
        let mut gates_only = false;
        loop {
            let now = self.now();
            if let Some(until) = self.health.alone_until(now) {
                sleep(until.since(now)).await;
                continue;
            }
            let present = self.store.generation();
            if present != generation {
                generation = present;
                reader.rewind();
                sure = false;
            }
            let asked = self.now();
            let (store, at) = (&self.store, reader.position());
            let read = if sure {
                store.wait(partition, at, READ_MAX, WAITED).await
            } else {
                store.follow(partition, at, READ_MAX).await
            };
            let step = match read {
                Ok(feed) => {
                    self.health.answered();
                    for (_, batch) in &feed.batches {
                        (self.apply)(self.now(), batch);
                    }
                    gates_only = feed
                        .batches
                        .iter()
                        .all(|(_, batch)| batch.epoch == FROM_THE_GATE);
                    Ok(reader.take(asked, &feed, READ_MAX))
                }
                Err(error) => Err(error),
            };
            let step = match step {
                Ok(Next::Reload) => {
                    tracing::warn!(
                        partition,
                        "too far behind the feed, loading the partition anew"
                    );
                    let reloaded = (self.reload)(partition).await;
                    reloaded.map(|at| {
                        reader.reset(asked, at);
                        Next::Again
                    })
                }
                other => other,
            };
            self.tell_lag(partition, &reader, known);
            match step {
                Ok(next) => {
                    failures = 0;
                    sure = true;
                    if next == Next::Busy {
                        sleep(if gates_only { PACE_GATES } else { PACE_BUSY }).await;
                    }
                }
                Err(error) => {
                    self.health.failed(self.now(), &error);
                    sure = false;
                    sleep(
                        RETRY_MIN
                            .saturating_mul(1 << failures.min(8))
                            .min(RETRY_MAX),
                    )
                    .await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    /// The slowest reader tells how old the view is.
    fn tell_lag(&self, partition: u16, reader: &Reader, known: &Mutex<Vec<Micros>>) {
        let oldest = {
            let mut known = known.lock();
            known[usize::from(partition)] = reader.known_until();
            known.iter().copied().min().unwrap_or_default()
        };
        let now = self.now();
        (self.lag)(now, now.since(oldest));
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeId;

    fn feed(positions: &[u128]) -> Feed {
        let batch = Arc::new(Batch {
            node: NodeId(1),
            epoch: 1,
            seq: 1,
            clock: Micros(0),
            events: Vec::new(),
        });
        let batches = positions.iter().map(|p| (Position(*p), Arc::clone(&batch)));
        Feed {
            batches: batches.collect(),
            trimmed: false,
        }
    }

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_view_is_as_new_as_the_last_reading_that_reached_the_end() {
        let mut reader = Reader::new(Micros(0), Position(0));
        assert_eq!(reader.take(Micros(10), &feed(&[1, 2]), 2), Next::Again);
        assert_eq!(reader.known_until(), Micros(0));
        assert_eq!(reader.take(Micros(20), &feed(&[3]), 2), Next::Busy);
        assert_eq!(reader.take(Micros(30), &feed(&[]), 2), Next::Quiet);
        assert_eq!(
            (reader.known_until(), reader.position()),
            (Micros(30), Position(3))
        );
        let trimmed = Feed {
            trimmed: true,
            ..Feed::default()
        };
        assert_eq!(reader.take(Micros(40), &trimmed, 2), Next::Reload);
    }

    #[test]
    fn going_back_reaches_a_minute_and_to_the_beginning_before_that() {
        let mut reader = Reader::new(Micros(SECOND), Position(7));
        reader.take(Micros(30 * SECOND), &feed(&[8]), 9);
        reader.rewind();
        assert_eq!(reader.position(), Position(0));
        for second in 31..200 {
            reader.take(Micros(second * SECOND), &feed(&[u128::from(second)]), 9);
        }
        reader.rewind();
        assert_eq!(reader.position(), Position(139));
        assert!(reader.marks.len() <= 62);
    }
}
