//! The store on a real cluster of six local servers: how fast batches go in, visitors enter, and a
//! million tickets come back after a start. `cargo bench --bench redis`.

#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures and looks about from outside"
)]

#[allow(dead_code, reason = "what the tests use of it is more")]
#[path = "../tests/kit"]
mod kit {
    pub mod cluster;
    pub mod redis;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate::model::gate::{AdvanceRequest, EnterRequest, GatePolicy, Presence};
use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId};
use tidegate::store::redis::{Address, Settings};
use tidegate::store::{Redis, Store};
use tokio::task::JoinSet;

const PARTITIONS: u16 = 16;
const TICKETS: u128 = 1_000_000;
const BATCH: usize = 1_024;
const ENTERS: u128 = 10_000;
const CHUNK: usize = 65_536;

fn event() -> EventId {
    EventId::new("bench").unwrap()
}

/// Spread over the partitions as ids made by hashing are.
fn id(n: u128) -> TicketId {
    TicketId::from_u128(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

async fn append(store: Arc<Redis>, partition: u16, tickets: Vec<TicketId>) {
    for (seq, ids) in (1..).zip(tickets.chunks(BATCH)) {
        let record = |(n, id): (usize, &TicketId)| Record {
            kind: Kind::Joined,
            id: *id,
            at: Micros(1_800_000_000_000_000 + seq * 100_000 + n as u64),
        };
        let batch = Batch {
            node: NodeId(0),
            epoch: 1,
            seq,
            clock: Micros(1),
            events: vec![(event(), ids.iter().enumerate().map(record).collect())],
        };
        store.append(partition, Arc::new(batch)).await.unwrap();
    }
}

async fn load(store: Arc<Redis>, partition: u16) -> usize {
    let (mut held, mut from) = (0, None);
    loop {
        let chunk = store.load(partition, from, CHUNK).await.unwrap();
        held += chunk.tickets.iter().map(|(_, t)| t.len()).sum::<usize>();
        from = chunk.next;
        if from.is_none() {
            return held;
        }
    }
}

async fn enter(store: Arc<Redis>) {
    let policy = GatePolicy {
        rate: 1e6,
        burst: ENTERS as u32,
        max_active: 0,
        paused: false,
        ready_ttl: 600_000_000,
        late_grace: 0,
        ticket_ttl: 600_000_000,
        pass_ttl: 600_000_000,
        nodes: 0,
        share_limit: 0,
    };
    let mut version = 0;
    let started = Instant::now();
    let all: Vec<_> = (0..ENTERS).map(id).collect();
    for (serial, candidates) in (1..).zip(all.chunks(100)) {
        let request = AdvanceRequest {
            event: event(),
            node: NodeId(0),
            serial,
            policy,
            version,
            candidates: candidates.to_vec(),
            homes: vec![],
            presence: Presence::Quiet,
            given_back: vec![],
            claims: vec![],
            lease_held: 0,
            lease_wanted: 0,
        };
        version = store.advance(request).await.unwrap().version;
    }
    say(
        "advance, 100 turns each",
        ENTERS as usize / 100,
        started.elapsed(),
    );
    let started = Instant::now();
    let mut entering = JoinSet::new();
    for n in 0..64 {
        let store = Arc::clone(&store);
        entering.spawn(async move {
            for n in (n..ENTERS).step_by(64) {
                let request = EnterRequest {
                    event: event(),
                    node: NodeId(0),
                    policy,
                    id: id(n),
                    claim: None,
                    free: false,
                    arrival: Micros(0),
                    key: None,
                    known: None,
                };
                store.enter(request).await.unwrap();
            }
        });
    }
    while let Some(done) = entering.join_next().await {
        done.unwrap();
    }
    say("enter, 64 at once", ENTERS as usize, started.elapsed());
}

fn say(what: &str, count: usize, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!(
        "{what}: {count} in {took:.2?}, {:.0}/s, {:.1} us each",
        1.0 / each,
        each * 1e6
    );
}

fn main() {
    let servers = kit::cluster::Cluster::start();
    let settings = Settings {
        addresses: vec![Address {
            host: "127.0.0.1".to_owned(),
            port: servers.servers[0].port,
        }],
        response_timeout: Duration::from_secs(30),
        ..Settings::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Redis::open(settings).await.unwrap());
        store.meta(PARTITIONS).await.unwrap();
        let mut tickets = vec![Vec::new(); usize::from(PARTITIONS)];
        for id in (0..TICKETS).map(id) {
            tickets[usize::from(id.partition(PARTITIONS))].push(id);
        }
        let started = Instant::now();
        let mut appending = JoinSet::new();
        for (partition, tickets) in (0..).zip(tickets) {
            appending.spawn(append(Arc::clone(&store), partition, tickets));
        }
        while let Some(done) = appending.join_next().await {
            done.unwrap();
        }
        say(
            "append joins, 1,024 a batch",
            TICKETS as usize,
            started.elapsed(),
        );
        for _ in 0..3 {
            let started = Instant::now();
            let mut loading = JoinSet::new();
            for partition in 0..PARTITIONS {
                loading.spawn(load(Arc::clone(&store), partition));
            }
            let mut held = 0;
            while let Some(loaded) = loading.join_next().await {
                held += loaded.unwrap();
            }
            assert_eq!(held, TICKETS as usize);
            say("load, side by side", held, started.elapsed());
        }
        enter(store).await;
    });
}
