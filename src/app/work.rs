//! What works between the room and the store once the store's contents are here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::load::{self, Loaded};
use super::{refill, rulings, turns};
use crate::clock::Clock;
use crate::journal::flush::Flusher;
use crate::journal::follow::PACE_GATES;
use crate::journal::health::Health;
use crate::journal::lane::Journal;
use crate::model::Micros;
use crate::room::{Room, SETTLED_AFTER};
use crate::store::Store;

/// How long a join takes at most, in good times, to be written and to be answered to a reader.
const ON_THE_WAY: Duration = Duration::from_millis(20);
// A join on the feed is heard of before anybody who came after it is called (I4).
const _: () = assert!(
    PACE_GATES.as_micros() + ON_THE_WAY.as_micros() <= SETTLED_AFTER.as_micros(),
    "turns would be called past joins that are not heard of yet"
);

/// What the tasks share.
#[derive(Clone)]
pub struct Handles {
    /// The memory.
    pub room: Arc<Room>,
    /// Its changes on their way to the store.
    pub journal: Arc<Journal>,
    /// Where they go.
    pub store: Arc<dyn Store>,
    /// How it answers.
    pub health: Arc<Health>,
    /// Time.
    pub clock: Clock,
}

/// The running tasks.
pub struct Work {
    turns: JoinHandle<()>,
    refill: JoinHandle<()>,
    rulings: JoinHandle<()>,
    /// When others may write to the store.
    follower: Option<JoinHandle<()>>,
    flusher: JoinHandle<usize>,
    stop: watch::Sender<bool>,
    drain: watch::Sender<bool>,
}

impl Work {
    /// Starts them, on what was loaded.
    pub fn start(stale_after: Duration, handles: &Handles, loaded: Loaded) -> Self {
        let Handles {
            room,
            journal,
            store,
            health,
            clock,
        } = handles.clone();
        let (drain, drained) = watch::channel(false);
        let (dumped, asked) = (Arc::clone(&room), clock.clone());
        let in_fleet = !room.is_alone();
        let flusher = Flusher {
            journal,
            store: Arc::clone(&store),
            clock: clock.clone(),
            health: Arc::clone(&health),
            in_fleet,
            dump: Box::new(move |lane, since| {
                let mut all = Vec::new();
                dumped.put_off_leaves(Micros(asked.now_micros()));
                dumped.dump(lane, since, |event, records| {
                    all.push((event.clone(), records))
                });
                all
            }),
        };
        let (stop, stopped) = watch::channel(false);
        let follower = (in_fleet || store.is_shared()).then(|| {
            let follower = load::follower(&room, &store, &clock, &health);
            tokio::spawn(follower.run(loaded.ends, stopped.clone()))
        });
        let refill = refill::Watch {
            room: Arc::clone(&room),
            store: Arc::clone(&store),
            health: Arc::clone(&health),
            clock: clock.clone(),
        };
        let rulings = rulings::Follow {
            room: Arc::clone(&room),
            store: Arc::clone(&store),
            health: Arc::clone(&health),
            clock: clock.clone(),
            in_fleet,
        };
        let turns = turns::Turns {
            room,
            store,
            health,
            clock,
            stale_after,
        };
        Self {
            refill: tokio::spawn(refill.run(loaded.meta, stopped.clone())),
            rulings: tokio::spawn(rulings.run(loaded.revision, loaded.void, stopped.clone())),
            flusher: tokio::spawn(flusher.run(drained)),
            turns: tokio::spawn(turns.run(stopped)),
            follower,
            stop,
            drain,
        }
    }

    /// Stops them: turns first, and the journal flushed last, within `patience`. Answers how many
    /// records are left, if that could be told.
    pub async fn stop(mut self, patience: Duration) -> Option<usize> {
        self.stop.send_replace(true);
        let _ = (&mut self.turns).await;
        let _ = (&mut self.refill).await;
        let _ = (&mut self.rulings).await;
        if let Some(follower) = &mut self.follower {
            let _ = follower.await;
        }
        self.drain.send_replace(true);
        let flushed = tokio::time::timeout(patience, &mut self.flusher).await;
        flushed.ok()?.ok()
    }
}

/// Whoever drops it unstopped wants nothing written any more: that is what a crash is.
impl Drop for Work {
    fn drop(&mut self) {
        for task in [&self.turns, &self.refill, &self.rulings] {
            task.abort();
        }
        self.flusher.abort();
        if let Some(follower) = &self.follower {
            follower.abort();
        }
    }
}
