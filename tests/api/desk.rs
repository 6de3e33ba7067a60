//! What a node under test asks of the store: answered at once by gates in the test's hands.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::model::gate::{EnterRequest, Entry};
use tidegate::model::{Beat, Change, EventId, Micros, NodeId, Ruled, Rulings, TicketId};
use tidegate::room::answer::Commit;
use tidegate::room::effects::{Effect, Effects, Nodes, StoreHealth, Unavailable};

use crate::room::house::House;

/// The world beyond memory.
pub struct Desk {
    pub house: Mutex<House>,
    pub away: AtomicBool,
    pub durable_asked: AtomicU64,
    pub rulings: Mutex<Rulings>,
}

impl Desk {
    pub fn new(house: House) -> Self {
        Self {
            house: Mutex::new(house),
            away: AtomicBool::new(false),
            durable_asked: AtomicU64::new(0),
            rulings: Mutex::default(),
        }
    }

    fn answer<T: Send + 'static>(&self, value: impl FnOnce() -> T) -> Effect<'_, T> {
        let outcome = if self.away.load(Ordering::Relaxed) {
            Err(Unavailable("away".to_owned()))
        } else {
            Ok(value())
        };
        Box::pin(std::future::ready(outcome))
    }
}

impl Effects for Desk {
    fn enter(&self, request: EnterRequest) -> Effect<'_, Entry> {
        self.answer(|| self.house.lock().at_gate(&request))
    }

    fn complete(&self, event: EventId, id: TicketId) -> Effect<'_, bool> {
        self.answer(|| {
            let mut house = self.house.lock();
            let gate = house.gates.entry(event).or_default();
            gate.complete(&id, &mut Vec::new())
        })
    }

    fn durable(&self, _commit: Commit) -> Effect<'_, ()> {
        self.durable_asked.fetch_add(1, Ordering::Relaxed);
        self.answer(|| ())
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Effect<'_, Ruled> {
        let keep = Duration::from_secs(3600);
        self.answer(|| self.rulings.lock().rule(&event, &change, at, keep))
    }

    fn spread(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    fn nodes(&self) -> Arc<Nodes> {
        let at = self.house.lock().now;
        let beat = |node, age| Beat {
            node: NodeId(node),
            instance: u64::from(node),
            version: "0.0.0".to_owned(),
            listen: format!("192.0.2.{node}:8000"),
            started: Micros(1),
            at: Micros(at.0 - age),
        };
        Arc::new(Nodes {
            own: NodeId(0),
            size: 3,
            beats: vec![beat(0, 0), beat(2, 16_000_000)],
            number_taken: false,
        })
    }

    fn health(&self) -> StoreHealth {
        if self.away.load(Ordering::Relaxed) {
            StoreHealth::Down
        } else {
            StoreHealth::Up
        }
    }
}
