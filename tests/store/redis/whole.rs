//! What a server is asked, and what becomes of it when servers are not as they should be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidegate::model::gate::{Entry, Turn};
use tidegate::model::{Batch, Gone, Kind, Micros, Record};
use tidegate::store::redis::{Mode, Settings};
use tidegate::store::{FROM_THE_GATE, Memory, Position, Redis, Retry, Store, memory};

use crate::kit::cluster::{Server, shared_cluster, shared_server};
use crate::store::kit::*;

/// Longer than any test waits for what comes.
const LONG: Duration = Duration::from_secs(60);

fn at(port: u16) -> Settings {
    redis_settings(port, Mode::Auto, None)
}

async fn both() -> [Redis; 2] {
    let single = Redis::open(at(shared_server().port)).await.unwrap();
    let cluster = Redis::open(at(shared_cluster().servers[4].port))
        .await
        .unwrap();
    assert!(!single.is_cluster() && cluster.is_cluster());
    [single, cluster]
}

async fn refused(settings: Settings) -> String {
    let Err(error) = Redis::open(settings).await else {
        panic!("it opened");
    };
    assert_eq!(error.retry, Retry::Never);
    error.to_string()
}

#[tokio::test]
async fn a_mode_that_does_not_fit_is_refused_by_name() {
    let (single, clustered) = (shared_server().port, shared_cluster().servers[1].port);
    let error = refused(redis_settings(single, Mode::Cluster, None)).await;
    let expected =
        format!("open redis: redis.mode is \"cluster\", but 127.0.0.1:{single} runs by itself");
    assert_eq!(error, expected);
    let error = refused(redis_settings(clustered, Mode::Single, None)).await;
    let expected = format!(
        "open redis: redis.mode is \"single\", but 127.0.0.1:{clustered} belongs to a cluster"
    );
    assert_eq!(error, expected);
}

#[tokio::test]
async fn passwords_and_users_are_used() {
    let server = Server::start(&[]);
    server.run::<String>(&["CONFIG", "SET", "requirepass", "sesame"]);
    let login = |user: Option<&str>, password: Option<&str>| Settings {
        user: user.map(str::to_owned),
        password: password.map(str::to_owned),
        ..at(server.port)
    };
    refused(login(None, None)).await;
    refused(login(None, Some("wrong"))).await;
    let store = Redis::open(login(None, Some("sesame"))).await.unwrap();
    store.meta(16).await.unwrap();
    let mut client = redis::Client::open(format!("redis://:sesame@127.0.0.1:{}", server.port))
        .unwrap()
        .get_connection()
        .unwrap();
    let rule = ["SETUSER", "gate", "on", ">open", "~*", "&*", "+@all"];
    redis::cmd("ACL").arg(&rule).exec(&mut client).unwrap();
    let named = login(Some("gate"), Some("open"));
    assert!(!format!("{named:?}").contains("open"));
    let store = Redis::open(named).await.unwrap();
    store.meta(16).await.unwrap();
}

#[tokio::test]
async fn a_node_that_does_not_fit_the_fleet_is_refused() {
    for store in both().await {
        assert_eq!(store.meta(8).await.unwrap().partitions, 8);
        assert_eq!(store.meta(16).await.unwrap().partitions, 8);
        let beyond = store.feed_end(8).await.unwrap_err();
        assert_eq!(
            (beyond.retry, beyond.to_string().as_str()),
            (Retry::Never, "read a feed: partition 8 of a store with 8")
        );
    }
    let settings = at(shared_server().port);
    let key = format!("{}:{{c}}:meta", settings.prefix);
    shared_server().run::<i64>(&["HSET", &key, "format", "9"]);
    let store = Redis::open(settings).await.unwrap();
    let error = store.meta(16).await.unwrap_err();
    assert_eq!(
        (error.retry, error.to_string().as_str()),
        (
            Retry::Never,
            "read the fixed facts: the store has format 9, this build reads 1"
        )
    );
}

