//! What the servers say of themselves, and what a user may do there: facts for whoever judges them.
//! Nothing is written but to keys of its own, which are gone with the same round trip.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};

use super::classify::classified;
use super::keys::{self, Keys};
use super::layout::{Layout, field, layout};
use super::link::{Link, connect, connect_any};
use super::reply::Reply;
use super::scripts::Call;
use super::settings::{Address, Settings};
use super::{PARTITIONS, Redis};
use crate::model::{Beat, Micros};
use crate::store::{Meta, StoreClock, StoreError};

/// The clock of a server is read this often; the reading that took least counts.
const READINGS: usize = 5;

/// The settings of a server that matter here.
const CONFIG: [&str; 7] = [
    "appendfsync",
    "save",
    "timeout",
    "cluster-require-full-coverage",
    "min-replicas-to-write",
    "client-output-buffer-limit",
    "maxclients",
];

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The server that was asked first.
    pub asked: Address,
    /// Which servers there are.
    pub layout: Layout,
    /// What `CLUSTER INFO` says; empty when it is no cluster, or does not tell.
    pub cluster_info: String,
    /// Each server, a master before its replicas; or why it cannot be looked at.
    pub servers: Vec<(Address, Result<Server, String>)>,
    /// What is kept there; or why that cannot be looked at.
    pub contents: Result<Contents, String>,
}

/// One server.
#[derive(Debug, Clone)]
pub struct Server {
    /// What `INFO` says.
    pub info: String,
    /// Some of its settings; or why it does not tell.
    pub config: Result<BTreeMap<String, String>, String>,
    /// Its clock minus ours, in microseconds.
    pub ahead: i64,
    /// How long the quickest answer took, in microseconds.
    pub round_trip: u64,
    /// Commands that are needed and refused, and how; looked for on masters.
    pub refused: Vec<(String, String)>,
}

/// What is kept.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The fixed facts; none when nothing of ours is there.
    pub meta: Option<Meta>,
    /// The slot of each partition.
    pub slots: Vec<u16>,
    /// Partitions on which a script does not run, and why.
    pub mute: Vec<(u16, String)>,
    /// What nodes said of themselves last.
    pub nodes: Vec<Beat>,
    /// When that was read, on our clock.
    pub now: Micros,
}

impl Server {
    /// A line of what `INFO` says.
    pub fn info(&self, name: &str) -> Option<&str> {
        field(&self.info, name)
    }

    /// A number of what `INFO` says.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.info(name)?.parse().ok()
    }

    /// A setting, if the server tells its settings.
    pub fn config(&self, name: &str) -> Option<&str> {
        self.config.as_ref().ok()?.get(name).map(String::as_str)
    }
}

/// Looks at all servers, one after the other.
///
/// # Errors
/// None of the configured servers answers.
pub async fn survey(settings: &Settings, clock: &StoreClock) -> Result<Survey, StoreError> {
    const DURING: &str = "reach redis";
    let failed = |error| classified(DURING, error);
    super::open::tls(settings);
    let (mut first, asked) = connect_any(settings).await.map_err(failed)?;
    let info = redis::cmd("INFO").query_async(&mut first).await;
    let info: String = info.map_err(failed)?;
    let layout = layout(&mut first, &asked, &info, settings.tls).await?;
    let mut cluster_info = String::new();
    if layout.clustered {
        let mut cluster = redis::cmd("CLUSTER");
        cluster.arg("INFO");
        // Not every service tells; the slots are known all the same.
        cluster_info = cluster.query_async(&mut first).await.unwrap_or_default();
    }
    let contents = match Redis::open(settings.clone()).await {
        Ok(store) => store.contents(clock).await,
        Err(error) => Err(error),
    };
    let mut survey = Survey {
        asked,
        layout,
        cluster_info,
        servers: Vec::new(),
        contents: contents.map_err(|error| error.to_string()),
    };
    let mut servers: Vec<Address> = survey.layout.servers().cloned().collect();
    // One that is configured and not known to the others is of interest as well.
    let strangers = settings
        .addresses
        .iter()
        .filter(|a| !survey.layout.clustered && !servers.contains(a));
    let strangers: Vec<_> = strangers.cloned().collect();
    servers.extend(strangers);
    let keyring = Keys::new(&settings.prefix, survey.partitions());
    for address in servers {
        let probed = survey.partition_of(&address).and_then(|p| keyring.base(p));
        let server = look(settings, &address, probed, clock).await;
        survey
            .servers
            .push((address, server.map_err(|error| error.to_string())));
    }
    Ok(survey)
}

