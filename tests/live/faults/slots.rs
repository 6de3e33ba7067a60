//! Slots that move to another master in mid-sale, those of a gate and of busy partitions.

use super::{Fault, blocking, now, sale};
use crate::sale::Down;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_slots_move_to_another_master() {
    let name = "slots of a gate and of two partitions move";
    sale(name, async |fleet, sale| {
        let from = now(sale);
        blocking(|| {
            let cluster = &fleet.cluster;
            let keys = |master: usize, of: &str| -> Vec<String> {
                let mut keys: Vec<String> = cluster.servers[master].run(&["KEYS", of]);
                keys.sort();
                keys
            };
            // A gate's slot, and those of a busy partition of each of the other masters.
            let mut moved = Vec::new();
            for (master, of) in [
                (0, "*:gate:sale-*"),
                (1, "*:line:sale-*"),
                (2, "*:line:sale-*"),
            ] {
                let keys = keys(master, of);
                let key = keys.first().expect("every master holds some");
                let slot: u16 = cluster.servers[master].run(&["CLUSTER", "KEYSLOT", key]);
                moved.push((slot, (master + 1) % 3));
            }
            for (slot, to) in moved {
                cluster.migrate(slot, to);
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
