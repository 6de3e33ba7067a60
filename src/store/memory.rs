//! The store in memory: the reference for the others, and what tests and the simulation run on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest};
use crate::model::{
    Batch, Beat, Change, EventId, Micros, NodeId, Ruled, Ruling, Rulings, TicketId, micros,
};

use super::feed::Ring;
use super::gate::Gate;
use super::merge::Held;
use super::{
    Answer, Chunk, Cursor, Feed, FeedLimits, Meta, Position, Store, StoreClock, StoreError,
};

/// How many removals one append forgets at most, so that no append is long.
const FORGOTTEN_MAX: usize = 1_024;

/// What a [`Memory`] keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Removals are remembered this long; the longest `ticket_ttl` of any event.
    pub keep_removed: Duration,
    /// How much of each feed is kept.
    pub feed: FeedLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_removed: Duration::from_secs(6 * 60 * 60),
            feed: FeedLimits::default(),
        }
    }
}

/// A store that lives as long as its process. Every call is one step under one lock, done when it
/// is made and not when it is awaited; none fails but a [`Store::load`] with a foreign cursor.
pub struct Memory {
    clock: StoreClock,
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    meta: Option<Meta>,
    partitions: BTreeMap<u16, Partition>,
    gates: BTreeMap<EventId, Gate>,
    rulings: Rulings,
    nodes: BTreeMap<NodeId, Beat>,
    /// Until when events were erased last.
    erased: BTreeMap<EventId, Micros>,
}

struct Partition {
    tickets: BTreeMap<(EventId, TicketId), Held>,
    /// Removals by time, to forget the oldest first.
    removed: BTreeSet<(Micros, EventId, TicketId)>,
    feed: Ring,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            tickets: BTreeMap::new(),
            removed: BTreeSet::new(),
            feed: Ring::new(Position::default()),
        }
    }
}

impl Memory {
    /// An empty store that runs on `clock`.
    pub fn new(settings: Settings, clock: StoreClock) -> Self {
        Self {
            clock,
            settings,
            state: Mutex::default(),
        }
    }
}

impl Partition {
    fn apply(&mut self, batch: &Batch) {
        for (event, records) in &batch.events {
            // Records that change nothing durable must not leave empty entries behind.
            for record in records {
                let key = (event.clone(), record.id);
                let mut held = self.tickets.get(&key).copied().unwrap_or_default();
                let before = held.removed;
                if !held.apply(record) {
                    continue;
                }
                if let Some((at, _)) = before {
                    self.removed.remove(&(at, event.clone(), record.id));
                }
                if let Some((at, _)) = held.removed {
                    self.removed.insert((at, event.clone(), record.id));
                }
                self.tickets.insert(key, held);
            }
        }
    }

    fn forget_removed(&mut self, horizon: Micros) {
        for _ in 0..FORGOTTEN_MAX {
            if self.removed.first().is_none_or(|(at, ..)| *at > horizon) {
                return;
            }
            let Some((_, event, id)) = self.removed.pop_first() else {
                return;
            };
            let key = (event, id);
            if let Some(held) = self.tickets.get_mut(&key) {
                held.forget_removed(horizon);
                if held.is_empty() {
                    self.tickets.remove(&key);
                }
            }
        }
    }

    fn load(&self, from: Option<(EventId, TicketId)>, limit: usize) -> Chunk {
        let start = from.map_or(Bound::Unbounded, Bound::Excluded);
        let mut chunk = Chunk::default();
        let mut last = None;
        for ((event, id), held) in self.tickets.range((start, Bound::Unbounded)).take(limit) {
            match chunk.tickets.last_mut() {
                Some((same, tickets)) if same == event => tickets.extend(held.stored(*id)),
                _ => chunk
                    .tickets
                    .push((event.clone(), held.stored(*id).collect())),
            }
            last = Some((event, id));
        }
        let more = |last| {
            let rest = (Bound::Excluded(last), Bound::Unbounded);
            self.tickets.range(rest).next().is_some()
        };
        chunk.next = last
            .map(|(event, id)| (event.clone(), *id))
            .filter(|last| more(last.clone()))
            .map(cursor);
        chunk
    }
}

fn cursor((event, id): (EventId, TicketId)) -> Cursor {
    Cursor([id.as_bytes(), event.as_str().as_bytes()].concat())
}

