//! A restart with a full line: the real binary over an embedded store of a million tickets, from its
//! start to `readyz` answering 200, and its resident memory then. `RESTART_TICKETS=n` sizes it.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId};
use tidegate::store::embedded::{Embedded, Settings};
use tidegate::store::{Store, StoreClock};

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

/// Fills a folder with tickets of one event, and lets go of it without closing, as a crash does.
async fn fill(folder: &Path, tickets: usize) {
    let clock: StoreClock = Arc::new(now);
    let store = Embedded::open(folder, Settings::default(), clock).expect("an empty folder");
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

/// Starts the binary; answers the seconds until it was ready and its resident bytes then.
fn start(folder: &Path) -> (f64, usize) {
    let begun = Instant::now();
    let path = format!("store.path={}", folder.display());
    let sets = [
        "server.listen=127.0.0.1:0",
        "server.admin_listen=off",
        "log.format=json",
        &path,
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for set in sets {
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
        .find_map(|line| line["listen"].as_str().map(str::to_owned))
        .expect("it says where it listens");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let ready = begun.elapsed().as_secs_f64();
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", running.0.id()));
    let pages = statm
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    (ready, pages.unwrap_or(0) * 4096)
}

fn main() {
    let tickets = std::env::var("RESTART_TICKETS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("the system has threads");
    let begun = Instant::now();
    runtime.block_on(fill(folder.path(), tickets));
    println!(
        "filled with {tickets} tickets in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| start(folder.path())).collect();
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ready, bytes) = rounds[ROUNDS / 2];
    let verdict = if ready <= TARGET_SEC { "met" } else { "MISSED" };
    println!("restart with {tickets} tickets, median of {ROUNDS}:");
    println!(
        "  {:<44} {ready:>8.2} s   target ≤ {TARGET_SEC} s: {verdict}",
        "ready after"
    );
    println!(
        "  {:<44} {:>8.1}",
        "resident bytes a ticket",
        bytes as f64 / tickets as f64
    );
}
