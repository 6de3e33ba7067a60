//! A sale that is closed while people still wait: every event is paused, everybody else comes to an
//! end, and those who wait can be compared (I6).

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::nodes::Fleet;
use crate::api::client::{Client, Request};
use crate::kit::process::LOOK_EVERY;
use crate::sale::{SECOND, Sale, Terms, event_name};

const TOKEN: &str = "the-admin-token-of-this-test";
/// A visitor who dawdles is back so long after the turn lapsed.
const DAWDLES: u64 = 3 * SECOND;

/// What the nodes must be told.
pub fn settings() -> String {
    format!("admin.token={TOKEN}")
}

/// Pauses all events of a sale, and lets those who wait go when everybody else had time to end.
pub async fn close(fleet: &Fleet, sale: &Sale) {
    let terms = &sale.terms;
    sale.closed
        .store(sale.pool.stopwatch.us(), Ordering::Relaxed);
    let events = (0..terms.events).map(|event| {
        let name = event_name(event);
        format!("/api/v1/admin/events/{name}")
    });
    let events: Vec<_> = events.collect();
    let mut admin = Client::connect(fleet.nodes[0].admin).await;
    for event in &events {
        let pause = Request::new("PATCH", event).body(r#"{"paused": true}"#);
        let pause = pause.header("authorization", &format!("Bearer {TOKEN}"));
        let answer = admin.call(&pause).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for node in &fleet.nodes {
        let mut admin = Client::connect(node.admin).await;
        for event in &events {
            while !is_paused(&mut admin, event).await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
    tokio::time::sleep(everybody_ends(terms)).await;
    sale.closing.store(true, Ordering::Relaxed);
}

async fn is_paused(admin: &mut Client, event: &str) -> bool {
    let answer = admin.call(&Request::get(event)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["policy"]["paused"] == true
}

/// How long it takes whoever was called last to enter, or to come back after a missed turn.
fn everybody_ends(terms: &Terms) -> Duration {
    Duration::from_micros(terms.ready_ttl + DAWDLES + terms.poll_max)
}
