//! The fleet: three real nodes over a real Redis Cluster, behind a balancer without stickiness.
//!
//! `FLEET_VISITORS` sizes the sales (3,000 unless set; `make live` takes 30,000 in release).

mod agree;
mod faults;
mod joins;
pub mod nodes;
mod pause;
mod polls;
mod rulings;
mod soak;

use nodes::Fleet;

use crate::sale::{Sale, Terms, drive_to_the_end};

const NODES: usize = 3;
/// After this part of the visitors has entered, who then waits keeps waiting: about every tenth, since
/// some never enter and pausing takes a moment.
const ENTERED_AT_PAUSE_PERCENT: usize = 72;
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
    let mut settings = terms.settings();
    settings.push(pause::settings());
    let fleet = Fleet::start(NODES, &settings).await;
    let sold = drive_to_the_end(name, terms, fleet.address(), async |sale: &Sale| {
        let enough = terms.visitors * ENTERED_AT_PAUSE_PERCENT / 100;
        let mut entered = sale.entered.subscribe();
        // It is only gone when the sale is.
        let _ = entered.wait_for(|entered| *entered >= enough).await;
        pause::close(&fleet, sale).await;
        Vec::new()
    });
    let sold = sold.await;
    println!("{}", sold.report);
    let lines = agree::waiting(terms.events, &sold.run.stories);
    let agreed = agree::until_agreed(&fleet, &lines).await;
    if let Ok(agreed) = &agreed {
        println!("{name}: {agreed}");
    }
    let wrong = u64::from(agreed.is_err()) + sold.wrong;
    if wrong > 0 {
        println!("the nodes' last words:\n{}", fleet.output());
    }
    assert_eq!(wrong, 0, "{:?}", agreed.err());
}
