//! At rest all nodes and the store agree exactly, for every ticket (I6).

use tidegate::model::TicketId;
use tidegate::model::token::{Claims, TicketKeys, buffer};

use super::NODES;
use super::nodes::{Fleet, KEY};
use crate::api::client::{Client, Request};

const TICKETS: usize = 1_500;
/// Looks until everybody agrees, before it is called a disagreement.
const LOOKS_MAX: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_and_the_store_tell_every_ticket_the_same_place() {
    let _alone = crate::sale::alone().await;
    let settings = ["defaults.paused=true".to_owned()];
    let fleet = Fleet::start(NODES, &settings).await;
    let mut client = Client::connect(fleet.address()).await;
    let body = r#"{"event_id": "sale"}"#;
    let mut tokens = Vec::new();
    for _ in 0..TICKETS {
        let joined = client
            .call(&Request::post("/api/v1/queue/join", body))
            .await;
        assert_eq!(joined.status, 202);
        tokens.push(joined.json()["waiting_token"].as_str().unwrap().to_owned());
    }
    for token in tokens.iter().step_by(7) {
        let target = format!("/api/v1/queue/leave?token={token}");
        assert_eq!(
            client.call(&Request::new("DELETE", &target)).await.status,
            200
        );
    }
    tokens = tokens
        .into_iter()
        .enumerate()
        .filter(|(n, _)| n % 7 != 0)
        .map(|(_, t)| t)
        .collect();
    let mut looks = 0;
    loop {
        let mut told = Vec::new();
        for node in &fleet.nodes {
            told.push(places(&mut Client::connect(node.address).await, &tokens).await);
        }
        let named: Vec<&str> = tokens.iter().map(String::as_str).collect();
        told.push(tokio::task::block_in_place(|| {
            ranks(&fleet, "sale", &named)
        }));
        if told.windows(2).all(|two| two[0] == two[1]) {
            println!(
                "{} tickets, {NODES} nodes and the store agree, look {looks}",
                tokens.len()
            );
            let first = &told[0];
            assert!(
                first.iter().copied().eq(1..=tokens.len() as u64),
                "in the order of joining"
            );
            return;
        }
        looks += 1;
        let apart: Vec<_> = (0..tokens.len())
            .map(|n| told.iter().map(|places| places[n]).collect::<Vec<_>>())
            .enumerate()
            .filter(|(_, places)| places.windows(2).any(|two| two[0] != two[1]))
            .collect();
        assert!(
            looks < LOOKS_MAX,
            "nodes and store do not agree on {} tickets, such as {:?}:\n{}",
            apart.len(),
            &apart[..apart.len().min(10)],
            fleet.output()
        );
    }
}

/// The place that a node tells each of these.
pub async fn places(client: &mut Client, tokens: &[String]) -> Vec<u64> {
    let mut places = Vec::new();
    for token in tokens {
        let target = format!("/api/v1/queue/status?token={token}");
        let status = client.call(&Request::get(&target)).await;
        assert_eq!(status.status, 200, "{}", status.text());
        places.push(status.json()["position"].as_u64().unwrap());
    }
    places
}

/// The store's own word: over all partitions, how many have a lower score, and of those with the
/// same one a lower id, plus one.
pub fn ranks(fleet: &Fleet, event: &str, tokens: &[&str]) -> Vec<u64> {
    let line = line(fleet, event);
    let rank = |token: &&str| line.partition_point(|key| *key < key_of(token)) as u64 + 1;
    tokens.iter().map(rank).collect()
}

/// What the store holds of these events, in order.
pub fn line(fleet: &Fleet, events: &str) -> Vec<(u64, TicketId)> {
    let mut line: Vec<(u64, TicketId)> = Vec::new();
    for master in fleet.cluster.masters(0) {
        let server = &fleet.cluster.servers[master];
        let lines: Vec<String> = server.run(&["KEYS", &format!("*:line:{events}")]);
        for key in lines {
            let members: Vec<(Vec<u8>, f64)> =
                server.run(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]);
            let ids = members
                .into_iter()
                .map(|(id, score)| (score as u64, TicketId::from_bytes(id.try_into().unwrap())));
            line.extend(ids);
        }
    }
    line.sort_unstable();
    line
}

/// Arrival and id, as a token says.
pub fn key_of(token: &str) -> (u64, TicketId) {
    claims(token, |claims| (claims.arrival.0, claims.id))
}

/// The place that was told at the join, as a token says.
pub fn told_at_join(token: &str) -> Option<u64> {
    claims(token, |claims| claims.told.map(u64::from))
}

fn claims<T>(token: &str, read: impl FnOnce(&Claims<'_>) -> T) -> T {
    let keys = TicketKeys::new("k1", &[("k1".to_owned(), KEY)]).unwrap();
    let mut buffer = buffer();
    read(&keys.verify(token, &mut buffer).unwrap())
}