impl Survey {
    fn partitions(&self) -> u16 {
        let meta = self.contents.as_ref().ok().and_then(|c| c.meta.as_ref());
        meta.map_or(PARTITIONS, |meta| meta.partitions)
    }

    /// A partition that a master holds.
    fn partition_of(&self, address: &Address) -> Option<u16> {
        let slots = &self.contents.as_ref().ok()?.slots;
        let held = |slot: &u16| {
            let holder = self.layout.holder(*slot);
            holder.is_some_and(|master| master.address == *address)
        };
        slots
            .iter()
            .position(held)
            .map(|partition| partition as u16)
    }
}

async fn look(
    settings: &Settings,
    address: &Address,
    probed: Option<&str>,
    clock: &StoreClock,
) -> RedisResult<Server> {
    let mut server = connect(settings, address, settings.response_timeout).await?;
    let info = redis::cmd("INFO").query_async(&mut server).await?;
    let (ahead, round_trip) = read_clock(&mut server, clock).await?;
    let config = read_config(&mut server).await;
    let refused = match probed {
        Some(base) => probe(&mut server, base).await?,
        None => Vec::new(),
    };
    Ok(Server {
        info,
        config: config.map_err(|error| error.to_string()),
        ahead,
        round_trip,
        refused,
    })
}

/// How far the server's clock is ahead of ours, with the way there and back halved, and how long
/// both took.
async fn read_clock(
    server: &mut MultiplexedConnection,
    clock: &StoreClock,
) -> RedisResult<(i64, u64)> {
    let mut best: Option<(i64, u64)> = None;
    for _ in 0..READINGS {
        let before = clock().0;
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(server).await?;
        let took = clock().0.saturating_sub(before);
        let theirs = seconds.saturating_mul(1_000_000).saturating_add(micros);
        let ahead = theirs.wrapping_sub(before + took / 2) as i64;
        if best.is_none_or(|(_, least)| took < least) {
            best = Some((ahead, took));
        }
    }
    Ok(best.unwrap_or_default())
}

/// One at a time: servers before 7.0 know no other way.
async fn read_config(server: &mut MultiplexedConnection) -> RedisResult<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for name in CONFIG {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg(name);
        let pairs: Vec<(String, String)> = get.query_async(server).await?;
        all.extend(pairs);
    }
    Ok(all)
}