#[tokio::test]
async fn a_batch_sent_again_is_in_the_feed_once() {
    for store in both().await {
        let (first, second) = (
            batch("e", vec![joined(1, 10)]),
            batch("e", vec![joined(2, 10)]),
        );
        let began = store.append(3, first.clone()).await.unwrap();
        assert_eq!(store.append(3, first.clone()).await.unwrap(), began);
        let next = store.append(3, second.clone()).await.unwrap();
        assert_eq!(store.append(3, second.clone()).await.unwrap(), next);
        // One from before is a repair: others may have lost what was acknowledged.
        let repaired = store.append(3, first.clone()).await.unwrap();
        let feed = store.follow(3, Position::default(), 9).await.unwrap();
        assert_eq!(
            feed.batches,
            [(began, first.clone()), (next, second), (repaired, first)]
        );
        assert_eq!(all(&store, 3).await.len(), 2);
    }
}

#[tokio::test]
async fn a_store_that_is_not_where_it_was_left_is_noticed() {
    let ports = [shared_server().port, shared_cluster().servers[4].port];
    for settings in ports.map(at) {
        let store = Redis::open(settings.clone()).await.unwrap();
        let other = Redis::open(settings).await.unwrap();
        let of = |n| batch("e", vec![joined(n, 10)]);
        for n in 1..4 {
            let batch = of(n);
            store.append(3, batch.clone()).await.unwrap();
            store.append(3, batch).await.unwrap();
        }
        assert_eq!(store.generation(), 0);
        // As if the last of these had been lost: what the server had last is not what we know of.
        other.append(3, of(9)).await.unwrap();
        store.append(3, of(4)).await.unwrap();
        assert_eq!(store.generation(), 1);
        store.append(3, of(5)).await.unwrap();
        assert_eq!(store.generation(), 1);
    }
}

#[tokio::test]
async fn who_waits_is_woken_and_holds_up_nobody() {
    for store in both().await {
        let store = Arc::new(store);
        for partition in 0..16 {
            let end = store.feed_end(partition).await.unwrap();
            let waiting = tokio::spawn({
                let store = Arc::clone(&store);
                async move { store.wait(partition, end, 9, LONG).await.unwrap() }
            });
            store
                .append(partition, batch("e", vec![joined(1, 10)]))
                .await
                .unwrap();
            let came = waiting.await.unwrap();
            let written = store.follow(partition, end, 9).await.unwrap();
            assert_eq!((came.batches, came.trimmed), (written.batches, false));
            // There is something already.
            let came = store.wait(partition, end, 9, LONG).await.unwrap();
            assert_eq!(came.batches.len(), 1);
            let end = store.feed_end(partition).await.unwrap();
            let moment = Duration::from_millis(1);
            let nothing = store.wait(partition, end, 9, moment).await.unwrap();
            assert!(nothing.batches.is_empty() && !nothing.trimmed);
        }
    }
}

#[tokio::test]
async fn what_a_gate_did_is_in_the_feed_of_its_partition() {
    for store in both().await {
        let now = store.advance(advance(1, 0, ids(1..3))).await.unwrap();
        assert!(matches!(
            store.enter(enter(1)).await.unwrap(),
            Entry::Granted { .. }
        ));
        let mut heard = Vec::new();
        for partition in 0..16 {
            let feed = store
                .follow(partition, Position::default(), 9)
                .await
                .unwrap();
            heard.extend(feed.batches.into_iter().map(|(_, batch)| batch));
        }
        let turns = now.called.iter().map(|&Turn { id, until }| Record {
            kind: Kind::Called,
            id,
            at: until,
        });
        let called: &Batch = &heard[0];
        assert_eq!(
            (called.epoch, called.seq, called.clock),
            (FROM_THE_GATE, 1, now.now)
        );
        assert_eq!(called.events, [(event("e"), turns.collect())]);
        let entered: Vec<_> = heard[1].events[0]
            .1
            .iter()
            .map(|r| (r.kind, r.id))
            .collect();
        assert_eq!((heard.len(), entered), (2, vec![(Kind::Entered, id(1))]));
    }
}

