//! The real binary, and a real Redis that comes later than it.

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::api::client::{Client, Request};
use crate::kit::process::{LOOK_EVERY, PATIENCE};
use crate::kit::redis;
use crate::kit::server::Server;
use crate::live::nodes::KEY_TEXT;

const BEFORE: usize = 5;

fn settings(port: u16, node: u16) -> Vec<String> {
    vec![
        "store.kind=redis".to_owned(),
        "store.start=serve".to_owned(),
        format!(r#"redis.urls=["redis://127.0.0.1:{port}"]"#),
        format!("fleet.node={node}"),
        "fleet.size=2".to_owned(),
        format!("keys.ticket.k1={KEY_TEXT}"),
        format!("keys.pass.k1={KEY_TEXT}"),
        "defaults.paused=true".to_owned(),
    ]
}

fn redis(port: u16, folder: &TempDir) -> redis::Server {
    let folder = folder.path().to_str().unwrap();
    tokio::task::block_in_place(|| redis::Server::start_at(port, &["--dir", folder]))
}

async fn join(client: &mut Client) -> Value {
    let body = r#"{"event_id": "sale"}"#;
    let joined = client
        .call(&Request::post("/api/v1/queue/join", body))
        .await;
    assert_eq!(joined.status, 202, "{}", joined.text());
    joined.json()
}

async fn status(client: &mut Client, joined: &Value) -> Value {
    let token = joined["waiting_token"].as_str().unwrap();
    let target = format!("/api/v1/queue/status?token={token}");
    let answer = client.call(&Request::get(&target)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_before_redis_is_there_and_knows_the_line_when_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let port = redis::free_ports(1)[0].0;
    let store = redis(port, &folder);
    let mut first = Server::start(&settings(port, 0)).await;
    let mut client = Client::connect(first.address).await;
    let mut early = Vec::new();
    for _ in 0..BEFORE {
        early.push(join(&mut client).await);
    }
    first.ask_to_stop();
    assert_eq!(first.ended().await.code(), Some(0), "{}", first.output());
    tokio::task::block_in_place(|| drop(store));

    let second = Server::start(&settings(port, 1)).await;
    assert!(
        second.output().contains("serving without it"),
        "{}",
        second.output()
    );
    let mut client = Client::connect(second.address).await;
    let last = status(&mut client, &early[BEFORE - 1]).await;
    assert_eq!(last["degraded"], true);
    assert_eq!(
        last["position"],
        early[BEFORE - 1]["position"],
        "what was told holds while nobody knows better"
    );
    let late = join(&mut client).await;

    let store = redis(port, &folder);
    let merged = async {
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let told = status(&mut client, &late).await;
            if told["degraded"] == false {
                return told;
            }
        }
    };
    let told = timeout(PATIENCE, merged).await;
    let told = told.unwrap_or_else(|_| panic!("not merged in:\n{}", second.output()));
    assert_eq!(told["position"], BEFORE + 1);
    // What was told at the join stands until the feeds were heard; on a busy machine that may have been
    // more than the place, for others who might come.
    for (before, joined) in early.iter().enumerate() {
        let placed = async {
            let mut look = interval(LOOK_EVERY);
            loop {
                look.tick().await;
                let told = status(&mut client, joined).await["position"]
                    .as_u64()
                    .unwrap();
                assert!(told <= joined["position"].as_u64().unwrap(), "it rose");
                if told == before as u64 + 1 {
                    return;
                }
            }
        };
        let placed = timeout(PATIENCE, placed).await;
        placed.unwrap_or_else(|_| panic!("{joined} is not in its place:\n{}", second.output()));
    }
    drop(second);
    tokio::task::block_in_place(|| drop(store));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_fit_the_redis_that_came_stops_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let port = redis::free_ports(1)[0].0;
    let store = redis(port, &folder);
    let meta = ["format", "1", "partitions", "8", "deployment", "other"];
    let hset = ["HSET", "tg:{c}:meta"]
        .into_iter()
        .chain(meta)
        .collect::<Vec<_>>();
    tokio::task::block_in_place(|| {
        store.run::<u8>(&hset);
        drop(store);
    });
    let mut node = Server::start(&settings(port, 0)).await;
    let mut client = Client::connect(node.address).await;
    join(&mut client).await;
    let store = redis(port, &folder);
    let status = node.ended().await;
    assert_eq!(status.code(), Some(1), "{}", node.output());
    assert!(node.output().contains("8 partitions"), "{}", node.output());
    let streams: Vec<String> = tokio::task::block_in_place(|| store.run(&["KEYS", "*feed"]));
    assert!(streams.is_empty(), "it wrote: {streams:?}");
    tokio::task::block_in_place(|| drop(store));
}
