//! How fast the embedded store takes batches in, and opens with a million tickets after a crash.
//!
//! `cargo bench --bench store [tickets]`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, TicketId};
use tidegate::store::embedded::{Fsync, Settings};
use tidegate::store::{Embedded, Store, StoreClock};

const PARTITIONS: u16 = 16;

fn clock() -> StoreClock {
    Arc::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Micros(now.map_or(1, |now| now.as_micros() as u64))
    })
}

fn open(folder: &Path, fsync: Fsync) -> Embedded {
    let settings = Settings {
        fsync,
        ..Settings::default()
    };
    Embedded::open(folder, settings, clock()).expect("the folder is ours")
}

fn batch(n: u64, records: u64) -> Arc<Batch> {
    let now = clock()();
    let joined = |k| Record {
        kind: Kind::Joined,
        id: TicketId::from_u128(rand::random()),
        at: Micros(now.0 + k),
    };
    Arc::new(Batch {
        node: NodeId(0),
        epoch: 1,
        seq: n,
        clock: now,
        events: vec![(
            EventId::new("evt_2026_finale").expect("a fine id"),
            (0..records).map(joined).collect(),
        )],
    })
}

/// Appends batches to all partitions at once, one in flight in each, as the journal does.
async fn append(store: &Arc<Embedded>, batches: u64, records: u64) -> f64 {
    let begun = Instant::now();
    let lanes: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                for n in 0..batches / u64::from(PARTITIONS) {
                    let batch = batch(n, records);
                    store
                        .append(partition, batch)
                        .await
                        .expect("the disk is fine");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.await.expect("it does not panic");
    }
    begun.elapsed().as_secs_f64()
}

async fn load(store: &Arc<Embedded>) -> usize {
    let lanes: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let (mut from, mut held) = (None, 0);
                loop {
                    let chunk = store.load(partition, from, 16_384).await;
                    let chunk = chunk.expect("the disk is fine");
                    held += chunk.tickets.iter().map(|(_, t)| t.len()).sum::<usize>();
                    from = chunk.next;
                    if from.is_none() {
                        return held;
                    }
                }
            })
        })
        .collect();
    let mut held = 0;
    for lane in lanes {
        held += lane.await.expect("it does not panic");
    }
    held
}

#[tokio::main]
async fn main() {
    let tickets = std::env::args().filter_map(|arg| arg.parse().ok()).next();
    let tickets: u64 = tickets.unwrap_or(1_000_000);
    for fsync in [Fsync::Always, Fsync::Interval, Fsync::Never] {
        for (batches, records) in [(8_192, 1), (2_048, 64), (256, 1_024)] {
            let folder = tempfile::tempdir().expect("a folder");
            let store = Arc::new(open(folder.path(), fsync));
            let seconds = append(&store, batches, records).await;
            let rate = (batches * records) as f64 / seconds;
            println!("{fsync:?}, batches of {records}: {rate:.0} records/s");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(folder.path(), Fsync::Interval));
    let seconds = append(&store, tickets / 625, 625).await;
    println!("{tickets} tickets in {seconds:.2} s");
    // As after a crash: the journal is not cut, the tables are not written.
    let crashed = tempfile::tempdir().expect("a folder");
    copy(folder.path(), crashed.path());
    drop(store);
    let begun = Instant::now();
    let store = Arc::new(open(crashed.path(), Fsync::Interval));
    let opened = begun.elapsed().as_secs_f64();
    let held = load(&store).await;
    let loaded = begun.elapsed().as_secs_f64();
    println!("opened in {opened:.2} s, {held} tickets loaded after {loaded:.2} s");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it is readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("it has a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("there is room");
        }
    }
}
