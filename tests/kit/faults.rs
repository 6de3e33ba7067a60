//! What can happen to a cluster: masters die, hang, lose what they acknowledged, and slots move.

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::redis::wait_until;

/// Keys that one step of moving a slot takes along.
const MOVED_AT_ONCE: usize = 10;
/// How long moving some keys may take, in milliseconds.
const MOVING_MAX: &str = "5000";

/// A slot on its way from one master to another.
pub struct Move {
    slot: u16,
    from: usize,
    to: usize,
}

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

    /// One of the masters of a cluster that is whole, and its replica.
    pub fn pair(&self, which: usize) -> (usize, usize) {
        let masters = self.masters(0);
        let master = masters[which % masters.len()];
        (master, self.replica_of(master, 0))
    }

    /// A server that is none of these.
    pub fn witness(&self, victims: &[usize]) -> usize {
        let others = (0..self.servers.len()).find(|n| !victims.contains(n));
        others.expect("there are more servers than that")
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

    /// Begins to move a slot to another master: who asks for a key that is not there any more is sent on,
    /// and who asks for several of which some are has to try again.
    pub fn begin_move(&self, slot: u16, to: usize) -> Move {
        let from = self.holder(slot, to);
        let ids = [from, to].map(|n| self.servers[n].run::<String>(&["CLUSTER", "MYID"]));
        let moving = Move { slot, from, to };
        self.set_slot(to, &moving, "IMPORTING", &ids[0]);
        self.set_slot(from, &moving, "MIGRATING", &ids[1]);
        moving
    }

    /// Moves at most so many of its keys. Answers whether there may be more.
    pub fn move_keys(&self, moving: &Move, most: usize) -> bool {
        let source = &self.servers[moving.from];
        let (slot, most) = (moving.slot.to_string(), most.to_string());
        let keys = source.run::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot, &most]);
        if keys.is_empty() {
            return false;
        }
        let port = self.servers[moving.to].port.to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", MOVING_MAX, "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        source.run::<String>(&migrate);
        true
    }

    /// Moves what is left and gives the slot to its new master.
    pub fn end_move(&self, moving: &Move) {
        while self.move_keys(moving, MOVED_AT_ONCE) {}
        let id = self.servers[moving.to].run::<String>(&["CLUSTER", "MYID"]);
        let others = self.masters(moving.to).into_iter();
        let others = others.filter(|n| ![moving.from, moving.to].contains(n));
        for server in [moving.to, moving.from].into_iter().chain(others) {
            self.set_slot(server, moving, "NODE", &id);
        }
    }

    fn set_slot(&self, server: usize, moving: &Move, what: &str, id: &str) {
        let slot = moving.slot.to_string();
        self.servers[server].run::<String>(&["CLUSTER", "SETSLOT", &slot, what, id]);
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
        let front = self.fronts.iter().position(|front| *front == port);
        let number = front.or_else(|| self.servers.iter().position(|s| s.port == port))?;
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
