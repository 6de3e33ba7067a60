//! A replica dies and comes back: nobody should notice.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

pub async fn happen(cluster: &mut Cluster, sale: &Sale, which: usize, seconds: u64) -> Fault {
    let (_, replica) = blocking(|| cluster.pair(which));
    let from = now(sale);
    blocking(|| cluster.servers[replica].kill());
    lasting(seconds).await;
    blocking(|| {
        cluster.servers[replica].restart();
        cluster.await_whole();
    });
    Fault {
        what: Down::Spare,
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_killed() {
    super::sale(
        "kill -9 of a replica, back after 5 s",
        async |fleet, sale| happen(&mut fleet.cluster, sale, 2, 5).await,
    )
    .await;
}
