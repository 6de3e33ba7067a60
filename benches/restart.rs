//! A restart with a full line: the real binary over an embedded store, and as a node of a fleet over a
//! real Redis Cluster of six local servers, of a million tickets each: from its start to `readyz`
//! answering 200, and its resident memory then. `RESTART_TICKETS=n` sizes it.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[allow(dead_code, reason = "what the tests use of it is more")]
#[path = "../tests/kit"]
mod kit {
    pub mod cluster;
    pub mod redis;
}

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId};
use tidegate::store::embedded::{Embedded, Settings};
use tidegate::store::redis::{self, Redis};
use tidegate::store::{Store, StoreClock};
use tokio::runtime::Runtime;

const PARTITIONS: u16 = 16;
const BATCH: usize = 4_096;
const ROUNDS: usize = 3;
const TARGET_SEC: f64 = 3.0;

fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Micros(since.as_micros() as u64)
}

/// Fills a store with tickets of one event, and lets go of it without closing, as a crash does.
async fn fill(store: Arc<dyn Store>, tickets: usize) {
    store.meta(PARTITIONS).await.expect("a new store");
    let event = EventId::new("sale").expect("a fine id");
    let start = now().0 - 3_600_000_000;
    let mut lanes: Vec<Vec<Record>> = vec![Vec::new(); usize::from(PARTITIONS)];
    let mut seq = 0;
    for n in 0..tickets {
        let id = TicketId::from_bytes(rand::random());
        let lane = id.partition(PARTITIONS);
        let records = &mut lanes[usize::from(lane)];
        records.push(Record {
            kind: Kind::Joined,
            id,
            at: Micros(start + n as u64 * 100),
        });
        if records.len() == BATCH || n + usize::from(PARTITIONS) * BATCH >= tickets {
            seq += 1;
            let events = vec![(event.clone(), std::mem::take(records))];
            let batch = Batch {
                node: NodeId(0),
                epoch: 1,
                seq,
                clock: now(),
                events,
            };
            store
                .append(lane, Arc::new(batch))
                .await
                .expect("the disk has room");
        }
    }
    for (lane, records) in lanes.into_iter().enumerate() {
        seq += 1;
        let events = vec![(event.clone(), records)];
        let batch = Batch {
            node: NodeId(0),
            epoch: 1,
            seq,
            clock: now(),
            events,
        };
        store
            .append(lane as u16, Arc::new(batch))
            .await
            .expect("the disk has room");
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came of a start: seconds until each, and bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Started {
    /// Redis was connected to.
    connected: f64,
    /// Everything was loaded, which took so long.
    loading: f64,
    ready: f64,
    resident: usize,
}

/// Starts the binary and waits until it is ready.
fn start(sets: &[String]) -> Started {
    let begun = Instant::now();
    let mut started = Started::default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let own = [
        "server.listen=127.0.0.1:0",
        "server.admin_listen=off",
        "log.format=json",
    ];
    for set in own.into_iter().chain(sets.iter().map(String::as_str)) {
        command.args(["--set", set]);
    }
    let child = command
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the binary");
    let mut running = Running(child);
    let output = running.0.stderr.take().expect("piped");
    let address = BufReader::new(output)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok())
        .find_map(|line| {
            let text = line.to_string();
            if text.contains("connected to redis") {
                started.connected = begun.elapsed().as_secs_f64();
            }
            if let Some(millis) = line["millis"].as_f64() {
                started.loading = millis / 1e3;
            }
            line["listen"].as_str().map(str::to_owned)
        })
        .expect("it says where it listens");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    started.ready = begun.elapsed().as_secs_f64();
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", running.0.id()));
    let pages = statm
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    started.resident = pages.unwrap_or(0) * 4096;
    started
}

/// Starts a few times and shows the median.
fn measure(name: &str, tickets: usize, sets: &[String]) {
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| start(sets)).collect();
    rounds.sort_by(|a, b| a.ready.total_cmp(&b.ready));
    let Started {
        connected,
        loading,
        ready,
        resident,
    } = rounds[ROUNDS / 2];
    let verdict = if ready <= TARGET_SEC { "met" } else { "MISSED" };
    println!("restart with {tickets} tickets, {name}, median of {ROUNDS}:");
    if connected > 0.0 {
        println!("  {:<44} {connected:>8.2} s", "connected after");
    }
    println!("  {:<44} {loading:>8.2} s", "loading took");
    println!(
        "  {:<44} {ready:>8.2} s   target ≤ {TARGET_SEC} s: {verdict}",
        "ready after"
    );
    println!(
        "  {:<44} {:>8.1}",
        "resident bytes a ticket",
        resident as f64 / tickets as f64
    );
}

fn embedded(runtime: &Runtime, tickets: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock: StoreClock = Arc::new(now);
    let store = Embedded::open(folder.path(), Settings::default(), clock).expect("an empty folder");
    runtime.block_on(fill(Arc::new(store), tickets));
    let path = format!("store.path={}", folder.path().display());
    measure("embedded store", tickets, &[path]);
}

fn fleet(runtime: &Runtime, tickets: usize) {
    let cluster = kit::cluster::Cluster::start();
    let settings = redis::Settings {
        addresses: vec![redis::Address {
            host: "127.0.0.1".to_owned(),
            port: cluster.servers[0].port,
        }],
        response_timeout: Duration::from_secs(30),
        ..redis::Settings::default()
    };
    runtime.block_on(async {
        let store = Redis::open(settings).await.expect("it runs");
        fill(Arc::new(store), tickets).await;
    });
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let sets = [
        "store.kind=redis".to_owned(),
        format!("redis.urls=[{:?}]", cluster.servers[0].url()),
        "fleet.node=0".to_owned(),
        "fleet.size=3".to_owned(),
        format!("keys.ticket.k1={key}"),
        format!("keys.pass.k1={key}"),
    ];
    measure("Redis Cluster, a node of three", tickets, &sets);
}

fn main() {
    let tickets = std::env::var("RESTART_TICKETS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let runtime = Runtime::new().expect("the system has threads");
    embedded(&runtime, tickets);
    fleet(&runtime, tickets);
}
