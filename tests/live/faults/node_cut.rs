//! A node whose way to the store is cut, in both directions or in one, or slow.

use super::{Fault, lasting, now};
use crate::kit::links::{Links, Way};
use crate::sale::{Down, Sale};

/// `which` of so many `nodes`.
pub async fn happen(
    links: &Links,
    nodes: usize,
    way: Way,
    sale: &Sale,
    which: usize,
    seconds: u64,
) -> Fault {
    let node = which % nodes;
    let from = now(sale);
    links.set(node, way);
    lasting(seconds).await;
    links.set(node, Way::Open);
    Fault {
        what: Down::Store { forgets: 0 },
        from,
        to: now(sale),
    }
}

async fn alone(name: &str, way: Way, seconds: u64) {
    super::sale(name, async |fleet, sale| {
        let links = fleet.links.as_ref().expect("the fleet has links");
        happen(links, fleet.nodes.len(), way, sale, 1, seconds).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_cut_off() {
    alone("a node cut from Redis for 15 s", Way::Cut, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_heard_and_hears_nothing() {
    alone("a node without answers from Redis for 15 s", Way::Deaf, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_a_slow_way() {
    alone("a node 150 ms away from Redis for 10 s", Way::Slow, 10).await;
}
