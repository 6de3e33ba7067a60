//! Slots that move to another master in mid-sale, those of a gate and of busy partitions.

use std::time::Duration;

use super::{Fault, blocking, now, sale};
use crate::sale::Down;

/// How long a slot lies between two masters: as long as large keys take.
const STEP: Duration = Duration::from_secs(2);
/// Keys that move first.
const SOME: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_slots_move_to_another_master() {
    let name = "slots of a gate and of two partitions move";
    sale(name, async |fleet, sale| {
        let from = now(sale);
        blocking(|| {
            let cluster = &fleet.cluster;
            let first = |master: usize, of: &str| {
                let server = &cluster.servers[master];
                let key = server.run::<Vec<String>>(&["KEYS", of]).into_iter().min()?;
                let slot = server.run::<u16>(&["CLUSTER", "KEYSLOT", &key]);
                Some((slot, (master + 1) % 3))
            };
            // A busy partition of each master, and one with a gate.
            let mut moved: Vec<_> = (0..3).filter_map(|m| first(m, "*:line:sale-*")).collect();
            moved.extend((0..3).find_map(|m| first(m, "*:gate:sale-*")));
            moved.sort_unstable();
            moved.dedup();
            for (slot, to) in moved {
                let moving = cluster.begin_move(slot, to);
                std::thread::sleep(STEP);
                cluster.move_keys(&moving, SOME);
                std::thread::sleep(STEP);
                cluster.end_move(&moving);
            }
        });
        Fault {
            what: Down::Store { forgets: 0 },
            from,
            to: now(sale),
        }
    })
    .await;
}
