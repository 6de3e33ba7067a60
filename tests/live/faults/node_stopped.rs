//! A node is asked to stop, drains, and is started again.

use super::{Fault, lasting, now};
use crate::kit::server::Server;
use crate::sale::{Down, Sale};

pub async fn happen(nodes: &mut [Server], sale: &Sale, which: usize, seconds: u64) -> Fault {
    let node = which % nodes.len();
    let from = now(sale);
    nodes[node].ask_to_stop();
    let status = nodes[node].ended().await;
    assert!(status.success(), "{}", nodes[node].output());
    lasting(seconds).await;
    nodes[node].restart().await;
    Fault {
        what: Down::Stopped,
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_stopped() {
    super::sale("SIGTERM of a node, back after 5 s", async |fleet, sale| {
        happen(&mut fleet.nodes, sale, 2, 5).await
    })
    .await;
}
