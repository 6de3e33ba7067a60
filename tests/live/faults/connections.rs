//! Connections that are cut, again and again.

use std::time::Duration;

use tokio::time::interval;

use super::{Fault, blocking, now, sale};
use crate::sale::{Down, SECOND};

const CUT_EVERY: Duration = Duration::from_millis(150);
const STORM: u64 = 6 * SECOND;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_are_cut_again_and_again() {
    let name = "CLIENT KILL of all, every 150 ms for 6 s";
    sale(name, async |fleet, sale| {
        let from = now(sale);
        let mut every = interval(CUT_EVERY);
        while now(sale) < from + STORM {
            every.tick().await;
            blocking(|| {
                for master in 0..3 {
                    let cut = ["CLIENT", "KILL", "TYPE", "normal"];
                    fleet.cluster.servers[master].run::<i64>(&cut);
                }
            });
        }
        Fault {
            what: Down::Store { forgets: 0 },
            from,
            to: now(sale),
        }
    })
    .await;
}
