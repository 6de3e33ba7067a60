//! Whether servers keep what they are given: eviction, persistence, memory.

use super::finding::{Finding, Findings};
use super::words::{Wrong, bytes, each, looked_at, masters, say, set};
use crate::store::redis::{Address, Server, Survey, evicts};

/// What a visitor takes in the memory of Redis: 134 bytes of a sorted set, measured at a million
/// members, as long as the ticket waits or is remembered; and, in a stream that is kept for five
/// minutes, a join and three sightings of 32 bytes.
const VISITOR_BYTES: u64 = 134 + 4 * 32;

/// Judges how well things are kept, for so many visitors.
pub fn judge(seen: &Survey, visitors: u64) -> Vec<Finding> {
    let mut found = Findings::of("keeping");
    let fine = "no server evicts: noeviction";
    each(&mut found, looked_at(seen), "eviction", fine, eviction);
    let fine = "every write is in an append-only file";
    each(
        &mut found,
        looked_at(seen),
        "persistence",
        fine,
        persistence,
    );
    each(
        &mut found,
        masters(seen),
        "writes",
        "none is refused",
        writes,
    );
    memory(&mut found, seen, visitors);
    found.all()
}

fn eviction(address: &Address, server: &Server) -> Option<Wrong> {
    match server.info("maxmemory_policy") {
        Some(policy) if evicts(policy) => Wrong::fail(
            format!("may drop keys by itself ({policy}): people will vanish from the line"),
            set(address, "maxmemory-policy noeviction"),
        ),
        Some(_) => None,
        None => Wrong::warn(
            "does not tell its maxmemory-policy",
            "see to it that it is noeviction",
        ),
    }
}

fn persistence(address: &Address, server: &Server) -> Option<Wrong> {
    let append = format!(
        "{}; appendfsync everysec is enough",
        set(address, "appendonly yes")
    );
    if server.info("aof_enabled") == Some("1") {
        return match server.config("appendfsync") {
            Some("no") => Wrong::warn(
                "writes its append-only file when the system pleases (appendfsync no): a power loss \
                 may cost the last half minute",
                set(address, "appendfsync everysec"),
            ),
            _ => None,
        };
    }
    match server.config("save") {
        Some("") => Wrong::fail(
            "keeps everything in memory only: a restart forgets it all, passes and who entered too",
            append,
        ),
        Some(save) => Wrong::warn(
            format!(
                "takes snapshots only (save {save}): a restart forgets what came after the last"
            ),
            append,
        ),
        None => Wrong::warn(
            "has no append-only file, and cannot be looked at for snapshots",
            append,
        ),
    }
}

fn writes(address: &Address, server: &Server) -> Option<Wrong> {
    let failed = |name: &str| server.info(name).is_some_and(|status| status != "ok");
    if failed("aof_last_write_status") || failed("rdb_last_bgsave_status") {
        return Wrong::fail(
            "could not write to its disk, and may refuse writes until it can (MISCONF)",
            format!("see its log, and {}", say(address, "INFO persistence")),
        );
    }
    let least: u64 = server.config("min-replicas-to-write")?.parse().ok()?;
    let has = server.number("connected_slaves").unwrap_or(0);
    let setting = set(address, "min-replicas-to-write 0");
    match least {
        0 => None,
        least if has < least => Wrong::fail(
            format!("takes no writes: it has {has} replicas, and min-replicas-to-write is {least}"),
            format!("bring its replicas back, or {setting}"),
        ),
        least if has == least => Wrong::warn(
            format!("takes no writes as soon as one of its {has} replicas is away"),
            format!("{setting}: nodes write again what a failover loses"),
        ),
        _ => None,
    }
}

