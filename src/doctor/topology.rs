//! Which servers there are, and whether they add up to a store.

use super::finding::{Finding, Findings, Level};
use super::words::{Wrong, each, is_master, looked_at, masters, say, servers, set, tells};
use crate::config::{Config, RedisMode};
use crate::store::redis::{Server, Survey, VERSION_MIN, is_known};

/// How many slots there are.
const SLOTS: u32 = 16_384;
/// A master may have this share of the partitions more or less than the others.
const UNEVEN: f64 = 0.2;

/// No server answers.
pub fn unreachable(error: &str) -> Finding {
    Finding {
        group: "servers",
        level: Level::Fail,
        about: "connection",
        says: format!("no server of redis.urls can be asked: {error}"),
        advice: Some(
            "check redis.urls, redis.user, redis.password and redis.ca, and that redis runs"
                .to_owned(),
        ),
    }
}

/// Judges the servers and how they hang together.
pub fn judge(seen: &Survey, config: &Config) -> Vec<Finding> {
    let mut found = Findings::of("servers");
    kind(&mut found, seen, config);
    reachable(&mut found, seen);
    each(
        &mut found,
        looked_at(seen),
        "version",
        &versions(seen),
        |_, server| {
            let version = server.info("redis_version").unwrap_or("unknown");
            let (major, minor) = VERSION_MIN;
            match is_known(version) {
                true => None,
                false => Wrong::fail(
                    format!("has version {version}, which lacks commands that are needed"),
                    format!("upgrade it to {major}.{minor} or later"),
                ),
            }
        },
    );
    replicas(&mut found, seen);
    if seen.layout.clustered {
        slots(&mut found, seen);
        spread(&mut found, seen);
        coverage(&mut found, seen);
    }
    found.all()
}

fn versions(seen: &Survey) -> String {
    let version = |server: &Server| server.info("redis_version").unwrap_or("unknown").to_owned();
    let mut versions: Vec<String> = looked_at(seen).map(|(_, s)| version(s)).collect();
    versions.sort();
    versions.dedup();
    format!("redis {}", versions.join(", "))
}

fn kind(found: &mut Findings, seen: &Survey, config: &Config) {
    let masters = seen.layout.masters.len();
    let replicas: usize = seen.layout.masters.iter().map(|m| m.replicas.len()).sum();
    let kind = match seen.layout.clustered {
        true => format!("a cluster of {masters} masters and {replicas} replicas"),
        false => format!("one master by itself, {replicas} replicas"),
    };
    match (config.redis.mode, seen.layout.clustered) {
        (RedisMode::Single, true) | (RedisMode::Cluster, false) => found.fail(
            "kind",
            format!("{kind}, and redis.mode says otherwise: a node does not start"),
            "set redis.mode = \"auto\"",
        ),
        _ => found.ok("kind", kind),
    }
    let urls = config.redis.urls.len();
    if seen.layout.clustered && urls == 1 {
        found.warn(
            "urls",
            "redis.urls names one server of the cluster: while that is away no node can start",
            "name two or three of them",
        );
    }
    let asked = &seen.asked;
    if !seen.layout.clustered {
        if !is_master(seen, asked) {
            found.fail(
                "urls",
                format!("{asked} is a replica: it takes no writes"),
                format!(
                    "name its master, redis://{}",
                    seen.layout.masters[0].address
                ),
            );
        } else if urls > 1 {
            found.warn(
                "urls",
                format!(
                    "redis.urls names {urls} servers that are no cluster: each node uses the first \
                     that answers, and two nodes may use two that know nothing of each other"
                ),
                "name one server, or make them a cluster",
            );
        }
    }
}

fn reachable(found: &mut Findings, seen: &Survey) {
    for (address, server) in &seen.servers {
        let Err(error) = server else {
            continue;
        };
        let (level, role) = match is_master(seen, address) {
            true => (Level::Fail, "master"),
            false => (Level::Warn, "replica"),
        };
        found.add(
            "reachable",
            level,
            format!("cannot look at the {role} {address}: {error}"),
            Some(format!(
                "let every node reach every server; try {}",
                say(address, "PING")
            )),
        );
    }
    if found.lacks("reachable") {
        found.ok(
            "reachable",
            format!("all answer ({})", servers(seen.servers.len())),
        );
    }
}

fn replicas(found: &mut Findings, seen: &Survey) {
    for master in seen.layout.masters.iter().filter(|m| m.replicas.is_empty()) {
        found.warn(
            "replicas",
            format!(
                "{} has no replica: if it is lost, so is what only it holds, and nothing takes over",
                master.address
            ),
            match seen.layout.clustered {
                true => format!(
                    "redis-cli --cluster add-node HOST:PORT {} --cluster-slave",
                    seen.asked
                ),
                false => "add a replica (REPLICAOF), or use a cluster with replicas".to_owned(),
            },
        );
    }
    for (address, server) in looked_at(seen).filter(|(address, _)| !is_master(seen, address)) {
        if server.info("master_link_status") == Some("down") {
            found.warn(
                "replicas",
                format!("{address} has lost its master: it falls behind"),
                format!("see what {} says", say(address, "INFO replication")),
            );
        }
    }
    if found.lacks("replicas") {
        found.ok("replicas", "every master has one that follows it");
    }
}

