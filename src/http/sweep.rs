//! All connections of a listener, and the one task that looks over them: a coarse guard against
//! slow heads and forgotten connections that costs a request two plain stores. (A timer for each
//! connection costs a tenth of the throughput.)

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::wire::{Phase, Pokes, Wire};

/// How often all connections are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// After so many quiet sweeps a connection gives its buffers back.
const PARK_AGE: u32 = 4;
/// So many locks share the connections, so that coming and going waits for no whole sweep.
const SHARDS: usize = 32;

#[derive(Default)]
pub(super) struct Registry {
    shards: [Mutex<Slots>; SHARDS],
    turn: AtomicUsize,
    open: AtomicUsize,
    empty: Notify,
}

/// Held for an insertion, a removal, or a sweep over one shard.
#[derive(Default)]
struct Slots {
    wires: Vec<Option<Arc<Wire>>>,
    free: Vec<usize>,
}

/// A connection's place among the others, given up when dropped.
pub(super) struct Seat {
    registry: Arc<Registry>,
    shard: usize,
    slot: usize,
}

impl Registry {
    /// Open connections.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn seat(self: &Arc<Self>, wire: Arc<Wire>) -> Seat {
        let shard = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
        self.open.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.shards[shard].lock();
        let slot = match slots.free.pop() {
            Some(slot) => {
                slots.wires[slot] = Some(wire);
                slot
            }
            None => {
                slots.wires.push(Some(wire));
                slots.wires.len() - 1
            }
        };
        drop(slots);
        Seat {
            registry: Arc::clone(self),
            shard,
            slot,
        }
    }

    fn each(&self, shard: &Mutex<Slots>, look: impl Fn(&Wire)) {
        shard.lock().wires.iter().flatten().for_each(|w| look(w));
    }

    /// Tells all connections something.
    pub fn poke_all(&self, why: Pokes) {
        for shard in &self.shards {
            self.each(shard, |wire| wire.poke(why));
        }
    }

    /// Waits until no connection is open.
    pub async fn emptied(&self) {
        loop {
            let notified = self.empty.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            notified.await;
        }
    }

    /// Looks over all connections for ever.
    pub async fn sweep(&self, shared: &Shared) {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (head, idle) = {
                let limits = &shared.settings.load().limits;
                (
                    sweeps(limits.header_read_timeout),
                    sweeps(limits.idle_timeout),
                )
            };
            for shard in &self.shards {
                self.each(shard, |wire| judge(wire, head, idle));
                tokio::task::yield_now().await;
            }
        }
    }
}

/// How many sweeps a duration is, rounded up.
fn sweeps(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(SWEEP.as_millis())).unwrap_or(u32::MAX)
}

fn judge(wire: &Wire, head: u32, idle: u32) {
    let poke = match wire.age() {
        (Phase::Idle | Phase::Answer, age) if age >= idle => Pokes::EXPIRED,
        (Phase::Idle, PARK_AGE) if wire.is_buffered() => Pokes::PARK,
        (Phase::Head, age) if age >= head => Pokes::EXPIRED,
        // Requests and closing have timeouts of their own.
        _ => return,
    };
    wire.poke(poke);
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut slots = self.registry.shards[self.shard].lock();
        slots.wires[self.slot] = None;
        slots.free.push(self.slot);
        drop(slots);
        if self.registry.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.registry.empty.notify_waiters();
        }
    }
}
