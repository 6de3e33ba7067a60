//! Masters that hang and masters that die: their replicas take over, and the store finds them.

use std::sync::Arc;
use std::time::Duration;

use tidegate::store::redis::{Address, Mode, Settings};
use tidegate::store::{Position, Redis, Retry, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::kit::cluster::{Cluster, Server};
use crate::store::kit::*;

/// How long a replica may take to be promoted and found.
const PATIENCE: Duration = Duration::from_secs(60);

fn addresses(cluster: &Cluster) -> Vec<Address> {
    let address = |server: &Server| Address {
        host: "127.0.0.1".to_owned(),
        port: server.port,
    };
    cluster.servers.iter().map(address).collect()
}

/// Asks until it is answered: while a replica takes over, a call may fail, but never for good.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let end = Instant::now() + PATIENCE;
    let mut again = interval(Duration::from_millis(50));
    loop {
        again.tick().await;
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert_ne!(error.retry, Retry::Never, "{error}");
                assert!(Instant::now() < end, "{error}");
            }
        }
    }
}

/// Appends until it is acknowledged.
async fn append(store: &Redis, partition: u16, number: u128) -> Position {
    let batch = batch("e", vec![joined(number, 10)]);
    patiently(async || store.append(partition, batch.clone()).await).await
}

/// Waits until the feed shows something.
async fn sees(store: &Redis, partition: u16) {
    let start = Position::default();
    let came = patiently(async || store.wait(partition, start, 9, PATIENCE).await).await;
    assert!(!came.batches.is_empty());
}

#[tokio::test]
async fn a_store_goes_on_when_masters_hang_or_die() {
    let mut cluster = Cluster::start();
    let settings = Settings {
        response_timeout: Duration::from_secs(1),
        connection_timeout: Duration::from_secs(1),
        ..redis_settings(cluster.servers[5].port, Mode::Auto, None)
    };
    let store = Redis::open(settings).await.unwrap();
    for partition in 0..16 {
        append(&store, partition, 1).await;
    }
    for n in 0..2 {
        cluster.caught_up(n);
        if n == 0 {
            cluster.servers[n].freeze();
        } else {
            cluster.servers[n].kill();
        }
        for partition in 0..16 {
            append(&store, partition, n as u128 + 2).await;
            sees(&store, partition).await;
        }
    }
    for partition in 0..16 {
        let held = all(&store, partition).await;
        assert!(
            held.contains(&(event("e"), live(2, 10))) && held.contains(&(event("e"), live(3, 10)))
        );
    }
}

/// A slot between two masters: readers are sent on from the old one, and nothing is lost on the way.
#[tokio::test]
async fn a_feed_is_waited_on_while_its_slot_moves() {
    let cluster = Cluster::start();
    let store = Redis::open(redis_settings(cluster.servers[5].port, Mode::Auto, None))
        .await
        .unwrap();
    append(&store, 0, 1).await;
    let keys = cluster.servers[0].run::<Vec<String>>(&["KEYS", "*:feed"]);
    let slot = cluster.servers[0].run::<u16>(&["CLUSTER", "KEYSLOT", &keys[0]]);
    let moving = cluster.begin_move(slot, 1);
    cluster.move_keys(&moving, usize::MAX >> 1);
    let wait = async |store: &Redis| store.wait(0, Position::default(), 9, PATIENCE).await;
    assert_eq!(wait(&store).await.unwrap().batches.len(), 1);
    cluster.end_move(&moving);
    append(&store, 0, 2).await;
    assert_eq!(wait(&store).await.unwrap().batches.len(), 2);
}

/// Whatever state a client's connections are left in by servers that all went away, in the middle of
/// a great many calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_go_on_when_all_servers_were_away() {
    // So many, and away for so long, that some lose every connection for good.
    const STORES: usize = 24;
    const AWAY: Duration = Duration::from_secs(8);
    let mut cluster = Cluster::start();
    let mut stores = Vec::new();
    for _ in 0..STORES {
        let settings = Settings {
            addresses: addresses(&cluster),
            ..redis_settings(cluster.servers[5].port, Mode::Auto, None)
        };
        stores.push(Arc::new(Redis::open(settings).await.unwrap()));
    }
    let back = watch::Sender::new(false);
    let mut writers = JoinSet::new();
    for store in &stores {
        for partition in 0..16 {
            let (store, mut back) = (Arc::clone(store), back.subscribe());
            writers.spawn(async move {
                let mut number = 0;
                while !*back.borrow_and_update() {
                    number += 1;
                    let batch = batch("e", vec![joined(number, 10)]);
                    if store.append(partition, batch).await.is_err() {
                        let _ = timeout(Duration::from_millis(50), back.changed()).await;
                    }
                }
            });
        }
    }
    tokio::task::block_in_place(|| {
        for server in &mut cluster.servers {
            server.kill();
        }
        std::thread::sleep(AWAY);
        for server in &mut cluster.servers {
            server.restart();
        }
        cluster.await_whole();
    });
    back.send_replace(true);
    writers.join_all().await;
    for store in &stores {
        for partition in 0..16 {
            append(store, partition, 1).await;
        }
    }
}