#[tokio::test]
async fn servers_that_forgot_scripts_or_connections_are_told_again() {
    let server = Server::start(&[]);
    let store = Redis::open(at(server.port)).await.unwrap();
    let append = |n| store.append(0, batch("e", vec![joined(n, 10)]));
    append(1).await.unwrap();
    server.run::<String>(&["SCRIPT", "FLUSH"]);
    append(2).await.unwrap();
    server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    // Whether the first one notices is up to the moment; it must not be told as hopeless.
    if let Err(error) = append(3).await {
        assert_eq!(error.retry, Retry::Unknown, "{error}");
        append(3).await.unwrap();
    }
    assert_eq!(all(&store, 0).await.len(), 3);
}

#[tokio::test]
async fn many_equal_arrivals_are_loaded_each_once() {
    for store in both().await {
        let records = (0..2_000).map(|n| joined(n, 7 + n as u64 / 900)).collect();
        store.append(0, batch("e", records)).await.unwrap();
        let held = all(&store, 0).await;
        let tickets: BTreeSet<_> = held
            .iter()
            .map(|(_, ticket)| format!("{ticket:?}"))
            .collect();
        assert_eq!((held.len(), tickets.len()), (2_000, 2_000));
    }
}

/// Batches of records of a few tickets at a few moments, so that they meet.
fn batches() -> impl Strategy<Value = Vec<Vec<Record>>> {
    let kinds = [
        Kind::Joined,
        Kind::Joined,
        Kind::Left,
        Kind::Expired,
        Kind::Entered,
        Kind::Seen,
    ];
    let moments = prop_oneof![0..12_u64, 1_800_000_000_000_000..1_800_000_000_000_004_u64];
    let record = (prop::sample::select(kinds.to_vec()), 0..6_u128, moments)
        .prop_map(|(kind, number, at)| record(kind, number, at));
    prop::collection::vec(prop::collection::vec(record, 0..8), 1..6)
}

#[test]
fn batches_merge_as_in_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Clock::new();
    let settings = redis_settings(
        shared_server().port,
        Mode::Single,
        Some(clock.as_store_clock()),
    );
    let settings = Settings {
        keep_removed: LONG,
        ..settings
    };
    clock.set(SECOND);
    let store = runtime.block_on(Redis::open(settings)).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    let run = runner.run(&batches(), |batches| {
        let reference = Memory::new(memory::Settings::default(), clock.as_store_clock());
        runtime.block_on(async {
            for records in batches {
                let batch = batch("e", records);
                store.append(0, batch.clone()).await.unwrap();
                reference.append(0, batch).await.unwrap();
            }
            prop_assert_eq!(all(&store, 0).await, all(&reference, 0).await);
            store.erase(event("e"), Micros(1 << 52)).await.unwrap();
            Ok(())
        })
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

#[tokio::test]
async fn the_lines_order_is_the_sorted_sets_order() {
    let settings = at(shared_server().port);
    let prefix = settings.prefix.clone();
    let store = Redis::open(settings).await.unwrap();
    let now = 1_800_000_000_000_001;
    let records = vec![joined(3, now), joined(1, now + 1), joined(2, now)];
    store.append(0, batch("e", records)).await.unwrap();
    let key = format!("{prefix}:{{0-63}}:line:e");
    let mut client = redis::Client::open(shared_server().url())
        .unwrap()
        .get_connection()
        .unwrap();
    let mut rank = |number| {
        let mut rank = redis::cmd("ZRANK");
        rank.arg(&key).arg(id(number).as_bytes());
        rank.query::<u64>(&mut client).unwrap()
    };
    assert_eq!([2, 3, 1].map(&mut rank), [0, 1, 2]);
    let gone = record(Kind::Expired, 2, now + 5);
    store.append(0, batch("e", vec![gone])).await.unwrap();
    assert_eq!(
        all(&store, 0).await[1],
        (event("e"), removed(2, now + 5, Gone::Expired))
    );
}
