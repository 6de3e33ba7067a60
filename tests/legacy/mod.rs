//! Moving a running sale over from a Redis-only gateway: its keys in a real Redis, imported, and its
//! tokens shown to a real server.

mod old;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tempfile::TempDir;
use tidegate::app::{Import, Node};
use tidegate::clock::Clock;
use tidegate::config::{Config, Sources};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::store::Redis;
use tidegate::store::fault::{Call, Faults, Faulty};
use tidegate::store::redis::{Address, Settings};
use tokio::time::{interval, timeout};

use crate::api::client::{Answer, Client, Request};
use crate::kit::cluster::{self, shared_cluster};
use crate::kit::process::{LOOK_EVERY, PATIENCE, Process};
use crate::kit::server::Server;
use old::{Old, token};

const TICKETS: u64 = 400;
/// 32 times the number seven, in base64.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// The configuration of one node over a Redis, and of the import.
fn config(url: &str) -> Config {
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

/// A node over that Redis, whose calls are counted.
async fn node(config: &Config) -> (Node, Faults) {
    let url = &config.redis.urls[0];
    let settings = Settings {
        addresses: vec![Address {
            host: url.host.clone(),
            port: url.port,
        }],
        ..Settings::default()
    };
    let store = Faulty::new(Redis::open(settings).await.unwrap());
    let faults = store.faults();
    let key = vec![("k1".to_owned(), [7; 32])];
    let keys = (
        TicketKeys::new("k1", &key).unwrap(),
        PassKeys::new("k1", &key).unwrap(),
    );
    let clock = Clock::real(config.fleet.max_clock_skew);
    let node = Node::start(config, clock, Arc::new(store), keys).await;
    (node.unwrap(), faults)
}

async fn import(config: &Config, from: &str) -> String {
    let import = Import::new(config, from, &[], false).unwrap();
    import.run(config).await.unwrap()
}

/// The count that a report gives of something; 0 when it is not named.
fn count(report: &str, what: &str) -> u64 {
    let line = report.lines().find(|line| line.trim_start().contains(what));
    line.map_or(0, |line| {
        line.split_whitespace().next().unwrap().parse().unwrap()
    })
}

async fn old(server: &cluster::Server) -> Old<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(server.url()).unwrap();
    Old(client.get_multiplexed_async_connection().await.unwrap())
}

async fn status(client: &mut Client, token: &str) -> Answer {
    let target = format!("/api/v1/queue/status?token={token}");
    client.call(&Request::get(&target)).await
}

