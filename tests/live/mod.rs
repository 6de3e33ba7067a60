//! The fleet: three real nodes over a real Redis Cluster, behind a balancer without stickiness.
//!
//! `FLEET_VISITORS` sizes the sales (3,000 unless set; `make live` takes 30,000 in release).

mod agree;
mod faults;
mod joins;
pub mod nodes;
mod polls;
mod rulings;

use nodes::Fleet;

use crate::sale::{Sale, Terms, drive};

const NODES: usize = 3;
/// Ten times what nodes take to hear of each other, since tests share the machine. Microseconds.
const LAG: u64 = 500_000;

fn visitors() -> usize {
    std::env::var("FLEET_VISITORS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3_000)
}

/// About 40 seconds of line for everybody, over so many events.
fn terms(events: usize) -> Terms {
    let visitors = visitors();
    let rate = (visitors as f64 / events as f64 / 40.0).max(1.0);
    Terms {
        events,
        visitors,
        nodes: NODES,
        lag: LAG,
        rate,
        burst: (rate / 2.0).ceil() as u32 + 2,
        ..Terms::SALE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_of_one_event_over_three_nodes() {
    sale("one event over three nodes", terms(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_of_a_hundred_events_over_three_nodes() {
    sale("a hundred events over three nodes", terms(100)).await;
}

async fn sale(name: &str, terms: Terms) {
    let _alone = crate::sale::alone().await;
    let fleet = Fleet::start(NODES, &terms.settings()).await;
    let quiet = async |_: &Sale| Vec::new();
    let (report, wrong) = drive(name, terms, fleet.address(), quiet).await;
    println!("{report}");
    if wrong > 0 {
        println!("the nodes' last words:\n{}", fleet.output());
    }
    assert_eq!(wrong, 0, "{report}");
}