fn parse(cursor: &Cursor) -> Option<(EventId, TicketId)> {
    let (id, event) = cursor.0.split_first_chunk()?;
    let event = EventId::new(std::str::from_utf8(event).ok()?).ok()?;
    Some((event, TicketId::from_bytes(*id)))
}

fn ready<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Store for Memory {
    fn meta(&self, partitions: u16) -> Answer<'_, Meta> {
        let mut state = self.state.lock();
        let meta = state.meta.get_or_insert_with(|| Meta::new(partitions));
        ready(meta.clone())
    }

    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position> {
        let now = (self.clock)();
        let horizon = Micros(now.0.saturating_sub(micros(self.settings.keep_removed)));
        let mut state = self.state.lock();
        let partition = state.partitions.entry(partition).or_default();
        partition.apply(&batch);
        partition.forget_removed(horizon);
        ready(partition.feed.push(now, batch, &self.settings.feed))
    }

    fn feed_end(&self, partition: u16) -> Answer<'_, Position> {
        let state = self.state.lock();
        let partition = state.partitions.get(&partition);
        ready(partition.map_or(Position::default(), |p| p.feed.end()))
    }

    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed> {
        let mut state = self.state.lock();
        let partition = state.partitions.entry(partition).or_default();
        ready(partition.feed.follow(after, limit))
    }

    fn load(&self, partition: u16, from: Option<Cursor>, limit: usize) -> Answer<'_, Chunk> {
        let from = match from.as_ref().map(parse) {
            None => None,
            Some(Some(key)) => Some(key),
            Some(None) => {
                let error = StoreError::never("load a partition", "a cursor of another store");
                return Box::pin(std::future::ready(Err(error)));
            }
        };
        let state = self.state.lock();
        let partition = state.partitions.get(&partition);
        ready(partition.map_or_else(Chunk::default, |p| p.load(from, limit.max(1))))
    }

    fn gates(&self) -> Answer<'_, Vec<GateView>> {
        let state = self.state.lock();
        let now = (self.clock)();
        let gates = state.gates.iter();
        ready(
            gates
                .map(|(event, gate)| gate.view(now, event.clone()))
                .collect(),
        )
    }

    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced> {
        let now = (self.clock)();
        let mut state = self.state.lock();
        let gate = state.gates.entry(request.event.clone()).or_default();
        ready(gate.advance(now, &request, &mut Vec::new()))
    }

    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry> {
        let now = (self.clock)();
        let mut state = self.state.lock();
        let gate = state.gates.entry(request.event.clone()).or_default();
        ready(gate.enter(now, &request, &mut Vec::new()))
    }

    fn settle(&self, request: SettleRequest) -> Answer<'_, ()> {
        let now = (self.clock)();
        let mut state = self.state.lock();
        let gate = state.gates.entry(request.event.clone()).or_default();
        gate.settle(now, &request, &mut Vec::new());
        ready(())
    }

    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool> {
        let mut state = self.state.lock();
        let gate = state.gates.get_mut(&event);
        ready(gate.is_some_and(|gate| gate.complete(&id, &mut Vec::new())))
    }

    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>> {
        let rulings = &self.state.lock().rulings;
        ready((rulings.revision != known).then(|| rulings.clone()))
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled> {
        let rulings = &mut self.state.lock().rulings;
        ready(rulings.rule(&event, &change, at, self.settings.keep_removed))
    }

    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()> {
        self.state.lock().rulings.restore(rulings);
        ready(())
    }

    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()> {
        let mut state = self.state.lock();
        for partition in state.partitions.values_mut() {
            partition.tickets.retain(|(e, _), held| {
                if *e == event {
                    held.erase(until);
                }
                !held.is_empty()
            });
            partition
                .removed
                .retain(|(at, e, _)| *e != event || *at > until);
        }
        let erased = state.erased.entry(event.clone()).or_default();
        if *erased < until {
            *erased = until;
            state.gates.remove(&event);
        }
        ready(())
    }

    fn beat(&self, beat: Beat) -> Answer<'_, Vec<Beat>> {
        let mut state = self.state.lock();
        let before = state.nodes.values().cloned().collect();
        state.nodes.insert(beat.node, beat);
        ready(before)
    }

    fn close(&self) -> Answer<'_, ()> {
        ready(())
    }
}
