//! Surveys of servers that are well, for the tests of each judge to spoil.

use std::collections::BTreeMap;

use super::finding::Finding;
use crate::config::{Config, Sources};
use crate::store::redis::{Address, Contents, Layout, Master, Server, Survey};

pub fn address(port: u16) -> Address {
    Address {
        host: "10.0.0.1".to_owned(),
        port,
    }
}

/// A server that says this of itself.
pub fn server(info: &str) -> Server {
    let settings = [
        ("appendfsync", "everysec"),
        ("save", ""),
        ("timeout", "0"),
        ("cluster-require-full-coverage", "no"),
        ("min-replicas-to-write", "0"),
        (
            "client-output-buffer-limit",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 0 0 0",
        ),
        ("maxclients", "10000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Server {
        info: info.to_owned(),
        config: Ok(BTreeMap::from(settings)),
        ahead: 100,
        round_trip: 300,
        refused: Vec::new(),
    }
}

const WELL: &str = "redis_version:7.0.15\r\nrole:master\r\nconnected_slaves:1\r\naof_enabled:1\r\n\
                    aof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\nused_memory:1000\r\n\
                    total_system_memory:16000000000\r\nmaxmemory:0\r\n\
                    maxmemory_policy:noeviction\r\n";

fn survey(clustered: bool, masters: Vec<Master>) -> Survey {
    let layout = Layout { clustered, masters };
    let servers = layout.masters.iter().map(|master| &master.address);
    let servers = servers.chain(layout.masters.iter().flat_map(|master| &master.replicas));
    let servers = servers
        .map(|address| (address.clone(), Ok(server(WELL))))
        .collect();
    let slots = (0..16).map(|n| n * 1_024 + 512).collect();
    Survey {
        asked: layout.masters[0].address.clone(),
        layout,
        cluster_info: "cluster_state:ok\r\ncluster_slots_ok:16384\r\n".to_owned(),
        servers,
        contents: Ok(Contents {
            slots,
            ..Contents::default()
        }),
    }
}

/// One server with a replica nobody looked at.
pub fn alone() -> Survey {
    let master = Master {
        address: address(1),
        slots: Vec::new(),
        replicas: Vec::new(),
    };
    survey(false, vec![master])
}

/// Three masters, at ports from 1, with a replica each, at ports from 4.
pub fn cluster() -> Survey {
    let slots = [(0, 5_460), (5_461, 10_921), (10_922, 16_383)];
    let masters = (1..4).zip(slots).map(|(port, slots)| Master {
        address: address(port),
        slots: vec![slots],
        replicas: vec![address(port + 3)],
    });
    survey(true, masters.collect())
}

/// Has a server say a line of `INFO`.
pub fn with(seen: &mut Survey, server: usize, line: &str) {
    let server = seen.servers[server].1.as_mut().unwrap();
    server.info = format!("{line}\r\n{}", server.info);
}

/// Gives a server a setting.
pub fn with_config(seen: &mut Survey, server: usize, name: &str, value: &str) {
    let server = seen.servers[server].1.as_mut().unwrap();
    let config = server.config.as_mut().unwrap();
    config.insert(name.to_owned(), value.to_owned());
}

/// A configuration of a fleet of three.
pub fn config(sets: &[&str]) -> Config {
    let key = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let mut all = vec![
        "store.kind=redis".to_owned(),
        "fleet.size=3".to_owned(),
        format!("keys.ticket.k1={key}"),
        format!("keys.pass.k1={key}"),
    ];
    all.extend(sets.iter().map(|set| (*set).to_owned()));
    Sources::new(None, [], all).load().unwrap()
}

/// The first finding about something.
pub fn found<'a>(found: &'a [Finding], about: &str) -> &'a Finding {
    let mut all = found.iter();
    all.find(|finding| finding.about == about).unwrap()
}
