//! Every master loses all it has.

use super::{Fault, blocking, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

pub async fn happen(cluster: &Cluster, sale: &Sale) -> Fault {
    let from = now(sale);
    blocking(|| {
        for master in cluster.masters(0) {
            cluster.servers[master].run::<String>(&["FLUSHALL"]);
        }
    });
    Fault {
        what: Down::Store { forgets: u64::MAX },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_is_wiped() {
    super::sale("FLUSHALL of every master", async |fleet, sale| {
        happen(&fleet.cluster, sale).await
    })
    .await;
}
