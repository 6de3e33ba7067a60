//! Connections that are cut, again and again.

use std::time::Duration;

use tokio::time::interval;

use super::{Fault, blocking, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, SECOND, Sale};

const CUT_EVERY: Duration = Duration::from_millis(150);

pub async fn happen(cluster: &Cluster, sale: &Sale, seconds: u64) -> Fault {
    let from = now(sale);
    let masters = blocking(|| cluster.masters(0));
    let mut every = interval(CUT_EVERY);
    while now(sale) < from + seconds * SECOND {
        every.tick().await;
        blocking(|| {
            for master in &masters {
                let cut = ["CLIENT", "KILL", "TYPE", "normal"];
                cluster.servers[*master].run::<i64>(&cut);
            }
        });
    }
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_are_cut_again_and_again() {
    let name = "CLIENT KILL of all, every 150 ms for 6 s";
    super::sale(name, async |fleet, sale| {
        happen(&fleet.cluster, sale, 6).await
    })
    .await;
}
