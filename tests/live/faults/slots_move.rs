//! Slots that move to another master in mid-sale, those of a gate and of busy partitions.

use super::{Fault, blocking, lasting, now};
use crate::kit::cluster::Cluster;
use crate::sale::{Down, Sale};

/// Keys that move first.
const SOME: usize = 3;

/// Each slot lies between two masters for twice `seconds`: as long as large keys take.
pub async fn happen(cluster: &Cluster, sale: &Sale, seconds: u64) -> Fault {
    let from = now(sale);
    for (slot, to) in blocking(|| busy(cluster)) {
        let moving = blocking(|| cluster.begin_move(slot, to));
        lasting(seconds).await;
        blocking(|| cluster.move_keys(&moving, SOME));
        lasting(seconds).await;
        blocking(|| cluster.end_move(&moving));
    }
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

/// The slots of a busy partition of each master and of one with a gate, and where each is to go.
fn busy(cluster: &Cluster) -> Vec<(u16, usize)> {
    let masters = cluster.masters(0);
    let first = |n: usize, of: &str| {
        let server = &cluster.servers[masters[n]];
        let key = server.run::<Vec<String>>(&["KEYS", of]).into_iter().min()?;
        let slot = server.run::<u16>(&["CLUSTER", "KEYSLOT", &key]);
        Some((slot, masters[(n + 1) % masters.len()]))
    };
    let all = || 0..masters.len();
    let mut moved: Vec<_> = all().filter_map(|n| first(n, "*:line:sale-*")).collect();
    moved.extend(all().find_map(|n| first(n, "*:gate:sale-*")));
    moved.sort_unstable();
    moved.dedup();
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_slots_move_to_another_master() {
    let name = "slots of a gate and of two partitions move";
    super::sale(name, async |fleet, sale| {
        happen(&fleet.cluster, sale, 2).await
    })
    .await;
}
