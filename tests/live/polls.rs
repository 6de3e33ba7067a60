//! Polls do not reach Redis: what its servers count before and after a great many of them.

use std::collections::BTreeMap;

use super::NODES;
use super::nodes::Fleet;
use crate::api::client::{Client, Request};
use crate::kit::stopwatch::Stopwatch;

const TICKETS: usize = 500;

fn polls() -> u64 {
    std::env::var("FLEET_POLLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(30_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_cost_redis_nothing() {
    let _alone = crate::sale::alone().await;
    let settings = [
        "defaults.paused=true".to_owned(),
        "defaults.heartbeat_ttl=1h".to_owned(),
    ];
    let fleet = Fleet::start(NODES, &settings).await;
    let mut client = Client::connect(fleet.address()).await;
    let body = r#"{"event_id": "sale"}"#;
    let mut targets = Vec::new();
    for _ in 0..TICKETS {
        let joined = client
            .call(&Request::post("/api/v1/queue/join", body))
            .await;
        let token = joined.json()["waiting_token"].as_str().unwrap().to_owned();
        targets.push(format!("/api/v1/queue/status?token={token}"));
    }
    // What the fleet costs at rest, over a time like that of the polls to come.
    let polls = polls();
    let mut clients = Vec::new();
    for node in &fleet.nodes {
        clients.push(Client::connect(node.address).await);
    }
    // The first ones find the fleet still busy with the joins; they do not count.
    let (mut begun, mut before) = (Stopwatch::start(), BTreeMap::new());
    for n in 0..polls + polls / 5 {
        if n == polls / 5 {
            (begun, before) = (Stopwatch::start(), counts(&fleet));
        }
        let client = &mut clients[n as usize % NODES];
        let answer = client
            .call(&Request::get(&targets[n as usize % TICKETS]))
            .await;
        assert_eq!(answer.status, 200);
    }
    let took = begun.us();
    let polled = counts(&fleet);
    tokio::time::sleep(std::time::Duration::from_micros(took)).await;
    let rested = counts(&fleet);
    let sum = |a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>| -> u64 {
        b.iter()
            .map(|(name, count)| count - a.get(name).copied().unwrap_or(0))
            .sum()
    };
    let (while_polling, at_rest) = (sum(&before, &polled), sum(&polled, &rested));
    println!(
        "{polls} polls over {NODES} nodes in {:.1} s",
        took as f64 / 1e6
    );
    println!(
        "  {:<24} {:>14} {:>14}",
        "command", "while polling", "at rest"
    );
    for (name, count) in &rested {
        let of = |a: &BTreeMap<String, u64>, name: &str| a.get(name).copied().unwrap_or(0);
        let (polling, resting) = (
            of(&polled, name) - of(&before, name),
            count - of(&polled, name),
        );
        if polling + resting > 0 {
            println!("  {name:<24} {polling:>14} {resting:>14}");
        }
    }
    println!("  {:<24} {while_polling:>14} {at_rest:>14}", "all");
    let beyond = while_polling.saturating_sub(at_rest);
    println!(
        "  beyond the idle rate: {:.4} commands a thousand polls",
        beyond as f64 * 1e3 / polls as f64
    );
    // A tenth of what the same time costs at rest is the noise of a shared machine.
    assert!(beyond <= polls / 1_000 + at_rest / 10, "polls reach Redis");
}

/// Calls by command over all masters, without those that the looking itself makes.
fn counts(fleet: &Fleet) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for server in &fleet.cluster.servers[..3] {
        let info: String = tokio::task::block_in_place(|| server.run(&["INFO", "commandstats"]));
        for line in info.lines() {
            let Some((name, rest)) = line
                .strip_prefix("cmdstat_")
                .and_then(|l| l.split_once(':'))
            else {
                continue;
            };
            let own = [
                "info", "client", "hello", "replconf", "psync", "ping", "cluster",
            ];
            if own.iter().any(|own| name.starts_with(own)) {
                continue;
            }
            let calls = rest
                .strip_prefix("calls=")
                .and_then(|r| r.split(',').next());
            *counts.entry(name.to_owned()).or_insert(0) += calls
                .and_then(|calls| calls.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    counts
}
