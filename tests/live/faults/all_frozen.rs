//! The whole store hangs and wakes again.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

pub async fn happen(cluster: &Cluster, sale: &Sale, seconds: u64) -> Fault {
    let from = now(sale);
    for server in &cluster.servers {
        server.freeze();
    }
    lasting(seconds).await;
    for server in &cluster.servers {
        server.thaw();
    }
    blocking(|| cluster.await_whole());
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_server_hangs() {
    let seconds = super::seconds();
    let name = format!("SIGSTOP of all Redis servers for {seconds} s");
    super::sale(&name, async |fleet, sale| {
        happen(&fleet.cluster, sale, seconds).await
    })
    .await;
}
