//! Masters that hang and masters that die: their replicas take over, and the store finds them.

use std::time::Duration;

use tidegate::store::redis::{Mode, Settings};
use tidegate::store::{Position, Redis, Retry, Store, StoreError};
use tokio::time::{Instant, interval};

use crate::kit::cluster::Cluster;
use crate::store::kit::*;

/// How long a replica may take to be promoted and found.
const PATIENCE: Duration = Duration::from_secs(60);

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
