//! What operators rule at one node holds at the others, and after a restart.

use std::time::Duration;

use super::NODES;
use super::nodes::Fleet;
use crate::api::client::{Client, Request, call};
use crate::kit::process::LOOK_EVERY;
use crate::kit::stopwatch::Stopwatch;

const TOKEN: &str = "the-admin-token-of-this-test";
const EVENT: &str = "/api/v1/admin/events/sale";
/// Looks before something is taken for not happening: ten seconds.
const LOOKS_MAX: u64 = 500;

fn settings() -> [String; 2] {
    [format!("admin.token={TOKEN}"), "defaults.rate=5".to_owned()]
}

async fn operate(fleet: &Fleet, node: usize, request: Request) -> serde_json::Value {
    let request = request.header("authorization", &format!("Bearer {TOKEN}"));
    let answer = call(fleet.nodes[node].admin, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Waits until every node's answer has it; answers after how many milliseconds each had.
async fn everywhere(
    fleet: &Fleet,
    target: &str,
    admin: bool,
    has: impl Fn(u16, &serde_json::Value) -> bool,
) -> Vec<u64> {
    let begun = Stopwatch::start();
    let mut since = vec![None; fleet.nodes.len()];
    for _ in 0..LOOKS_MAX {
        for (node, since) in fleet.nodes.iter().zip(&mut since) {
            let address = if admin { node.admin } else { node.address };
            let answer = call(address, &Request::get(target)).await;
            if since.is_none() && has(answer.status, &answer.json()) {
                *since = Some(begun.us() / 1_000);
            }
        }
        if since.iter().all(Option::is_some) {
            return since.into_iter().flatten().collect();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("not everywhere: {since:?}\n{}", fleet.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_at_one_node_holds_at_all() {
    let _alone = crate::sale::alone().await;
    let mut fleet = Fleet::start(NODES, &settings()).await;
    let patch = |body: &str| Request::new("PATCH", EVENT).body(body);
    for paused in [true, false, true] {
        operate(&fleet, 0, patch(&format!(r#"{{"paused": {paused}}}"#))).await;
        let after = everywhere(&fleet, EVENT, true, |_, answer| {
            answer["policy"]["paused"] == paused
        });
        println!("paused = {paused}, known after ms: {:?}", after.await);
    }
    // Another node's change is made on top of it, and a node that was down meanwhile knows both.
    fleet.nodes[2].kill();
    operate(&fleet, 1, patch(r#"{"rate": 7}"#)).await;
    fleet.nodes[2].restart().await;
    let both = |_, answer: &serde_json::Value| {
        answer["policy"]["paused"] == true && answer["policy"]["rate"] == 7.0
    };
    everywhere(&fleet, EVENT, true, both).await;
    // At the same moment at two nodes: both fields are changed, at all nodes alike.
    let (a, b) = tokio::join!(
        operate(&fleet, 0, patch(r#"{"burst": 11}"#)),
        operate(&fleet, 1, patch(r#"{"max_active": 22}"#)),
    );
    assert!(a["policy"]["burst"] == 11 && b["policy"]["max_active"] == 22);
    let all = |_, answer: &serde_json::Value| {
        answer["policy"]["burst"] == 11 && answer["policy"]["max_active"] == 22
    };
    everywhere(&fleet, EVENT, true, all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_forgotten_at_one_node_stays_forgotten() {
    let _alone = crate::sale::alone().await;
    let mut fleet = Fleet::start(NODES, &settings()).await;
    let mut client = Client::connect(fleet.address()).await;
    let join = Request::post("/api/v1/queue/join", r#"{"event_id": "sale"}"#);
    let mut tokens = Vec::new();
    for _ in 0..200 {
        let joined = client.call(&join).await.json();
        tokens.push(joined["waiting_token"].as_str().unwrap().to_owned());
    }
    let flush = Request::post(
        "/api/v1/admin/flush-test-data",
        r#"{"event_ids": ["sale"]}"#,
    );
    let flushed = operate(&fleet, 1, flush).await;
    assert!(flushed["deleted_tickets"].as_u64().unwrap() > 0);
    let status = |token: &String| format!("/api/v1/queue/status?token={token}");
    let gone = |status, answer: &serde_json::Value| {
        status == 404 && answer["error"]["code"] == "TOKEN_NOT_FOUND"
    };
    let after = everywhere(&fleet, &status(&tokens[199]), false, gone).await;
    println!("gone everywhere, ms after the answer: {after:?}");
    let fresh = client.call(&join).await.json();
    let fresh = fresh["waiting_token"].as_str().unwrap().to_owned();
    // By then what was left has been erased; a node that loads now finds nothing of it.
    for _ in 0..LOOKS_MAX {
        if lines(&fleet) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(lines(&fleet), 1, "{}", fleet.output());
    fleet.nodes[0].kill();
    fleet.nodes[0].restart().await;
    for token in tokens.iter().step_by(10) {
        everywhere(&fleet, &status(token), false, gone).await;
    }
    everywhere(&fleet, &status(&fresh), false, |status, _| status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_of_one_number_are_told_and_a_restarted_one_is_welcome() {
    let _alone = crate::sale::alone().await;
    let mut fleet = Fleet::start(NODES, &settings()).await;
    let nodes = "/api/v1/admin/nodes";
    let complete = |_, answer: &serde_json::Value| {
        answer["missing"] == serde_json::json!([]) && answer["number_taken"] == false
    };
    everywhere(&fleet, nodes, true, complete).await;
    fleet.nodes[0].kill();
    fleet.nodes[0].restart().await;
    everywhere(&fleet, nodes, true, complete).await;
    assert!(!fleet.output().contains("another live process"));
    let second = fleet.another(1, &settings()).await;
    for admin in [second.admin, fleet.nodes[1].admin] {
        let mut looks = 0;
        while call(admin, &Request::get(nodes)).await.json()["number_taken"] != true {
            looks += 1;
            assert!(looks < LOOKS_MAX, "not told:\n{}", second.output());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    for output in [second.output(), fleet.nodes[1].output()] {
        assert!(output.contains("another live process has this node's number"));
    }
    // One is stopped; the other one is by itself again.
    drop(second);
    everywhere(&fleet, nodes, true, complete).await;
}

/// Tickets in the store's lines.
fn lines(fleet: &Fleet) -> u64 {
    let count = |server: &crate::kit::cluster::Server| -> u64 {
        let keys: Vec<String> = server.run(&["KEYS", "*:line:sale"]);
        let cards = keys.iter().map(|key| server.run::<u64>(&["ZCARD", key]));
        cards.sum()
    };
    tokio::task::block_in_place(|| fleet.cluster.servers[..3].iter().map(count).sum())
}
