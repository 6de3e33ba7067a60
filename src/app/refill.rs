//! Notices a store that was wiped while nodes hold what was in it, and has it filled again; or one that
//! lost the last words of a node that cannot repeat them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::journal::health::Health;
use crate::model::Micros;
use crate::room::Room;
use crate::store::{Meta, Store};

/// How often the store is asked who it is.
const LOOKED_EVERY: Duration = Duration::from_secs(5);

/// What the watch works with.
pub struct Watch {
    /// Who holds what the store held.
    pub room: Arc<Room>,
    /// Who may have been wiped.
    pub store: Arc<dyn Store>,
    /// Left alone while the store is.
    pub health: Arc<Health>,
    /// Time.
    pub clock: Clock,
}

impl Watch {
    /// Looks until `stop` says so. `known` is the store this node has loaded.
    pub async fn run(self, mut known: Meta, mut stop: watch::Receiver<bool>) {
        let mut repeated = Micros(0);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep(LOOKED_EVERY) => {}
            }
            let now = Micros(self.clock.now_micros());
            if let Some(since) = self.room.orphaned_since(now)
                && since > repeated
            {
                repeated = since;
                tracing::warn!(
                    "the store may have lost what a node that is gone wrote, writing it again"
                );
                self.room.journal().write_since(since);
            }
            if self.health.alone_until(now).is_some() {
                continue;
            }
            match self.store.meta(known.partitions).await {
                Ok(meta) if meta.deployment == known.deployment => {}
                Ok(meta) if meta.partitions != known.partitions => tracing::error!(
                    partitions = meta.partitions,
                    expected = known.partitions,
                    "the store was made anew with another number of partitions; restart the nodes"
                ),
                Ok(meta) => {
                    tracing::error!("the store was wiped, filling it from memory");
                    self.refill();
                    known = meta;
                }
                Err(error) => self.health.failed(now, &error),
            }
        }
    }

    /// Every node does: what comes twice is harmless.
    fn refill(&self) {
        if !mutant!(RefillSkipped) {
            self.room.journal().write_since(Micros(0));
        }
        self.room
            .doubt_all_of_gates(Micros(self.clock.now_micros()));
    }
}
