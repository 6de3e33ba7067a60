//! What the store tests share: a store on a clock they hold, and short words for records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::model::gate::{AdvanceRequest, EnterRequest, GatePolicy, Presence};
use tidegate::model::{Batch, Change, EventId, Gone, Kind, Micros, NodeId, Record, TicketId};
use tidegate::store::redis::{self as on_redis, Mode};
use tidegate::store::{Embedded, FeedLimits, Memory, Redis, Store, StoreClock, Stored};
use tidegate::store::{embedded as folder, memory as in_memory};

use crate::kit::cluster::{own_prefix, shared_cluster, shared_server};

pub const SECOND: u64 = 1_000_000;
/// Where the store's clock stands at first: no removal is older than [`KEEP_REMOVED`] yet.
pub const START: u64 = 1_000 * SECOND;
pub const KEEP_REMOVED: u64 = 3_600 * SECOND;
pub const FEED: FeedLimits = FeedLimits {
    age: Duration::from_secs(60),
    records_max: 10,
};

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct Clock(Arc<AtomicU64>);

impl Clock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    pub fn pass(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn set(&self, micros: u64) {
        self.0.store(micros, Ordering::Relaxed);
    }

    pub fn as_store_clock(&self) -> StoreClock {
        let clock = self.clone();
        Arc::new(move || Micros(clock.0.load(Ordering::Relaxed)))
    }
}

/// A store, its clock, and its folder if it has one.
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    _folder: Option<TempDir>,
}

pub async fn memory() -> Bench {
    let clock = Clock::new();
    let settings = in_memory::Settings {
        keep_removed: Duration::from_micros(KEEP_REMOVED),
        feed: FEED,
    };
    Bench {
        store: Arc::new(Memory::new(settings, clock.as_store_clock())),
        clock,
        _folder: None,
    }
}

pub async fn embedded() -> Bench {
    let clock = Clock::new();
    let folder = tempfile::tempdir().unwrap();
    Bench {
        store: Arc::new(open(folder.path(), &clock).unwrap()),
        clock,
        _folder: Some(folder),
    }
}

pub async fn redis_single() -> Bench {
    let port = shared_server().port;
    redis(port, Mode::Auto).await
}

pub async fn redis_cluster() -> Bench {
    let port = shared_cluster().servers[0].port;
    redis(port, Mode::Auto).await
}

async fn redis(port: u16, mode: Mode) -> Bench {
    let clock = Clock::new();
    let settings = redis_settings(port, mode, Some(clock.as_store_clock()));
    Bench {
        store: Arc::new(Redis::open(settings).await.unwrap()),
        clock,
        _folder: None,
    }
}

/// A store of its own on a server that others use as well.
pub fn redis_settings(port: u16, mode: Mode, clock: Option<StoreClock>) -> on_redis::Settings {
    on_redis::Settings {
        addresses: vec![on_redis::Address {
            host: "127.0.0.1".to_owned(),
            port,
        }],
        mode,
        prefix: own_prefix(),
        response_timeout: Duration::from_secs(30),
        keep_removed: Duration::from_micros(KEEP_REMOVED),
        feed_age: FEED.age,
        feed_batches_max: FEED.records_max as u64,
        clock,
        ..on_redis::Settings::default()
    }
}

pub fn open(path: &std::path::Path, clock: &Clock) -> Result<Embedded, folder::OpenError> {
    let settings = folder::Settings {
        keep_removed: Duration::from_micros(KEEP_REMOVED),
        feed: FEED,
        ..folder::Settings::default()
    };
    Embedded::open(path, settings, clock.as_store_clock())
}

pub fn event(name: &str) -> EventId {
    EventId::new(name).unwrap()
}

pub fn id(number: u128) -> TicketId {
    TicketId::from_u128(number)
}

pub fn ids(range: std::ops::Range<u128>) -> Vec<TicketId> {
    range.map(id).collect()
}

pub fn record(kind: Kind, number: u128, at: u64) -> Record {
    Record {
        kind,
        id: id(number),
        at: Micros(at),
    }
}

pub fn joined(number: u128, at: u64) -> Record {
    record(Kind::Joined, number, at)
}

/// A batch with a number that no other one has.
pub fn batch(name: &str, records: Vec<Record>) -> Arc<Batch> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(Batch {
        node: NodeId(0),
        epoch: 1,
        seq: NEXT.fetch_add(1, Ordering::Relaxed),
        clock: Micros(START),
        events: vec![(event(name), records)],
    })
}

pub fn live(number: u128, arrival: u64) -> Stored {
    Stored::Live {
        id: id(number),
        arrival: Micros(arrival),
    }
}

pub fn removed(number: u128, at: u64, why: Gone) -> Stored {
    Stored::Removed {
        id: id(number),
        at: Micros(at),
        why,
    }
}

/// All that a partition holds, by event, then by ticket.
pub async fn all(store: &dyn Store, partition: u16) -> Vec<(EventId, Stored)> {
    let mut all = Vec::new();
    let mut from = None;
    loop {
        let chunk = store.load(partition, from, 3).await.unwrap();
        for (event, tickets) in chunk.tickets {
            all.extend(tickets.into_iter().map(|ticket| (event.clone(), ticket)));
        }
        from = chunk.next;
        if from.is_none() {
            break;
        }
    }
    all.sort_by_key(|(event, ticket)| match ticket {
        Stored::Live { id, .. } => (event.clone(), *id, 1),
        Stored::Removed { id, .. } => (event.clone(), *id, 0),
    });
    all
}

pub fn policy_change(patch: &str) -> Change {
    Change::Policy {
        patch: Some(patch.to_owned()),
        over: None,
    }
}

pub const POLICY: GatePolicy = GatePolicy {
    rate: 1.0,
    burst: 3,
    max_active: 0,
    paused: false,
    ready_ttl: 10 * SECOND,
    late_grace: 100 * SECOND,
    ticket_ttl: 3_600 * SECOND,
    pass_ttl: 20 * SECOND,
    nodes: 0,
    share_limit: 0,
};

pub fn advance(serial: u64, version: u64, candidates: Vec<TicketId>) -> AdvanceRequest {
    AdvanceRequest {
        event: event("e"),
        node: NodeId(0),
        serial,
        policy: POLICY,
        version,
        candidates,
        homes: vec![],
        presence: Presence::Quiet,
        given_back: vec![],
        claims: vec![],
        lease_held: 0,
        lease_wanted: 0,
    }
}

/// Of a ticket that joined long before its turn.
pub fn enter(number: u128) -> EnterRequest {
    EnterRequest {
        event: event("e"),
        node: NodeId(0),
        policy: POLICY,
        id: id(number),
        claim: None,
        free: false,
        arrival: Micros(0),
        key: None,
        known: None,
    }
}
