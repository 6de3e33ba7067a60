//! Takes over what the store holds, before the node says it is ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::journal::follow::Follower;
use crate::journal::health::Health;
use crate::model::{EventId, Gone, Kind, Micros, Record, TicketId, TicketKey};
use crate::room::Room;
use crate::store::{Chunk, Meta, Position, Store, StoreError, Stored};

/// Tickets of one piece.
const CHUNK: usize = 65_536;
/// A long load says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What was taken over.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The store's fixed facts.
    pub meta: Meta,
    /// Where each partition's feed ended before it was loaded, and when: following from there
    /// misses nothing.
    pub ends: Vec<(Micros, Position)>,
    /// Tickets in line.
    pub live: usize,
    /// Removals remembered.
    pub removed: usize,
    /// Events with a gate.
    pub gates: usize,
    /// Of which revision the rulings are.
    pub revision: u64,
    /// Forgotten events of which there were tickets left.
    pub void: Vec<EventId>,
}

#[derive(Default)]
struct Tickets {
    live: Vec<TicketKey>,
    removed: Vec<(TicketId, Micros, Gone)>,
}

/// Loads policies, tickets and gates into a room: partitions are read side by side, each event's
/// line is built once, in order. A room that serves already has them merged into what it holds.
///
/// # Errors
/// The store does not answer; or [`crate::store::Retry::Never`] when it is not one that this room
/// can be a part of.
pub async fn load(
    room: &Arc<Room>,
    store: &Arc<dyn Store>,
    clock: &Clock,
) -> Result<Loaded, StoreError> {
    let now = || Micros(clock.now_micros());
    let started = now();
    let expected = room.journal().partitions();
    let meta = store.meta(expected).await?;
    let partitions = meta.partitions;
    if partitions != expected {
        let message = format!(
            "the store has {partitions} partitions, and this node serves with {expected} since it \
             started without it: start the node again while the store answers"
        );
        return Err(StoreError::never("load", message));
    }
    let mut loaded = Loaded {
        meta,
        ends: Vec::new(),
        live: 0,
        removed: 0,
        gates: 0,
        revision: 0,
        void: Vec::new(),
    };
    for partition in 0..partitions {
        loaded.ends.push((now(), store.feed_end(partition).await?));
    }
    if let Some(rulings) = store.rulings(0).await? {
        room.take_rulings(now(), &rulings);
        loaded.revision = rulings.revision;
    }
    room.note_rulings(started);
    let mut reading = JoinSet::new();
    for partition in 0..partitions {
        reading.spawn(read(Arc::clone(store), partition));
    }
    let mut events: HashMap<EventId, Tickets> = HashMap::new();
    let mut told = started;
    while let Some(read) = reading.join_next().await {
        let chunks = match read {
            Ok(chunks) => chunks?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        for (event, tickets) in chunks.into_iter().flat_map(|chunk| chunk.tickets) {
            let of_event = events.entry(event).or_default();
            for ticket in tickets {
                match ticket {
                    Stored::Live { id, arrival } => of_event.live.push(TicketKey { arrival, id }),
                    Stored::Removed { id, at, why } => of_event.removed.push((id, at, why)),
                }
            }
        }
        if now().since(told) >= PROGRESS_EVERY {
            told = now();
            let tickets: usize = events
                .values()
                .map(|t| t.live.len() + t.removed.len())
                .sum();
            tracing::info!(tickets, partitions_left = reading.len(), "loading");
        }
    }
    // All is read before any of it is taken over: of a reading that failed half way, nothing may stay
    // that the store has lost when it is read again, and that nobody would tell it.
    let gates = store.gates().await?;
    let forgotten: HashMap<_, _> = room.forgotten().into_iter().collect();
    for (event, Tickets { live, removed }) in events {
        if let Some(until) = forgotten.get(&event)
            && (live.iter().any(|key| key.arrival <= *until)
                || removed.iter().any(|(_, at, _)| at <= until))
        {
            loaded.void.push(event.clone());
        }
        loaded.live += live.len();
        loaded.removed += removed.len();
        if room.is_serving() {
            merge(room, now(), &event, &removed, live);
        } else {
            room.restore_removed(now(), &event, &removed);
            room.restore_live(now(), &event, &live);
        }
    }
    for gate in &gates {
        loaded.gates += 1;
        room.restore_gate(now(), gate);
    }
    let millis = now().since(started).as_millis() as u64;
    let Loaded {
        live,
        removed,
        gates,
        ..
    } = loaded;
    tracing::info!(live, removed, gates, millis, "loaded");
    Ok(loaded)
}

/// Merges an event's tickets into a line in service, in the order in which they go cheaply.
fn merge(
    room: &Room,
    now: Micros,
    event: &EventId,
    removed: &[(TicketId, Micros, Gone)],
    mut live: Vec<TicketKey>,
) {
    live.sort_unstable();
    let removed = removed.iter().map(|&(id, at, why)| Record {
        kind: why.kind(),
        id,
        at,
    });
    let live = live.into_iter().map(|key| Record {
        kind: Kind::Joined,
        id: key.id,
        at: key.arrival,
    });
    room.reload(now, event, &removed.chain(live).collect::<Vec<_>>());
}

/// What follows the other nodes' feeds into the room.
pub fn follower(
    room: &Arc<Room>,
    store: &Arc<dyn Store>,
    clock: &Clock,
    health: &Arc<Health>,
) -> Follower {
    let (applied, lagging, reloaded) = (Arc::clone(room), Arc::clone(room), Arc::clone(room));
    let (source, time) = (Arc::clone(store), clock.clone());
    Follower {
        store: Arc::clone(store),
        clock: clock.clone(),
        health: Arc::clone(health),
        apply: Box::new(move |now, batch| {
            applied.apply(now, batch);
        }),
        reload: Box::new(move |partition| {
            let (room, store) = (Arc::clone(&reloaded), Arc::clone(&source));
            let clock = time.clone();
            Box::pin(async move { reload(&room, &store, &clock, partition).await })
        }),
        lag: Box::new(move |now, lag| lagging.set_feed_lag(now, lag)),
    }
}

/// Loads one partition into a room in service, and what the gates hold: for a node whose feed was cut
/// off behind it. Answers where to follow from.
///
/// # Errors
/// The store does not answer.
pub async fn reload(
    room: &Room,
    store: &Arc<dyn Store>,
    clock: &Clock,
    partition: u16,
) -> Result<Position, StoreError> {
    let end = store.feed_end(partition).await?;
    for chunk in read(Arc::clone(store), partition).await? {
        for (event, tickets) in chunk.tickets {
            let record = |ticket| match ticket {
                Stored::Live { id, arrival: at } => Record {
                    kind: Kind::Joined,
                    id,
                    at,
                },
                Stored::Removed { id, at, why } => Record {
                    kind: why.kind(),
                    id,
                    at,
                },
            };
            let records: Vec<_> = tickets.into_iter().map(record).collect();
            room.reload(Micros(clock.now_micros()), &event, &records);
        }
    }
    for gate in store.gates().await? {
        room.restore_gate(Micros(clock.now_micros()), &gate);
    }
    Ok(end)
}

async fn read(store: Arc<dyn Store>, partition: u16) -> Result<Vec<Chunk>, StoreError> {
    let mut chunks = Vec::new();
    let mut next = None;
    loop {
        let mut chunk = store.load(partition, next, CHUNK).await?;
        next = chunk.next.take();
        chunks.push(chunk);
        if next.is_none() {
            return Ok(chunks);
        }
    }
}
