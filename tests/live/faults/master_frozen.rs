//! A master hangs, is replaced, and wakes again.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, SECOND, Sale};

pub async fn happen(cluster: &Cluster, sale: &Sale, which: usize, seconds: u64) -> Fault {
    let (master, _) = blocking(|| cluster.pair(which));
    let from = now(sale);
    cluster.servers[master].freeze();
    lasting(seconds).await;
    cluster.servers[master].thaw();
    blocking(|| cluster.await_whole());
    Fault {
        what: Down::Store { forgets: SECOND },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hangs() {
    super::sale("SIGSTOP of a master for 20 s", async |fleet, sale| {
        happen(&fleet.cluster, sale, 1, 20).await
    })
    .await;
}