fn memory(found: &mut Findings, seen: &Survey, visitors: u64) {
    let slots = seen
        .contents
        .as_ref()
        .map_or(&[][..], |contents| &contents.slots);
    let need_of = |address: &Address| {
        let held = slots.iter().filter(|slot| {
            let holder = seen.layout.holder(**slot);
            holder.is_some_and(|holder| holder.address == *address)
        });
        let all = visitors.saturating_mul(VISITOR_BYTES);
        match slots.len() as u64 {
            0 => all,
            partitions => all / partitions * held.count() as u64,
        }
    };
    let total = bytes(visitors.saturating_mul(VISITOR_BYTES));
    let fine = format!("there is room for {visitors} visitors, who take about {total} in all");
    each(found, masters(seen), "memory", &fine, |address, server| {
        let need = need_of(address).saturating_add(server.number("used_memory")?);
        let max = server.number("maxmemory").filter(|max| *max > 0);
        let system = server.number("total_system_memory");
        let needs = format!("{visitors} visitors bring it to about {}", bytes(need));
        let advice = "give it more memory, add masters, or lower defaults.max_waiting";
        match (max, system) {
            (Some(max), _) if need > max => Wrong::fail(
                format!(
                    "is full before that: {needs}, and maxmemory is {}",
                    bytes(max)
                ),
                format!(
                    "{advice}; {}",
                    set(address, &format!("maxmemory {}", need + need / 2))
                ),
            ),
            (Some(max), _) if need > max / 5 * 4 => Wrong::warn(
                format!(
                    "is nearly full then: {needs}, and maxmemory is {}",
                    bytes(max)
                ),
                set(address, &format!("maxmemory {}", need + need / 2)),
            ),
            (_, Some(system)) if need > system => Wrong::fail(
                format!(
                    "has too little: {needs}, and its machine has {}",
                    bytes(system)
                ),
                advice,
            ),
            (_, Some(system)) if need > system / 2 => Wrong::warn(
                format!(
                    "may run short: {needs}, its machine has {}, and rewriting its file or a \
                     snapshot may need as much again",
                    bytes(system)
                ),
                advice,
            ),
            _ => None,
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::tests::{alone, cluster, found, with, with_config};
    use super::*;

    fn level(seen: &Survey, about: &str) -> Level {
        found(&judge(seen, 1_000_000), about).level
    }

    #[test]
    fn one_replica_that_evicts_is_enough() {
        assert_eq!(level(&cluster(), "eviction"), Level::Ok);
        let mut seen = cluster();
        with(&mut seen, 4, "maxmemory_policy:allkeys-lru");
        let all = judge(&seen, 1);
        let eviction = found(&all, "eviction");
        assert_eq!(eviction.level, Level::Fail);
        assert!(
            eviction
                .says
                .contains("10.0.0.1:5 may drop keys by itself (allkeys-lru)")
        );
        let advice = eviction.advice.as_deref().unwrap();
        assert!(
            advice.starts_with("redis-cli -h 10.0.0.1 -p 5 CONFIG SET maxmemory-policy noeviction")
        );
    }

    #[test]
    fn memory_only_is_worse_than_snapshots_and_both_worse_than_a_file() {
        let mut seen = alone();
        assert_eq!(level(&seen, "persistence"), Level::Ok);
        with_config(&mut seen, 0, "appendfsync", "no");
        assert_eq!(level(&seen, "persistence"), Level::Warn);
        with(&mut seen, 0, "aof_enabled:0");
        with_config(&mut seen, 0, "save", "3600 1");
        assert_eq!(level(&seen, "persistence"), Level::Warn);
        with_config(&mut seen, 0, "save", "");
        assert_eq!(level(&seen, "persistence"), Level::Fail);
        seen.servers[0].1.as_mut().unwrap().config = Err("NOPERM".to_owned());
        assert_eq!(level(&seen, "persistence"), Level::Warn);
    }

    #[test]
    fn memory_is_reckoned_by_each_masters_share() {
        let gigabyte = 1_000_000_000;
        let mut seen = alone();
        with(&mut seen, 0, "maxmemory:1000000000");
        let level_for = |seen: &Survey, visitors| found(&judge(seen, visitors), "memory").level;
        assert_eq!(level_for(&seen, gigabyte / 2 / VISITOR_BYTES), Level::Ok);
        assert_eq!(
            level_for(&seen, gigabyte / 10 * 9 / VISITOR_BYTES),
            Level::Warn
        );
        assert_eq!(level_for(&seen, gigabyte / VISITOR_BYTES * 2), Level::Fail);
        let mut seen = cluster();
        for server in 0..3 {
            with(&mut seen, server, "maxmemory:1000000000");
        }
        assert_eq!(level_for(&seen, gigabyte / VISITOR_BYTES * 2), Level::Ok);
        // Without a bound, half of the machine is left for forks.
        let seen = alone();
        assert_eq!(level_for(&seen, 9 * gigabyte / VISITOR_BYTES), Level::Warn);
        assert_eq!(level_for(&seen, 17 * gigabyte / VISITOR_BYTES), Level::Fail);
    }

    #[test]
    fn writes_that_are_refused_are_told() {
        let mut seen = cluster();
        with_config(&mut seen, 0, "min-replicas-to-write", "1");
        assert_eq!(level(&seen, "writes"), Level::Warn);
        with(&mut seen, 0, "connected_slaves:0");
        assert_eq!(level(&seen, "writes"), Level::Fail);
        let mut seen = alone();
        with(&mut seen, 0, "aof_last_write_status:err");
        assert_eq!(level(&seen, "writes"), Level::Fail);
    }
}
