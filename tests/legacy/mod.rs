//! Moving a running sale over from a Redis-only gateway: its keys in a real Redis, imported, and its
//! tokens shown to a real server.

mod old;
mod site;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use tidegate::app::Import;
use tidegate::config::Config;
use tidegate::model::{Batch, EventId, Kind, LegacyToken, Micros, NodeId, Record};
use tidegate::store::Store as _;
use tidegate::store::fault::{Call, Faults};
use tokio::time::{interval, timeout};

use crate::api::client::{Answer, Client, Request};
use crate::kit::cluster::{self, shared_cluster};
use crate::kit::process::{LOOK_EVERY, PATIENCE};
use crate::kit::server::Server;
use old::{Old, token};
use site::{
    config, count, enter, import, keys, node, old, run_import, status, store, until_waiting,
};

const TICKETS: u64 = 400;
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
    let calls = || [Call::Load, Call::Gates, Call::Rule, Call::Enter].map(|c| faults.calls(c));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_of_a_fleet_hear_of_it() {
    let redis = tokio::task::block_in_place(|| cluster::Server::start(&[]));
    let mut old = old(&redis).await;
    let now = old::now();
    for n in 0..60 {
        old.join("sale", &token(), now - 100 + n / 20).await;
    }
    let mut config = config(&redis.url());
    config.fleet.size = NonZeroU16::new(2).unwrap();
    let mut nodes = Vec::new();
    for number in 0..2 {
        config.fleet.node = NodeId(number);
        nodes.push(node(&config).await.0);
    }
    import(&config, &redis.url()).await;
    let waiting = old.ranked("sale").await;
    for node in &nodes {
        let mut client = Client::connect(node.listen).await;
        until_waiting(&mut client, &waiting[0], 60).await;
        for (rank, token) in waiting.iter().enumerate() {
            let answer = status(&mut client, token).await.json();
            assert_eq!(answer["position"], rank as u64 + 1, "{answer}");
        }
    }
    for node in nodes {
        node.stop(&config).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_expired_here_before_the_switch_is_moved_once_more() {
    let redis = tokio::task::block_in_place(|| cluster::Server::start(&[]));
    let mut old = old(&redis).await;
    let now = old::now();
    for n in 0..3 {
        old.join("sale", &token(), now - 900 + n).await;
    }
    let config = config(&redis.url());
    import(&config, &redis.url()).await;
    let waiting = old.ranked("sale").await;
    // Nobody polled for it here in time.
    let id = keys()
        .0
        .legacy_ids(&LegacyToken::parse(&waiting[0]).unwrap())[0];
    let store = store(&config).await;
    let partitions = store.meta(16).await.unwrap().partitions;
    let expired = Record {
        kind: Kind::Expired,
        id,
        at: Micros(now * 1_000_000),
    };
    let batch = Batch {
        node: NodeId(0),
        epoch: 1,
        seq: 1,
        clock: expired.at,
        events: vec![(EventId::new("sale").unwrap(), vec![expired])],
    };
    let lane = id.partition(partitions);
    store.append(lane, Arc::new(batch)).await.unwrap();
    let (node, _) = node(&config).await;
    let mut client = Client::connect(node.listen).await;
    assert_eq!(
        status(&mut client, &waiting[0]).await.code(),
        "TOKEN_EXPIRED"
    );

    let report = import(&config, &redis.url()).await;
    assert_eq!(count(&report, "put in line now"), 1, "{report}");
    assert_eq!(count(&report, "in line already"), 2, "{report}");
    until_waiting(&mut client, &waiting[0], 3).await;
    for (rank, token) in waiting.iter().enumerate() {
        let answer = status(&mut client, token).await.json();
        assert_eq!(answer["position"], rank as u64 + 1, "{answer}");
    }

    // Flushing an event makes all void that came before: an import says so.
    let flush = Request::post(
        "/api/v1/admin/flush-test-data",
        r#"{"event_ids": ["sale"]}"#,
    )
    .header("authorization", "Bearer secret-of-operators");
    let mut operator = Client::connect(node.admin_listen.unwrap()).await;
    assert_eq!(operator.call(&flush).await.status, 200);
    let report = import(&config, &redis.url()).await;
    assert_eq!(count(&report, "put in line now"), 0, "{report}");
    assert_eq!(count(&report, "flushed here"), 3, "{report}");
    let unknown = status(&mut client, &waiting[0]).await;
    assert_eq!(unknown.code(), "TOKEN_NOT_FOUND");
    node.stop(&config).await;
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
    let mut config = config("redis://127.0.0.1:1");
    let from = cluster.servers[5].url();
    let named = events.map(str::to_owned);
    let dry = Import::new(&config, &from, &named[..3], true).unwrap();
    let report = dry.run(&config).await.unwrap();
    assert_eq!(count(&report, "events"), 3, "{report}");
    assert_eq!(count(&report, "would be put in line"), 90, "{report}");
    config.events.max_events = NonZeroU32::new(2).unwrap();
    let too_many = Import::new(&config, &from, &named, true).unwrap();
    let error = too_many.run(&config).await.unwrap_err().to_string();
    assert!(error.contains("events.max_events (2)"), "{error}");
    for event in events {
        old.run::<u64>(&["DEL", &format!("queue:event:{event}")])
            .await;
        old.run::<u64>(&["DEL", &format!("position_index:{{{event}}}")])
            .await;
    }
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
