//! Forgotten events, of which nothing old is to be sent any more.

use crate::sync::waits::Mutex;
use ahash::AHashMap;

use crate::model::{EventId, Micros, Record};

/// Events that are remembered; beyond, the one forgotten first is not any more.
const EVENTS_MAX: usize = 10_000;

/// Until when events were forgotten. Held for lookups, inside a lane's lock.
#[derive(Debug, Default)]
pub(super) struct Void(Mutex<AHashMap<EventId, Micros>>);

impl Void {
    pub fn forget(&self, event: &EventId, until: Micros) {
        let mut events = self.0.lock();
        if events.len() >= EVENTS_MAX
            && let Some((oldest, _)) = events.iter().min_by_key(|(_, until)| **until)
        {
            let oldest = oldest.clone();
            events.remove(&oldest);
        }
        let known = events.entry(event.clone()).or_default();
        *known = until.max(*known);
    }

    /// Whether the record is of a ticket that was forgotten.
    pub fn has(&self, event: &EventId, record: &Record) -> bool {
        let events = self.0.lock();
        events
            .get(event)
            .is_some_and(|until| record.is_void(*until))
    }
}
