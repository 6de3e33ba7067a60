//! What a run stands on: the cores, a real Redis Cluster on the measured ones, and servers over it.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tempfile::TempDir;

use super::crowd::Crowd;
use super::kit::cluster::{Cluster, Server as Redis};
use super::machine::Cores;
use super::plan::Plan;
use super::rival;
use super::server::Server;
use super::turns::settle;

/// A key that signs tokens here; not a secret of anybody.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Visitors written to a rival's Redis at a time.
const FILLED_AT_ONCE: usize = 5_000;

pub struct Stage {
    pub cores: Cores,
    pub plan: Plan,
    pub cluster: Cluster,
    /// A server by itself, for the design that asks for all keys.
    pub alone: Redis,
    /// Embedded stores.
    folders: TempDir,
    stores: AtomicU32,
    began: Instant,
}

impl Stage {
    pub fn open(cores: Cores, plan: Plan) -> Self {
        let began = Instant::now();
        eprintln!("starting a Redis Cluster of six servers");
        let cluster = Cluster::start();
        let alone = Redis::start(&[]);
        for redis in cluster.servers.iter().chain([&alone]) {
            cores.move_to_measured(redis.pid());
        }
        Self {
            cores,
            plan,
            cluster,
            alone,
            folders: tempfile::tempdir().expect("a temporary folder"),
            stores: AtomicU32::new(0),
            began,
        }
    }

    /// Tells what is being done.
    pub fn say(&self, what: &str) {
        eprintln!("[{:>4.0} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// The processes of the cluster, replicas too: somebody pays for them.
    pub fn redis_pids(&self) -> Vec<u32> {
        self.cluster.servers.iter().map(Redis::pid).collect()
    }

    /// The settings of node `node` of `size` over the cluster.
    pub fn on_cluster(&self, node: usize, size: usize) -> Vec<String> {
        let urls = self
            .cluster
            .servers
            .iter()
            .map(|s| format!("{:?}", s.url()));
        let urls: Vec<_> = urls.collect();
        vec![
            "store.kind=redis".to_owned(),
            format!("redis.urls=[{}]", urls.join(", ")),
            format!("fleet.node={node}"),
            format!("fleet.size={size}"),
            format!("keys.ticket.k1={KEY}"),
            format!("keys.pass.k1={KEY}"),
        ]
    }

    /// The settings of a node with an embedded store of its own.
    pub fn embedded(&self) -> Vec<String> {
        let n = self.stores.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(self.folders.path()).join(n.to_string());
        vec![
            format!("store.path={}", folder.display()),
            "store.fsync=never".to_owned(),
        ]
    }

    /// The product with these settings; at one turn a second its line hardly moves.
    pub fn tidegate(&self, mut settings: Vec<String>) -> Server {
        settings.extend(["defaults.rate=1".to_owned(), "defaults.burst=1".to_owned()]);
        Server::tidegate(&self.cores, &settings)
    }

    /// Joins visitors, telling how it goes.
    pub fn join(&self, server: &Server, count: usize) -> Crowd {
        self.say(&format!("{count} visitors join"));
        let crowd = Crowd::join(server.address, count, |had| {
            if count > 2_000_000 && had % 2_000_000 == 0 {
                self.say(&format!("  {had} have joined"));
            }
        });
        // Until the store has them all: it may wait for the disk now and then.
        settle(&[server.pid()], 20);
        crowd
    }

    /// Forgets all that the cluster holds.
    pub fn empty_cluster(&self) {
        for master in &self.cluster.servers[..3] {
            master.run::<String>(&["FLUSHALL", "ASYNC"]);
        }
    }

    /// The cluster's master of the rivals' event.
    pub fn rivals_master(&self) -> &Redis {
        let slot: u32 = self.cluster.servers[0].run(&["CLUSTER", "KEYSLOT", "{sale}"]);
        &self.cluster.servers[(slot * 3 / 16_384) as usize]
    }

    /// Writes the line as the rivals keep it.
    pub fn fill_rivals(&self, redis: &Redis, crowd: &Crowd) {
        self.say(&format!(
            "{} visitors are written for the rivals",
            crowd.len()
        ));
        let client = redis::Client::open(redis.url()).expect("an address");
        let mut connection = client.get_connection().expect("redis listens");
        for begin in (0..crowd.len()).step_by(FILLED_AT_ONCE) {
            let mut pipe = redis::pipe();
            for at in begin..crowd.len().min(begin + FILLED_AT_ONCE) {
                let token = std::str::from_utf8(crowd.token(at)).expect("base64");
                rival::joined(&mut pipe, at, token);
            }
            pipe.exec(&mut connection).expect("redis has room");
        }
    }
}

/// Commands that a Redis server has run, those of its own household left out.
pub fn commands(servers: &[Redis]) -> u64 {
    const HOUSEHOLD: [&str; 9] = [
        "info", "client", "hello", "replconf", "psync", "ping", "cluster", "auth", "command",
    ];
    let mut sum = 0;
    for server in servers {
        // Patiently: a server that is busy with `KEYS` lets others wait for seconds.
        let client = redis::Client::open(server.url()).expect("an address");
        let mut connection = client.get_connection().expect("redis listens");
        let mut ask = redis::cmd("INFO");
        let info: String = ask
            .arg("commandstats")
            .query(&mut connection)
            .expect("it answers");
        for line in info.lines() {
            let stat = line.strip_prefix("cmdstat_");
            let Some((name, rest)) = stat.and_then(|stat| stat.split_once(":calls=")) else {
                continue;
            };
            if !HOUSEHOLD.iter().any(|own| name.starts_with(own)) {
                let calls = rest.split(',').next().and_then(|calls| calls.parse().ok());
                sum += calls.unwrap_or(0);
            }
        }
    }
    sum
}
