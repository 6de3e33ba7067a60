//! Masters that die, hang, or lose what they acknowledged.

use super::{Fault, blocking, lasting, now, sale};
use crate::sale::{Down, SECOND};

/// How long before a failover acknowledged writes may be lost here.
const HELD_BACK: u64 = 2;
/// The server that is asked about the cluster: the replica of the last master, which nothing befalls.
const WITNESS: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_master_is_wiped() {
    sale("FLUSHALL of every master", async |fleet, sale| {
        let from = now(sale);
        blocking(|| {
            for master in fleet.cluster.masters(WITNESS) {
                fleet.cluster.servers[master].run::<String>(&["FLUSHALL"]);
            }
        });
        Fault {
            what: Down::Store { forgets: u64::MAX },
            from,
            to: now(sale),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_dies_with_writes_that_its_replica_never_heard() {
    let name = "kill -9 of a master, its replica 2 s behind; back later";
    sale(name, async |fleet, sale| {
        let replica = blocking(|| {
            let replica = fleet.cluster.replica_of(0, WITNESS);
            fleet.cluster.caught_up(0);
            fleet.cluster.hold_back(replica);
            replica
        });
        let held = now(sale);
        lasting(HELD_BACK).await;
        let from = now(sale);
        blocking(|| {
            fleet.cluster.servers[0].kill();
            fleet.cluster.release(replica);
            fleet.cluster.await_takeover(0, WITNESS);
        });
        let to = now(sale);
        lasting(3).await;
        blocking(|| {
            fleet.cluster.servers[0].restart();
            fleet.cluster.await_whole();
        });
        Fault {
            what: Down::Store {
                forgets: from - held + SECOND,
            },
            from,
            to,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_hangs() {
    sale("SIGSTOP of a master for 20 s", async |fleet, sale| {
        let from = now(sale);
        fleet.cluster.servers[1].freeze();
        lasting(20).await;
        fleet.cluster.servers[1].thaw();
        blocking(|| fleet.cluster.await_whole());
        Fault {
            what: Down::Store { forgets: SECOND },
            from,
            to: now(sale),
        }
    })
    .await;
}
