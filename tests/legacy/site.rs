//! What these tests need besides the other gateway: a node over the same Redis, imports, polls.

use std::sync::Arc;

use tempfile::TempDir;
use tidegate::app::{Import, Node};
use tidegate::clock::Clock;
use tidegate::config::{Config, Sources};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::store::Redis;
use tidegate::store::fault::{Faults, Faulty};
use tidegate::store::redis::{Address, Settings};
use tokio::time::{interval, timeout};

use super::old::Old;
use crate::api::client::{Answer, Client, Request};
use crate::kit::cluster;
use crate::kit::process::{LOOK_EVERY, PATIENCE, Process};

/// 32 times the number seven, in base64.
pub const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// The configuration of one node over a Redis, and of the import.
pub fn config(url: &str) -> Config {
    let sets = [
        "server.listen=127.0.0.1:0".to_owned(),
        "server.admin_listen=127.0.0.1:0".to_owned(),
        "admin.token=secret-of-operators".to_owned(),
        "defaults.paused=true".to_owned(),
        "store.kind=redis".to_owned(),
        format!("redis.urls=[{url:?}]"),
        format!("keys.ticket.k1={KEY}"),
        format!("keys.pass.k1={KEY}"),
    ];
    Sources::new(None, [], sets.into()).load().unwrap()
}

pub fn keys() -> (TicketKeys, PassKeys) {
    let key = vec![("k1".to_owned(), [7; 32])];
    (
        TicketKeys::new("k1", &key).unwrap(),
        PassKeys::new("k1", &key).unwrap(),
    )
}

pub async fn store(config: &Config) -> Redis {
    let url = &config.redis.urls[0];
    let settings = Settings {
        addresses: vec![Address {
            host: url.host.clone(),
            port: url.port,
        }],
        ..Settings::default()
    };
    Redis::open(settings).await.unwrap()
}

/// A node over that Redis, whose calls are counted.
pub async fn node(config: &Config) -> (Node, Faults) {
    let store = Faulty::new(store(config).await);
    let faults = store.faults();
    let clock = Clock::real(config.fleet.max_clock_skew);
    let node = Node::start(config, clock, Arc::new(store), keys()).await;
    (node.unwrap(), faults)
}

pub async fn import(config: &Config, from: &str) -> String {
    let import = Import::new(config, from, &[], false).unwrap();
    import.run(config).await.unwrap()
}

/// The count that a report gives of something; 0 when it is not named.
pub fn count(report: &str, what: &str) -> u64 {
    let line = report.lines().find(|line| line.trim_start().contains(what));
    line.map_or(0, |line| {
        line.split_whitespace().next().unwrap().parse().unwrap()
    })
}

pub async fn old(server: &cluster::Server) -> Old<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(server.url()).unwrap();
    Old(client.get_multiplexed_async_connection().await.unwrap())
}

pub async fn status(client: &mut Client, token: &str) -> Answer {
    let target = format!("/api/v1/queue/status?token={token}");
    client.call(&Request::get(&target)).await
}

/// Looks until so many wait: the node hears of an import by its feed.
pub async fn until_waiting(client: &mut Client, token: &str, waiting: u64) {
    let mut look = interval(LOOK_EVERY);
    let heard = async {
        loop {
            look.tick().await;
            let answer = status(client, token).await;
            if answer.status == 200 && answer.json()["total_waiting"] == waiting {
                return;
            }
        }
    };
    let heard = timeout(PATIENCE, heard).await;
    heard.unwrap_or_else(|_| panic!("the node does not hear of {waiting} tickets"));
}

pub async fn enter(client: &mut Client, token: &str) -> Answer {
    let body = format!(r#"{{"waiting_token": "{token}"}}"#);
    client
        .call(&Request::post("/api/v1/queue/enter", body))
        .await
}

/// Runs the binary's import against a stopped node's folder, and answers its code and its output.
pub async fn run_import(words: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut process = Process::spawn(folder.path(), &words, |_| {});
    let ended = process.ended().await;
    (ended.code(), process.output())
}
