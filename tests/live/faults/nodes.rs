//! Nodes that die.

use super::{Fault, lasting, now, sale};
use crate::sale::Down;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed() {
    sale("kill -9 of a node, back after 8 s", async |fleet, sale| {
        let from = now(sale);
        fleet.nodes[1].kill();
        lasting(8).await;
        fleet.nodes[1].restart().await;
        Fault {
            what: Down::Node,
            from,
            to: now(sale),
        }
    })
    .await;
}
