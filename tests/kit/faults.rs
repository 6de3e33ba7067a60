//! What can happen to a cluster: masters die, hang, lose what they acknowledged, and slots move.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::redis::{Server, wait_until};

/// Keys that one step of moving a slot takes along.
const MOVED_AT_ONCE: &str = "10";
/// How long moving some keys may take, in milliseconds.
const MOVING_MAX: &str = "5000";

/// A server as another one sees it.
struct Seen {
    id: String,
    /// The id of its master; none for a master.
    master: Option<String>,
    failed: bool,
    slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// The masters, as number `asked` sees them: those that serve slots and are not taken for dead.
    pub fn masters(&self, asked: usize) -> Vec<usize> {
        let seen = self.view(asked).into_iter();
        let serving = seen.filter(|(_, s)| s.master.is_none() && !s.failed && !s.slots.is_empty());
        serving.map(|(n, _)| n).collect()
    }

    /// The first replica of a master, as number `asked` sees it.
    pub fn replica_of(&self, master: usize, asked: usize) -> usize {
        let view = self.view(asked);
        let id = &view[&master].id;
        let replica = view.iter().find(|(_, s)| s.master.as_ref() == Some(id));
        *replica.expect("every master has one").0
    }

    /// The master that serves a slot, as number `asked` sees it.
    pub fn holder(&self, slot: u16, asked: usize) -> usize {
        let view = self.view(asked);
        let held = |s: &Seen| s.slots.iter().any(|(a, b)| (*a..=*b).contains(&slot));
        *view.iter().find(|(_, s)| held(s)).expect("all are held").0
    }

    /// Waits until a replica has taken over from `master`, as number `asked` sees it.
    pub fn await_takeover(&self, master: usize, asked: usize) {
        wait_until("a replica takes over", || {
            let masters = self.masters(asked);
            let whole = self.servers[asked].run::<String>(&["CLUSTER", "INFO"]);
            if whole.contains("cluster_state:ok") && !masters.contains(&master) {
                Ok(())
            } else {
                Err(self.servers[asked].run::<String>(&["CLUSTER", "NODES"]))
            }
        });
    }

    /// Waits until all slots are served, nobody is taken for dead, and all replicas follow.
    pub fn await_whole(&self) {
        self.agree("the cluster is whole", |server| {
            let info = server.run::<String>(&["CLUSTER", "INFO"]);
            let nodes = server.run::<String>(&["CLUSTER", "NODES"]);
            let role = server.run::<String>(&["INFO", "replication"]);
            info.contains("cluster_state:ok")
                && !nodes.contains("fail")
                && (role.contains("master_link_status:up") || role.contains("state=online"))
        });
    }

    /// From now on this replica hears nothing of its master, and cannot ask for it either.
    pub fn hold_back(&self, replica: usize) {
        let server = &self.servers[replica];
        server.run::<String>(&["CONFIG", "SET", "masteruser", "nobody"]);
        server.run::<String>(&["CONFIG", "SET", "masterauth", "nothing"]);
        server.run::<i64>(&["CLIENT", "KILL", "TYPE", "master"]);
    }

    /// It may hear of a master again.
    pub fn release(&self, replica: usize) {
        let server = &self.servers[replica];
        server.run::<String>(&["CONFIG", "SET", "masterauth", ""]);
        server.run::<String>(&["CONFIG", "SET", "masteruser", ""]);
    }

    /// Moves a slot to another master, key by key, as an operator does.
    pub fn migrate(&self, slot: u16, to: usize) {
        let from = self.holder(slot, to);
        let ids = [from, to].map(|n| self.servers[n].run::<String>(&["CLUSTER", "MYID"]));
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let slot = slot.to_string();
        let set = |server: &Server, how: &[&str]| {
            let command = [&["CLUSTER", "SETSLOT", &slot][..], how].concat();
            server.run::<String>(&command);
        };
        set(target, &["IMPORTING", &ids[0]]);
        set(source, &["MIGRATING", &ids[1]]);
        let port = target.port.to_string();
        loop {
            let some = ["CLUSTER", "GETKEYSINSLOT", &slot, MOVED_AT_ONCE];
            let keys = source.run::<Vec<String>>(&some);
            if keys.is_empty() {
                break;
            }
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MOVING_MAX, "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            source.run::<String>(&migrate);
        }
        set(target, &["NODE", &ids[1]]);
        set(source, &["NODE", &ids[1]]);
        for other in self.masters(to) {
            set(&self.servers[other], &["NODE", &ids[1]]);
        }
    }

    fn view(&self, asked: usize) -> BTreeMap<usize, Seen> {
        let nodes = self.servers[asked].run::<String>(&["CLUSTER", "NODES"]);
        nodes.lines().filter_map(|line| self.read(line)).collect()
    }

    /// One line of `CLUSTER NODES`: id, address, flags, master, four numbers and words, slots.
    fn read(&self, line: &str) -> Option<(usize, Seen)> {
        let mut words = line.split(' ');
        let (id, address, flags, master) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let port: u16 = address.split(['@', ':']).nth(1)?.parse().ok()?;
        let number = self.servers.iter().position(|s| s.port == port)?;
        // A slot that is moving is named in brackets, and held by neither range.
        let range = |word: &str| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let seen = Seen {
            id: id.to_owned(),
            master: (master != "-").then(|| master.to_owned()),
            failed: flags.split(',').any(|flag| flag == "fail"),
            slots: words.skip(4).filter_map(range).collect(),
        };
        Some((number, seen))
    }
}