/// Tries every command that a node uses, on keys that are gone again afterwards, in one round trip.
/// Answers those that are refused.
async fn probe(
    server: &mut MultiplexedConnection,
    base: &str,
) -> RedisResult<Vec<(String, String)>> {
    let own = format!("{base}doctor-{:016x}", rand::random::<u64>());
    let (hash, zset, set, stream) = (
        format!("{own}-hash"),
        format!("{own}-zset"),
        format!("{own}-set"),
        format!("{own}-stream"),
    );
    let commands: [(&str, &[&str]); 28] = [
        ("EVAL", &["return redis.call('TIME')[1]", "1", &hash]),
        ("EXISTS", &[&hash]),
        ("HSETNX", &[&hash, "a", "1"]),
        ("HSET", &[&hash, "a", "1"]),
        ("HGET", &[&hash, "a"]),
        ("HMGET", &[&hash, "a"]),
        ("HGETALL", &[&hash]),
        ("HVALS", &[&hash]),
        ("HDEL", &[&hash, "a"]),
        ("ZADD", &[&zset, "LT", "0", "a"]),
        ("ZSCORE", &[&zset, "a"]),
        ("ZMSCORE", &[&zset, "a"]),
        ("ZCARD", &[&zset]),
        ("ZRANGE", &[&zset, "0", "-1"]),
        ("ZREM", &[&zset, "a"]),
        ("SADD", &[&set, "a"]),
        ("SMEMBERS", &[&set]),
        ("SREM", &[&set, "a"]),
        // Nothing is added where there is no stream yet.
        ("XADD", &[&stream, "NOMKSTREAM", "*", "a", "1"]),
        ("XRANGE", &[&stream, "-", "+"]),
        ("XREAD", &["COUNT", "1", "STREAMS", &stream, "0"]),
        ("XTRIM", &[&stream, "MAXLEN", "0"]),
        ("UNLINK", &[&hash, &zset, &set, &stream]),
        ("INFO", &["server"]),
        ("TIME", &[]),
        ("PING", &[]),
        (
            "SCRIPT",
            &["EXISTS", "0000000000000000000000000000000000000000"],
        ),
        (
            "EVALSHA",
            &["0000000000000000000000000000000000000000", "1", &hash],
        ),
    ];
    let mut pipe = Pipeline::new();
    for (name, args) in commands {
        pipe.cmd(name).arg(args);
    }
    let answers: Vec<RedisResult<Value>> = pipe.ignore_errors().query_async(server).await?;
    let refused = commands
        .iter()
        .zip(answers)
        .filter_map(|((name, _), answer)| {
            let error = answer.err()?;
            // A script that was not loaded may be called all the same.
            (error.code() != Some("NOSCRIPT")).then(|| ((*name).to_owned(), error.to_string()))
        });
    Ok(refused.collect())
}

impl Redis {
    async fn contents(&self, clock: &StoreClock) -> Result<Contents, StoreError> {
        let meta = self.look_at_meta().await?;
        let partitions = meta.as_ref().map_or(PARTITIONS, |meta| meta.partitions);
        let keyring = Keys::new(&self.settings.prefix, partitions);
        let mut contents = Contents {
            meta,
            slots: keyring.slots(),
            mute: Vec::new(),
            nodes: self.beats().await?,
            now: clock(),
        };
        let link = self.link().await?;
        for partition in 0..partitions {
            let base = self.base(&keyring, partition, "look at a partition")?;
            if let Err(error) = self.look_at_partition(link, base).await {
                contents.mute.push((partition, error.to_string()));
            }
        }
        Ok(contents)
    }

    /// The fixed facts as they are there, if they are.
    async fn look_at_meta(&self) -> Result<Option<Meta>, StoreError> {
        const DURING: &str = "look at the fixed facts";
        let reply = Reply(DURING);
        let mut get = redis::cmd("HMGET");
        get.arg(self.keys.load().meta());
        get.arg(&["format", "partitions", "deployment"]);
        let facts = reply.list(self.link().await?.query(DURING, &get).await?)?;
        let facts = <[Value; 3]>::try_from(facts).map_err(|_| reply.unexpected())?;
        let [format, partitions, deployment] = facts;
        if format == Value::Nil {
            return Ok(None);
        }
        Ok(Some(Meta {
            format: reply.number(format)?,
            partitions: reply.number(partitions)?,
            deployment: reply.text(deployment)?,
        }))
    }

    /// Runs a script that only reads a clock.
    async fn look_at_partition(&self, link: &Link, base: &str) -> Result<(), StoreError> {
        let mut call = Call::new(&self.scripts.clock, vec![keys::state(base)]);
        call.arg(self.injected_clock());
        call.run(link, "look at a partition").await.map(drop)
    }
}