/// Looks until so many wait: the node hears of an import by its feed.
async fn until_waiting(client: &mut Client, token: &str, waiting: u64) {
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

/// What the store holds for good, by key.
async fn durable(
    old: &mut Old<redis::aio::MultiplexedConnection>,
) -> BTreeMap<String, Vec<(Vec<u8>, f64)>> {
    let mut held = BTreeMap::new();
    for pattern in ["tg:*:line:*", "tg:*:gone:*"] {
        let keys: Vec<String> = old.run(&["KEYS", pattern]).await;
        for key in keys {
            let members = old.run(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await;
            held.insert(key, members);
        }
    }
    held
}

/// What a visitor of the other gateway did before the switch.
struct Past {
    token: String,
    waits: bool,
}

/// A sale of some hundred visitors, twenty a second, in all the states they may be in.
async fn sale(old: &mut Old<redis::aio::MultiplexedConnection>, event: &str) -> Vec<Past> {
    let begins = old::now() - 1_000;
    let mut visitors = Vec::new();
    for n in 0..TICKETS {
        let (token, at) = (token(), begins + n / 20);
        old.join(event, &token, at).await;
        match n % 10 {
            0 => old.enter(event, &token, at).await,
            1 => old.leave(event, &token).await,
            2 => old.fall_silent(&token).await,
            3 => old.wait_long(&token).await,
            _ => {}
        }
        visitors.push(Past {
            token,
            waits: n % 10 > 2,
        });
    }
    visitors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_sale_moves_over_with_every_place() {
    let redis = tokio::task::block_in_place(|| cluster::Server::start(&[]));
    let mut old = old(&redis).await;
    let visitors = sale(&mut old, "sale").await;
    // What has no place here, or no business.
    old.run::<u64>(&["ZADD", "queue:event:no good name", "1", "x"])
        .await;
    old.run::<u64>(&["ZADD", "position_index:{sale}", "1", "wtkn_fallback_1"])
        .await;
    old.run::<String>(&["SET", "queue:waiting:not-a-uuid", "{}"])
        .await;
    let config = config(&redis.url());
    let (node, faults) = node(&config).await;
    let mut client = Client::connect(node.listen).await;

    let unknown = status(&mut client, &token()).await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (404, "TOKEN_NOT_FOUND")
    );
    let waiting: Vec<_> = old.ranked("sale").await;
    let waits = |token: &String| visitors.iter().any(|v| v.token == *token && v.waits);
    let waiting: Vec<_> = waiting.into_iter().filter(waits).collect();
    let report = import(&config, &redis.url()).await;
    assert_eq!(
        count(&report, "put in line now"),
        waiting.len() as u64,
        "{report}"
    );
    assert_eq!(
        count(&report, "noted now as entered"),
        TICKETS / 10,
        "{report}"
    );
    assert_eq!(
        count(&report, "left or expired there"),
        TICKETS / 10,
        "{report}"
    );
    assert_eq!(count(&report, "five minutes"), TICKETS / 10, "{report}");
    assert_eq!(count(&report, "no UUID"), 1, "{report}");
    assert_eq!(count(&report, "not an event's name"), 1, "{report}");
    assert_eq!(count(&report, "cannot be read"), 1, "{report}");

    // The node was up all the time, and hears of it.
    until_waiting(&mut client, &waiting[0], waiting.len() as u64).await;
    for (rank, token) in waiting.iter().enumerate() {
        let answer = status(&mut client, token).await.json();
        assert_eq!(answer["position"], rank as u64 + 1, "{answer}");
        assert!(answer["waiting_time"].as_u64().unwrap() > 900);
    }
    let join = Request::post("/api/v1/queue/join", r#"{"event_id": "sale"}"#);
    let joined = client.call(&join).await;
    assert_eq!(joined.json()["position"], waiting.len() as u64 + 1);

    unknown_tokens_cost_no_call(&mut client, &faults).await;

    let entered = &visitors[0].token;
    assert_eq!(status(&mut client, entered).await.json()["status"], "ready");
    let refused = enter(&mut client, entered).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "TOKEN_EXPIRED")
    );

    let target = format!("/api/v1/queue/leave?token={}", waiting[0]);
    assert_eq!(
        client.call(&Request::new("DELETE", &target)).await.status,
        200
    );
    let gone = status(&mut client, &waiting[0]).await;
    assert_eq!(gone.code(), "TOKEN_EXPIRED");
    assert_eq!(status(&mut client, &waiting[1]).await.json()["position"], 1);

    it_changes_nothing_to_do_it_again(&config, &redis, &mut old, &waiting).await;
    the_first_goes_in(&mut client, node.admin_listen.unwrap(), &waiting).await;
    node.stop(&config).await;
}

/// However many there are: a flood of made-up tokens never reaches the store.
async fn unknown_tokens_cost_no_call(client: &mut Client, faults: &Faults) {
    let calls = || [Call::Load, Call::Gates, Call::Enter].map(|c| faults.calls(c));
    let before = calls();
    let shape = |answer: &Answer| {
        let mut json = answer.json();
        json["error"]["trace_id"] = "".into();
        (answer.status, json)
    };
    let ours = shape(&status(client, "made.up-token").await);
    for _ in 0..1_000 {
        assert_eq!(shape(&status(client, &token()).await), ours);
    }
    let unknown = token();
    assert_eq!(enter(client, &unknown).await.code(), "TOKEN_NOT_FOUND");
    let leave = format!("/api/v1/queue/leave?token={unknown}");
    assert_eq!(
        client.call(&Request::new("DELETE", &leave)).await.status,
        200
    );
    assert_eq!(client.call(&Request::post(&leave, "")).await.status, 200);
    assert_eq!(calls(), before);
}

async fn it_changes_nothing_to_do_it_again(
    config: &Config,
    redis: &cluster::Server,
    old: &mut Old<redis::aio::MultiplexedConnection>,
    waiting: &[String],
) {
    // Who left here is with the store first.
    let mut look = interval(LOOK_EVERY);
    let written = async {
        loop {
            look.tick().await;
            let line = durable(old).await;
            let in_line = line.iter().filter(|(key, _)| key.contains(":line:"));
            // One of them left, and one joined here.
            if in_line.map(|(_, m)| m.len()).sum::<usize>() == waiting.len() {
                return line;
            }
        }
    };
    let before = timeout(PATIENCE, written)
        .await
        .expect("the journal is flushed");
    let report = import(config, &redis.url()).await;
    assert_eq!(count(&report, "put in line now"), 0, "{report}");
    assert_eq!(count(&report, "in line already"), waiting.len() as u64 - 1);
    assert_eq!(count(&report, "noted before"), TICKETS / 10);
    assert_eq!(count(&report, "left or entered here"), 1);
    assert_eq!(durable(old).await, before);
}

async fn the_first_goes_in(client: &mut Client, admin: SocketAddr, waiting: &[String]) {
    let patch = Request::new("PATCH", "/api/v1/admin/events/sale")
        .header("authorization", "Bearer secret-of-operators")
        .body(r#"{"paused": false}"#);
    let mut operator = Client::connect(admin).await;
    assert_eq!(operator.call(&patch).await.status, 200);
    let mut look = interval(LOOK_EVERY);
    let ready = async {
        while status(client, &waiting[1]).await.json()["ready_for_entry"] != true {
            look.tick().await;
        }
    };
    timeout(PATIENCE, ready).await.expect("its turn comes");
    let first = enter(client, &waiting[1]).await;
    assert_eq!(
        (first.status, &first.json()["admission"]),
        (200, &"granted".into())
    );
    let again = enter(client, &waiting[1]).await;
    assert_eq!(
        again.json()["reservation_token"],
        first.json()["reservation_token"]
    );
}

async fn enter(client: &mut Client, token: &str) -> Answer {
    let body = format!(r#"{{"waiting_token": "{token}"}}"#);
    client
        .call(&Request::post("/api/v1/queue/enter", body))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_read_whole_and_a_dry_run_writes_nothing() {
    let cluster = tokio::task::block_in_place(shared_cluster);
    let urls = cluster.servers.iter().map(cluster::Server::url);
    let client = redis::cluster::ClusterClient::new(urls.collect::<Vec<_>>()).unwrap();
    let mut old = Old(client.get_async_connection().await.unwrap());
    let now = old::now();
    let events = ["moved.a", "moved.b", "moved.c", "moved.d"];
    for event in events {
        for n in 0..30 {
            old.join(event, &token(), now - 60 + n).await;
        }
    }
    let config = config("redis://127.0.0.1:1");
    let from = cluster.servers[5].url();
    let named = events.map(str::to_owned);
    let dry = Import::new(&config, &from, &named[..3], true).unwrap();
    let report = dry.run(&config).await.unwrap();
    assert_eq!(count(&report, "events"), 3, "{report}");
    assert_eq!(count(&report, "would be put in line"), 90, "{report}");
    for event in events {
        old.run::<u64>(&["DEL", &format!("queue:event:{event}")])
            .await;
        old.run::<u64>(&["DEL", &format!("position_index:{{{event}}}")])
            .await;
    }
}

/// Runs the binary's import against a stopped node's folder, and answers its code and its output.
async fn run_import(words: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut process = Process::spawn(folder.path(), &words, |_| {});
    let ended = process.ended().await;
    (ended.code(), process.output())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_takes_it_over_between_stop_and_start() {
    let redis = tokio::task::block_in_place(|| cluster::Server::start(&[]));
    let mut old = old(&redis).await;
    let visitors = sale(&mut old, "sale").await;
    let mut server = Server::start(&["defaults.paused=true".to_owned()]).await;
    let store = format!("store.path={}", server.store().display());
    let from = redis.url();
    let import = ["import-legacy", "--from", &from, "--set", &store];
    let (code, output) = run_import(&import).await;
    assert_eq!(code, Some(1), "the folder is in use:\n{output}");

    server.ask_to_stop();
    server.ended().await;
    let (code, output) = run_import(&import).await;
    assert_eq!(code, Some(0), "{output}");
    let waits = |token: &String| visitors.iter().any(|v| v.token == *token && v.waits);
    let waiting: Vec<_> = old.ranked("sale").await.into_iter().filter(waits).collect();
    assert_eq!(
        count(&output, "put in line now"),
        waiting.len() as u64,
        "{output}"
    );
    let (_, output) = run_import(&import).await;
    assert_eq!(
        count(&output, "in line already"),
        waiting.len() as u64,
        "{output}"
    );

    server.restart().await;
    let mut client = Client::connect(server.address).await;
    for (rank, token) in waiting.iter().enumerate() {
        let answer = status(&mut client, token).await.json();
        assert_eq!(answer["position"], rank as u64 + 1, "{answer}");
    }
}

#[tokio::test]
async fn a_wrong_order_exits_64_and_an_unreachable_gateway_1() {
    let (code, output) = run_import(&["import-legacy"]).await;
    assert_eq!(code, Some(64), "{output}");
    assert!(output.contains("--from"), "{output}");
    let (code, output) = run_import(&["import-legacy", "--from", "env:NOT_SET"]).await;
    assert_eq!(code, Some(64), "{output}");
    let from = ["import-legacy", "--from", "redis://:hidden@127.0.0.1:1"];
    let (code, output) = run_import(&from).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains("127.0.0.1:1") && !output.contains("hidden"),
        "{output}"
    );
    let (code, output) = run_import(&[from, ["--event", "a b", "--dry-run"]].concat()).await;
    assert_eq!(code, Some(64), "{output}");
    let (code, output) = run_import(&["check", "--dry-run"]).await;
    assert_eq!(code, Some(64), "{output}");
}
