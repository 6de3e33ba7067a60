//! Masters that answer nobody for a while, and are not taken for dead.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

pub async fn happen(cluster: &Cluster, sale: &Sale, seconds: u64) -> Fault {
    let from = now(sale);
    let millis = (seconds * 1_000).to_string();
    blocking(|| {
        for master in cluster.masters(0) {
            cluster.servers[master].run::<String>(&["CLIENT", "PAUSE", &millis, "ALL"]);
        }
    });
    lasting(seconds).await;
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_is_slow() {
    super::sale("CLIENT PAUSE of every master, 3 s", async |fleet, sale| {
        happen(&fleet.cluster, sale, 3).await
    })
    .await;
}
