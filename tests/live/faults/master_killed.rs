//! A master dies with writes that its replica never heard, and comes back as a replica.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, SECOND, Sale};

/// How long before a failover acknowledged writes may be lost here.
const HELD_BACK: u64 = 2;

pub async fn happen(cluster: &mut Cluster, sale: &Sale, which: usize, seconds: u64) -> Fault {
    let (master, replica) = blocking(|| {
        let (master, replica) = cluster.pair(which);
        cluster.caught_up_by(master, replica);
        cluster.hold_back(replica);
        (master, replica)
    });
    let witness = cluster.witness(&[master, replica]);
    let held = now(sale);
    lasting(HELD_BACK).await;
    let from = now(sale);
    blocking(|| {
        cluster.servers[master].kill();
        cluster.release(replica);
        cluster.await_takeover(master, witness);
    });
    let to = now(sale);
    lasting(seconds).await;
    blocking(|| {
        cluster.servers[master].restart();
        cluster.await_whole();
    });
    Fault {
        what: Down::Store {
            forgets: from - held + SECOND,
        },
        from,
        to,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_dies_with_writes_that_its_replica_never_heard() {
    let name = "kill -9 of a master, its replica 2 s behind; back later";
    super::sale(name, async |fleet, sale| {
        happen(&mut fleet.cluster, sale, 0, 3).await
    })
    .await;
}
