//! What a node under test asks of the store: answered at once by gates in the test's hands.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidegate::model::gate::{EnterRequest, Entry};
use tidegate::model::{EventId, TicketId};
use tidegate::room::answer::Commit;
use tidegate::room::effects::{Effect, Effects, StoreHealth, Unavailable};

use crate::room::house::House;

/// The world beyond memory.
pub struct Desk {
    pub house: Mutex<House>,
    pub away: AtomicBool,
    pub durable_asked: AtomicU64,
    pub kept: Mutex<BTreeMap<EventId, String>>,
}

impl Desk {
    pub fn new(house: House) -> Self {
        Self {
            house: Mutex::new(house),
            away: AtomicBool::new(false),
            durable_asked: AtomicU64::new(0),
            kept: Mutex::default(),
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

    fn keep_policy(&self, event: EventId, patch: Option<String>) -> Effect<'_, ()> {
        self.answer(|| {
            match patch {
                Some(patch) => self.kept.lock().insert(event, patch),
                None => self.kept.lock().remove(&event),
            };
        })
    }

    fn forget(&self, event: EventId) -> Effect<'_, ()> {
        self.answer(|| drop(self.house.lock().gates.remove(&event)))
    }

    fn health(&self) -> StoreHealth {
        if self.away.load(Ordering::Relaxed) {
            StoreHealth::Down
        } else {
            StoreHealth::Up
        }
    }
}
