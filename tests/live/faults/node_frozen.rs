//! A node hangs and wakes again, with a view of the world that is old.

use super::{Fault, lasting, now};
use crate::kit::server::Server;
use crate::sale::{Down, Sale};

pub async fn happen(nodes: &[Server], sale: &Sale, which: usize, seconds: u64) -> Fault {
    let node = &nodes[which % nodes.len()];
    let from = now(sale);
    node.freeze();
    lasting(seconds).await;
    node.thaw();
    Fault {
        what: Down::Frozen,
        from,
        to: now(sale),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_hangs() {
    super::sale("SIGSTOP of a node for 12 s", async |fleet, sale| {
        happen(&fleet.nodes, sale, 0, 12).await
    })
    .await;
}
