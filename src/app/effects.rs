//! The few steps of a request that wait for the store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{sleep, timeout};

use super::rulings::SPREAD_AFTER;
use crate::clock::Clock;
use crate::journal::health::{Health, Verdict};
use crate::journal::lane::Journal;
use crate::model::gate::{EnterRequest, Entry};
use crate::model::{Beat, Change, EventId, Micros, Ruled, TicketId};
use crate::room::answer::Commit;
use crate::room::effects::{Effect, Effects, Nodes, StoreHealth, Unavailable};
use crate::store::{Answer, Store};

/// How long a visitor's request waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);

/// The store as requests see it.
pub struct StoreEffects {
    /// The store.
    pub store: Arc<dyn Store>,
    /// Told how the store answers.
    pub health: Arc<Health>,
    /// Where joins wait to be durable.
    pub journal: Arc<Journal>,
    /// Time.
    pub clock: Clock,
    /// How old the oldest unacknowledged record may be.
    pub stale_after: Duration,
    /// Whether there are other nodes.
    pub in_fleet: bool,
    /// What is known of the fleet's nodes.
    pub nodes: ArcSwap<Nodes>,
}

impl StoreEffects {
    /// Takes over what the nodes say, and whether this one's number is another's too.
    pub fn note_nodes(&self, beats: Vec<Beat>, number_taken: bool) {
        let known = self.nodes.load();
        self.nodes.store(Arc::new(Nodes {
            beats,
            number_taken,
            ..*known.as_ref()
        }));
    }

    /// Asks the store unless it is to be left alone.
    async fn patiently<'a, T>(
        &'a self,
        call: impl FnOnce(&'a dyn Store) -> Answer<'a, T>,
    ) -> Result<T, Unavailable> {
        if self
            .health
            .alone_until(Micros(self.clock.now_micros()))
            .is_some()
        {
            return Err(Unavailable(
                "it failed and is left alone for a moment".to_owned(),
            ));
        }
        let failed = match timeout(PATIENCE, call(self.store.as_ref())).await {
            Ok(Ok(value)) => {
                self.health.answered();
                return Ok(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        self.health.failed(Micros(self.clock.now_micros()), &failed);
        Err(Unavailable(failed))
    }
}

impl Effects for StoreEffects {
    fn enter(&self, request: EnterRequest) -> Effect<'_, Entry> {
        Box::pin(self.patiently(move |store| store.enter(request)))
    }

    fn complete(&self, event: EventId, id: TicketId) -> Effect<'_, bool> {
        Box::pin(self.patiently(move |store| store.complete(event, id)))
    }

    fn durable(&self, commit: Commit) -> Effect<'_, ()> {
        Box::pin(async move {
            let durable = self.journal.durable(commit.lane, commit.seq);
            timeout(PATIENCE, durable)
                .await
                .map_err(|_| Unavailable(format!("not written within {} s", PATIENCE.as_secs())))
        })
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Effect<'_, Ruled> {
        Box::pin(self.patiently(move |store| store.rule(event, change, at)))
    }

    fn spread(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if self.in_fleet {
                sleep(SPREAD_AFTER).await;
            }
        })
    }

    fn nodes(&self) -> Arc<Nodes> {
        self.nodes.load_full()
    }

    fn health(&self) -> StoreHealth {
        let age = self.journal.age(Micros(self.clock.now_micros()));
        match self.health.verdict(age, self.stale_after) {
            Verdict::Up => StoreHealth::Up,
            Verdict::Degraded => StoreHealth::Degraded,
            Verdict::Down => StoreHealth::Down,
        }
    }
}
