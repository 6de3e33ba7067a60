//! All events of the node, by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashMap;

use super::event::Event;
use super::{Room, Settings, join};
use crate::model::policy::PolicyMistake;
use crate::model::{EventId, Micros, Policy, PolicyPatch, TicketId};
use crate::sync::{ArcSwap, Guard, Mutex};

type Map = AHashMap<EventId, Arc<Event>>;

/// Events by name. Reading takes no lock; making or dropping one copies the map of references.
#[derive(Debug)]
pub(super) struct Events {
    map: ArcSwap<Map>,
    /// Guards making and dropping; holds until when events were forgotten, so that nothing older
    /// brings them back. Room for every event to be forgotten once.
    making: Mutex<AHashMap<EventId, Micros>>,
    count: AtomicUsize,
    max: usize,
    /// Those that may hold tickets moved over from another gateway, whose tokens name no event.
    moved: ArcSwap<Vec<Arc<Event>>>,
}

impl Events {
    pub fn new(max: usize) -> Self {
        Self {
            map: ArcSwap::default(),
            making: Mutex::default(),
            count: AtomicUsize::new(0),
            max,
            moved: ArcSwap::default(),
        }
    }

    pub fn get(&self, name: &str) -> Option<Arc<Event>> {
        self.map.load().get(name).map(Arc::clone)
    }

    /// The event, made by `make` if it is not there. `Err` when there are too many.
    pub fn get_or_make(
        &self,
        id: &EventId,
        unbounded: bool,
        make: impl FnOnce(Option<Micros>) -> Event,
    ) -> Result<Arc<Event>, join::TooMany> {
        if let Some(event) = self.get(id.as_str()) {
            return Ok(event);
        }
        let making = self.making.lock();
        if let Some(event) = self.get(id.as_str()) {
            return Ok(event);
        }
        if !unbounded && self.count.load(Ordering::Relaxed) >= self.max {
            return Err(join::TooMany);
        }
        let event = Arc::new(make(making.get(id).copied()));
        let mut map = Map::clone(&self.map.load());
        map.insert(id.clone(), Arc::clone(&event));
        self.map.store(Arc::new(map));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(event)
    }

    /// Takes an event out of the map. With `forgotten`, what arrived until then is void from now on.
    pub fn remove(&self, id: &EventId, forgotten: Option<Micros>) -> Option<Arc<Event>> {
        let mut making = self.making.lock();
        if let Some(until) = forgotten {
            if making.len() >= self.max
                && let Some((oldest, _)) = making.iter().min_by_key(|(_, until)| **until)
            {
                let oldest = oldest.clone();
                making.remove(&oldest);
            }
            making.insert(id.clone(), until);
        }
        let mut map = Map::clone(&self.map.load());
        let removed = map.remove(id)?;
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.map.store(Arc::new(map));
        let mut moved = Vec::clone(&self.moved.load());
        moved.retain(|event| event.id != *id);
        self.moved.store(Arc::new(moved));
        Some(removed)
    }

    /// Notes which events to look in for legacy tokens: this one, if one of these ids may be theirs.
    pub fn note_moved(&self, event: &Arc<Event>, mut ids: impl Iterator<Item = TicketId>) {
        let known = || self.moved.load().iter().any(|known| known.id == event.id);
        if !ids.any(|id| id.may_be_legacy()) || known() {
            return;
        }
        let _making = self.making.lock();
        if !known() {
            let mut moved = Vec::clone(&self.moved.load());
            moved.push(Arc::clone(event));
            self.moved.store(Arc::new(moved));
        }
    }

    /// The events to look in for legacy tokens.
    pub fn moved(&self) -> Guard<Arc<Vec<Arc<Event>>>> {
        self.moved.load()
    }

    /// Until when the event was last forgotten on an operator's word.
    pub fn forgotten(&self, id: &EventId) -> Option<Micros> {
        self.making.lock().get(id).copied()
    }

    pub fn all(&self) -> Vec<Arc<Event>> {
        self.map.load().values().cloned().collect()
    }

    /// All events, those included that somebody is just making.
    pub fn all_made(&self) -> Vec<Arc<Event>> {
        let _making = self.making.lock();
        self.all()
    }

    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Settings {
    /// The policy that an event has by configuration.
    fn policy_of(&self, id: &EventId) -> &Policy {
        self.events.get(id).unwrap_or(&self.defaults)
    }

    /// What that would be with an override.
    pub(super) fn patched(
        &self,
        id: &EventId,
        patch: Option<&PolicyPatch>,
    ) -> Result<Policy, Vec<PolicyMistake>> {
        let base = self.policy_of(id);
        patch.map_or_else(|| Ok(base.clone()), |patch| patch.apply(base))
    }
}

impl Room {
    /// The event called `name`, if it is there.
    pub(super) fn event(&self, name: &str) -> Option<Arc<Event>> {
        self.events.get(name)
    }

    /// The event, made with its policy if it is not there.
    pub(super) fn event_or_make(
        &self,
        now: Micros,
        id: &EventId,
        unbounded: bool,
    ) -> Result<Arc<Event>, join::TooMany> {
        let made = |forgotten| {
            let settings = self.settings.load();
            let policy = settings.policy_of(id).clone();
            let mut event = Event::new(id.clone(), policy, now, self.started, self.identity.fleet);
            event.forgotten = forgotten;
            event.posted.publish(&event.policy.load(), settings.polling);
            event
        };
        self.events.get_or_make(id, unbounded, made)
    }

    /// The policy an event has by configuration.
    pub(super) fn base_policy(&self, id: &EventId) -> Policy {
        self.settings.load().policy_of(id).clone()
    }

    pub(super) fn create_configured(&self, now: Micros) {
        let names: Vec<_> = self.settings.load().events.keys().cloned().collect();
        for id in names {
            if let Ok(event) = self.event_or_make(now, &id, true) {
                event.side.lock().configured = true;
                self.schedule.at(now, &event);
            }
        }
    }
}
