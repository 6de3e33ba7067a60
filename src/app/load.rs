//! Takes over what the store holds, before the node says it is ready.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::model::{EventId, Gone, Micros, PolicyPatch, TicketId, TicketKey};
use crate::room::Room;
use crate::store::{Chunk, Store, StoreError, Stored};

/// Tickets of one piece.
const CHUNK: usize = 65_536;
/// A long load says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What was taken over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loaded {
    /// Tickets in line.
    pub live: usize,
    /// Removals remembered.
    pub removed: usize,
    /// Events with a gate.
    pub gates: usize,
}

#[derive(Default)]
struct Tickets {
    live: Vec<TicketKey>,
    removed: Vec<(TicketId, Micros, Gone)>,
}

/// Loads policies, tickets and gates into an empty room: partitions are read side by side, each
/// event's line is built once, in order.
///
/// # Errors
/// The store does not answer.
pub async fn load(
    room: &Arc<Room>,
    store: &Arc<dyn Store>,
    clock: &Clock,
) -> Result<Loaded, StoreError> {
    let now = || Micros(clock.now_micros());
    let started = now();
    let partitions = store.meta(room.journal().partitions()).await?.partitions;
    for (event, patch) in store.policies().await? {
        apply(room, now(), &event, &patch);
    }
    let mut reading = JoinSet::new();
    for partition in 0..partitions {
        reading.spawn(read(Arc::clone(store), partition));
    }
    let mut loaded = Loaded::default();
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
    for (event, Tickets { live, removed }) in events {
        loaded.live += live.len();
        loaded.removed += removed.len();
        room.restore_removed(now(), &event, &removed);
        room.restore_live(now(), &event, &live);
    }
    for gate in store.gates().await? {
        loaded.gates += 1;
        room.restore_gate(now(), &gate);
    }
    let millis = now().since(started).as_millis() as u64;
    let Loaded {
        live,
        removed,
        gates,
    } = loaded;
    tracing::info!(live, removed, gates, millis, "loaded");
    Ok(loaded)
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

/// An override that this build cannot read is told and passed over: a sale must start.
fn apply(room: &Room, now: Micros, event: &EventId, patch: &str) {
    match serde_json::from_str::<PolicyPatch>(patch) {
        Ok(patch) => {
            if let Err(mistakes) = room.set_patch(now, event, Some(patch)) {
                let mistakes: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
                tracing::warn!(%event, mistakes = mistakes.join("; "), "stored override not applied");
            }
        }
        Err(error) => tracing::warn!(%event, %error, "stored override cannot be read"),
    }
}
