//! What works in a node beside its listeners: the room, its journal, and whatever carries words
//! between them and the store. Listeners, a simulation, or both may ask it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{RunError, effects::StoreEffects, load, parts, refill, turns, until_answered};
use crate::clock::Clock;
use crate::journal::flush::Flusher;
use crate::journal::health::Health;
use crate::journal::lane::{Journal, Limits};
use crate::model::{Micros, NodeId};
use crate::room::{Identity, Room, Settings};
use crate::store::{Meta, Store};

/// What an engine is made of.
pub struct Design {
    /// This node's number.
    pub node: NodeId,
    /// How many nodes there are.
    pub fleet: u16,
    /// The most events held at once.
    pub events_max: usize,
    /// Stamps further ahead than this are not believed.
    pub skew_max: Duration,
    /// A view of the other nodes that is older than this calls nobody.
    pub lag_max: Duration,
    /// Answers say that they are degraded when the oldest unacknowledged record is older than this.
    pub stale_after: Duration,
    /// How much the journal holds, and when it cuts a batch.
    pub limits: Limits,
    /// What may change while it runs.
    pub settings: Settings,
}

/// A node without listeners. Dropping it is what a crash is: nothing is written any more.
pub struct Engine {
    /// The state machine.
    pub room: Arc<Room>,
    /// The steps of a request that wait for the store.
    pub effects: Arc<StoreEffects>,
    store: Arc<dyn Store>,
    health: Arc<Health>,
    clock: Clock,
    meta: Meta,
    stale_after: Duration,
    running: Option<Running>,
}

struct Running {
    turns: JoinHandle<()>,
    refill: JoinHandle<()>,
    /// In a fleet only.
    follower: Option<JoinHandle<()>>,
    flusher: JoinHandle<usize>,
    stop_turns: watch::Sender<bool>,
    stop_flushing: watch::Sender<bool>,
}

impl Engine {
    /// An empty room over a store that is waited for. Nothing is loaded and nothing works yet.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn open(
        design: Design,
        clock: Clock,
        store: Arc<dyn Store>,
        keys: parts::Keys,
    ) -> Result<Self, RunError> {
        let meta = until_answered(|| async { Ok(store.meta(parts::PARTITIONS).await?) }).await?;
        let now = Micros(clock.now_micros());
        let epoch = u32::try_from(now.0 / 1_000_000).unwrap_or(u32::MAX);
        let node = design.node;
        let journal = Arc::new(Journal::new(meta.partitions, node, epoch, design.limits));
        let identity = Identity {
            node,
            fleet: design.fleet,
            epoch,
            events_max: design.events_max,
            skew_max: design.skew_max,
            lag_max: design.lag_max,
        };
        let room = Room::new(now, identity, design.settings, keys, Arc::clone(&journal));
        let health = Arc::new(Health::new(u64::from(node.0)));
        let effects = StoreEffects {
            store: Arc::clone(&store),
            health: Arc::clone(&health),
            journal,
            clock: clock.clone(),
            stale_after: design.stale_after,
        };
        Ok(Self {
            room: Arc::new(room),
            effects: Arc::new(effects),
            store,
            health,
            clock,
            meta,
            stale_after: design.stale_after,
            running: None,
        })
    }

    /// Loads what the store holds, however long that takes, then works until it is stopped.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn run(&mut self) -> Result<(), RunError> {
        let (room, store, clock) = (&self.room, &self.store, &self.clock);
        let loaded = until_answered(|| async { Ok(load::load(room, store, clock).await?) }).await?;
        let (stop_flushing, drain) = watch::channel(false);
        let (stop_turns, stop) = watch::channel(false);
        let in_fleet = !room.is_alone();
        let follower = in_fleet.then(|| {
            let follower = load::follower(room, store, clock, &self.health);
            tokio::spawn(follower.run(loaded.ends, stop.clone()))
        });
        self.running = Some(Running {
            turns: tokio::spawn(self.turns().run(stop.clone())),
            refill: tokio::spawn(self.refill().run(self.meta.clone(), stop)),
            follower,
            flusher: tokio::spawn(self.flusher(in_fleet).run(drain)),
            stop_turns,
            stop_flushing,
        });
        self.room.set_loaded(true);
        Ok(())
    }

    fn flusher(&self, in_fleet: bool) -> Flusher {
        let dumped = Arc::clone(&self.room);
        Flusher {
            journal: Arc::clone(&self.effects.journal),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            health: Arc::clone(&self.health),
            in_fleet,
            dump: Box::new(move |lane| {
                let mut all = Vec::new();
                dumped.dump(lane, |event, records| all.push((event.clone(), records)));
                all
            }),
        }
    }

    fn turns(&self) -> turns::Turns {
        turns::Turns {
            room: Arc::clone(&self.room),
            store: Arc::clone(&self.store),
            health: Arc::clone(&self.health),
            clock: self.clock.clone(),
            stale_after: self.stale_after,
        }
    }

    fn refill(&self) -> refill::Watch {
        refill::Watch {
            room: Arc::clone(&self.room),
            store: Arc::clone(&self.store),
            health: Arc::clone(&self.health),
            clock: self.clock.clone(),
        }
    }

    /// Stops turns, writes what the journal holds for as long as `patience`, closes the store. Answers
    /// how many records the store did not take.
    pub async fn stop(mut self, patience: Duration) -> usize {
        let mut left = 0;
        if let Some(running) = self.running.as_mut() {
            running.stop_turns.send_replace(true);
            let _ = (&mut running.turns).await;
            let _ = (&mut running.refill).await;
            if let Some(follower) = running.follower.as_mut() {
                let _ = follower.await;
            }
            running.stop_flushing.send_replace(true);
            left = match tokio::time::timeout(patience, &mut running.flusher).await {
                Ok(Ok(left)) => left,
                Ok(Err(_)) | Err(_) => self.room.journal().depth(),
            };
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store did not close well");
        }
        left
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.turns.abort();
            running.refill.abort();
            running.flusher.abort();
            if let Some(follower) = &running.follower {
                follower.abort();
            }
        }
    }
}
