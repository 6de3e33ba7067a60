//! A node dies and is started again.

use super::{Fault, lasting, now};
use crate::kit::server::Server;
use crate::sale::{Down, Sale};

pub async fn happen(nodes: &mut [Server], sale: &Sale, which: usize, seconds: u64) -> Fault {
    let node = which % nodes.len();
    let from = now(sale);
    nodes[node].kill();
    lasting(seconds).await;
    nodes[node].restart().await;
    Fault {
        what: Down::Node,
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_killed() {
    super::sale("kill -9 of a node, back after 8 s", async |fleet, sale| {
        happen(&mut fleet.nodes, sale, 1, 8).await
    })
    .await;
}
