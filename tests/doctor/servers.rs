//! Redis, by itself and as a cluster.

use tokio::time::{interval, timeout};

use super::{ask, ask_in, on};
use crate::kit::cluster::{Server, shared_cluster};
use crate::kit::process::{LOOK_EVERY, PATIENCE};
use crate::kit::redis::free_ports;
use crate::kit::server;

/// What a server does that nobody configured.
const DEFAULT: [&str; 4] = ["--save", "3600 1 300 100 60 10000", "--appendonly", "no"];

fn start(settings: &[&str]) -> Server {
    tokio::task::block_in_place(|| Server::start(settings))
}

fn end(server: Server) {
    tokio::task::block_in_place(|| drop(server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_server_works_and_might_keep_better() {
    let redis = start(&DEFAULT);
    let told = ask(&on(&[redis.port])).await;
    assert_eq!(told.code, Some(0), "{:#}", told.report);
    told.says("kind", "ok", &["one master by itself, 0 replicas"]);
    told.says("eviction", "ok", &["noeviction"]);
    let port = redis.port;
    let append = format!("redis-cli -h 127.0.0.1 -p {port} CONFIG SET appendonly yes");
    told.says(
        "persistence",
        "warn",
        &["snapshots only (save 3600 1", &append],
    );
    told.says("replicas", "warn", &["has no replica"]);
    told.says("memory", "ok", &["5000000 visitors"]);
    for about in [
        "clocks",
        "latency",
        "permissions",
        "idle",
        "connections",
        "buffers",
    ] {
        told.says(about, "ok", &[]);
    }
    told.says("scripts", "ok", &["all 24 partitions"]);
    told.says("deployment", "ok", &["nothing of ours is there"]);
    let left: Vec<String> = tokio::task::block_in_place(|| redis.run(&["KEYS", "*"]));
    assert!(left.is_empty(), "it left {left:?}");
    end(redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_cache_is_not_a_store() {
    let cache = [
        "--maxmemory",
        "100mb",
        "--maxmemory-policy",
        "allkeys-lru",
        "--appendonly",
        "no",
        "--timeout",
        "60",
    ];
    let redis = start(&cache);
    let told = ask(&on(&[redis.port])).await;
    assert_eq!(told.code, Some(1));
    let set = format!("-p {} CONFIG SET maxmemory-policy noeviction", redis.port);
    told.says(
        "eviction",
        "fail",
        &["allkeys-lru", "people will vanish", &set],
    );
    told.says("persistence", "fail", &["in memory only"]);
    told.says("memory", "fail", &["maxmemory is 104.9 MB"]);
    told.says("idle", "warn", &["idle for 60 s"]);
    let folder = tempfile::tempdir().unwrap();
    let few = ask_in(folder.path(), &on(&[redis.port]), &["--visitors", "1000"]).await;
    few.says("memory", "ok", &["1000 visitors"]);
    end(redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_too_few_permissions_is_told_which() {
    let redis = start(&[]);
    tokio::task::block_in_place(|| {
        let user = [
            "ACL", "SETUSER", "tg", "on", ">sesame", "~tg:*", "+@all", "-zadd", "-@admin",
        ];
        redis.run::<String>(&user);
    });
    let mut settings = on(&[redis.port]);
    settings.extend([
        "redis.user=tg".to_owned(),
        "redis.password=sesame".to_owned(),
    ]);
    let told = ask(&settings).await;
    assert_eq!(told.code, Some(1));
    told.says(
        "permissions",
        "fail",
        &["refuses ZADD", "ACL SETUSER tg ~tg:* +zadd"],
    );
    told.says("settings", "warn", &["cannot look", "CONFIG GET"]);
    settings.pop();
    settings.push("redis.password=open".to_owned());
    let told = ask(&settings).await;
    assert_eq!(told.code, Some(1));
    told.says("connection", "fail", &["redis.password"]);
    end(redis);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_a_failure() {
    let port = free_ports(1)[0].0;
    let told = ask(&on(&[port])).await;
    assert_eq!(told.code, Some(1));
    told.says("connection", "fail", &["check redis.urls"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_looked_at_whole() {
    let cluster = tokio::task::block_in_place(shared_cluster);
    let mut settings = on(&[cluster.servers[0].port, cluster.servers[5].port]);
    settings.push("fleet.size=3".to_owned());
    let told = ask(&settings).await;
    assert_eq!(told.code, Some(0), "{:#}", told.report);
    told.says("kind", "ok", &["a cluster of 3 masters and 3 replicas"]);
    told.says("reachable", "ok", &["6 servers"]);
    told.says("slots", "ok", &["all 16384"]);
    told.says("replicas", "ok", &[]);
    told.says("spread", "ok", &["of 24 partitions"]);
    told.says("eviction", "ok", &["6 servers"]);
    told.says("persistence", "ok", &["6 servers"]);
    let set = "CONFIG SET cluster-require-full-coverage no";
    told.says("coverage", "warn", &["one lost shard stops all", set]);
    told.says("listener", "warn", &["no balancer"]);
    told.says("clocks", "ok", &["6 servers"]);
    told.says("scripts", "ok", &["all 24 partitions"]);
    for server in &cluster.servers {
        let left: Vec<String> = tokio::task::block_in_place(|| server.run(&["KEYS", "tg:*"]));
        assert!(left.is_empty(), "it left {left:?}");
    }
}

/// A replica becomes the master one day: by then it is too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_evicts_is_told_by_the_doctor_and_by_a_node_that_starts() {
    let (master, replica) = (start(&[]), start(&["--maxmemory-policy", "volatile-ttl"]));
    let port = replica.port;
    tokio::task::block_in_place(|| {
        replica.run::<String>(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
        loop {
            let info = master.run::<String>(&["INFO", "replication"]);
            if info.contains("state=online") {
                break;
            }
        }
    });
    let told = ask(&on(&[master.port])).await;
    assert_eq!(told.code, Some(1));
    let evicts = format!("127.0.0.1:{port} may drop keys by itself (volatile-ttl)");
    told.says("eviction", "fail", &[&evicts]);
    let told = ask(&on(&[port])).await;
    told.says("urls", "fail", &["is a replica", &master.url()]);

    let node = server::Server::start(&on(&[master.port])).await;
    let warned = async {
        let mut look = interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let output = node.output();
            if output.contains("redis may evict keys") {
                return output;
            }
        }
    };
    let output = timeout(PATIENCE, warned).await;
    let output = output.unwrap_or_else(|_| panic!("no warning:\n{}", node.output()));
    assert!(output.contains(&format!("127.0.0.1:{port}")), "{output}");
    drop(node);
    end(replica);
    end(master);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_run_are_told_with_what_they_made() {
    let redis = start(&[]);
    let mut settings = on(&[redis.port]);
    settings.push("fleet.size=2".to_owned());
    let node = server::Server::start(&settings).await;
    let mut look = interval(LOOK_EVERY);
    let told = loop {
        // It says that it lives soon after it is ready.
        look.tick().await;
        let told = ask(&settings).await;
        if told.about("nodes").1 != "none runs\n\n" {
            break told;
        }
    };
    assert_eq!(told.code, Some(0), "{:#}", told.report);
    told.says("deployment", "ok", &["format 1, 24 partitions"]);
    let node_is = format!("node 0 at {}", node.address);
    told.says("nodes", "ok", &[&node_is, "this one's number"]);
    drop(node);
    end(redis);
}