fn slots(found: &mut Findings, seen: &Survey) {
    let ranges = seen.layout.masters.iter().flat_map(|master| &master.slots);
    let served: u32 = ranges
        .map(|(first, last)| u32::from(last - first) + 1)
        .sum();
    let state = seen
        .cluster_info
        .lines()
        .find_map(|line| line.strip_prefix("cluster_state:"));
    let state = state.map_or("not told", str::trim);
    let asked = &seen.asked;
    if served < SLOTS || !matches!(state, "ok" | "not told") {
        found.fail(
            "slots",
            format!("{served} of {SLOTS} are served, and the cluster's state is {state}"),
            format!("redis-cli --cluster check {asked}, then redis-cli --cluster fix {asked}"),
        );
    } else {
        found.ok(
            "slots",
            format!("all {SLOTS} are served, the cluster's state is {state}"),
        );
    }
}

/// Whether the masters share the load: that of an event lies on all partitions alike.
fn spread(found: &mut Findings, seen: &Survey) {
    let Ok(contents) = &seen.contents else {
        return;
    };
    let slots = &contents.slots;
    let masters = seen.layout.masters.iter().map(|master| {
        let held = slots.iter().filter(|slot| {
            let holder = seen.layout.holder(**slot);
            holder.is_some_and(|holder| holder.address == master.address)
        });
        (&master.address, held.count())
    });
    let masters: Vec<_> = masters.collect();
    let fair = slots.len() as f64 / masters.len().max(1) as f64;
    let even = |held: usize| {
        let held = held as f64;
        // Whole partitions cannot be shared out better than this.
        (fair.floor()..=fair.ceil()).contains(&held) || (held / fair - 1.0).abs() <= UNEVEN
    };
    let shares: Vec<_> = masters
        .iter()
        .map(|(at, held)| format!("{at} {held}"))
        .collect();
    let says = format!("of {} partitions: {}", slots.len(), shares.join(", "));
    if masters.iter().all(|(_, held)| even(*held)) {
        found.ok("spread", says);
    } else {
        found.warn(
            "spread",
            format!("{says}; {fair:.1} each would be fair, some masters will be busier"),
            format!("redis-cli --cluster rebalance {}", seen.asked),
        );
    }
}

fn coverage(found: &mut Findings, seen: &Survey) {
    const NAME: &str = "cluster-require-full-coverage";
    each(
        found,
        masters(seen).filter(tells),
        "coverage",
        "while some slots are not served the others go on",
        |address, server| match server.config(NAME) {
            Some("yes") => Wrong::warn(
                "refuses everything while any slot is not served: one lost shard stops all",
                set(address, &format!("{NAME} no")),
            ),
            _ => None,
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::tests::{address, alone, cluster, config, found, server};
    use super::*;

    #[test]
    fn a_whole_cluster_is_fine() {
        let found = judge(
            &cluster(),
            &config(&["redis.urls=[\"redis://a\", \"redis://b\"]"]),
        );
        assert!(found.iter().all(|f| f.level == Level::Ok), "{found:#?}");
    }

    #[test]
    fn a_hole_a_lean_and_a_missing_replica_are_seen() {
        let mut seen = cluster();
        seen.layout.masters[2].slots = vec![(16_000, 16_382)];
        seen.layout.masters[0].slots = vec![(0, 5_460), (10_922, 15_999)];
        seen.layout.masters[1].replicas.clear();
        let all = judge(&seen, &config(&[]));
        assert_eq!(found(&all, "slots").level, Level::Fail);
        assert!(found(&all, "slots").says.starts_with("16383 of 16384"));
        assert_eq!(found(&all, "spread").level, Level::Warn);
        assert_eq!(found(&all, "replicas").level, Level::Warn);
        assert_eq!(found(&all, "urls").level, Level::Warn);
    }

    #[test]
    fn what_redis_mode_says_must_be_so() {
        let all = judge(&cluster(), &config(&["redis.mode=single"]));
        assert_eq!(found(&all, "kind").level, Level::Fail);
        let all = judge(&alone(), &config(&["redis.mode=cluster"]));
        assert_eq!(found(&all, "kind").level, Level::Fail);
    }

    #[test]
    fn a_replica_an_old_one_and_one_that_is_away_are_named() {
        let mut seen = alone();
        seen.layout.masters[0].replicas = vec![address(1)];
        seen.layout.masters[0].address = address(9);
        seen.servers[0].1 = Ok(server("redis_version:5.0.3\r\nrole:slave\r\n"));
        seen.servers.push((address(9), Err("refused".to_owned())));
        let all = judge(&seen, &config(&[]));
        assert!(found(&all, "urls").says.contains("is a replica"));
        assert_eq!(found(&all, "version").level, Level::Fail);
        assert_eq!(found(&all, "reachable").level, Level::Fail);
    }
}
