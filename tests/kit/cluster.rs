//! Real Redis servers: one by itself, or a cluster of three masters with a replica each. They end
//! with the value that started them, and with this process however it ends.

use std::sync::OnceLock;

use super::redis::{free_ports, wait_until};

pub use super::redis::Server;

/// Of a cluster: the first are masters, and each other one is the replica of one of them.
pub(super) const MASTERS: usize = 3;
pub const SERVERS: usize = 6;

/// A cluster in which every slot is served and every master has its replica.
pub struct Cluster {
    pub servers: Vec<Server>,
    /// Where the servers say that they are reached, if that is not where they listen.
    pub(super) fronts: Vec<u16>,
}

impl Cluster {
    pub fn start() -> Self {
        Self::on(free_ports(SERVERS), Vec::new(), &[])
    }

    /// The same on ports that are free, with more settings. With `fronts`, each server tells clients
    /// that it is reached there.
    pub fn on(ports: Vec<(u16, u16)>, fronts: Vec<u16>, more: &[&str]) -> Self {
        let mut settings = vec![
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            // A replica takes over however little it has heard.
            "--cluster-replica-validity-factor",
            "0",
            "--repl-diskless-sync-delay",
            "0",
        ];
        settings.extend(more);
        let mut servers = Vec::new();
        for (n, ports) in ports.iter().enumerate() {
            let mut settings = settings.clone();
            let front = fronts.get(n).map(u16::to_string);
            if let Some(front) = &front {
                settings.extend(["--cluster-announce-port", front]);
            }
            servers.push(Server::spawn(*ports, &settings));
        }
        let servers = servers.into_iter().map(Server::await_answer).collect();
        let cluster = Self { servers, fronts };
        cluster.join(&ports);
        cluster
    }

    fn join(&self, ports: &[(u16, u16)]) {
        for (n, server) in self.servers.iter().enumerate() {
            let epoch = (n + 1).to_string();
            server.run::<String>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
            let (port, bus) = ports[0];
            let [port, bus] = [port, bus].map(|port| port.to_string());
            server.run::<String>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        for (n, master) in self.servers[..MASTERS].iter().enumerate() {
            let first = (n * 16_384 / MASTERS).to_string();
            let last = ((n + 1) * 16_384 / MASTERS - 1).to_string();
            master.run::<String>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        self.agree("every server knows all others", |server| {
            let nodes = server.run::<String>(&["CLUSTER", "NODES"]);
            nodes.lines().count() == SERVERS && !nodes.contains("handshake")
        });
        for (n, replica) in self.servers[MASTERS..].iter().enumerate() {
            let master = self.servers[n].run::<String>(&["CLUSTER", "MYID"]);
            replica.run::<String>(&["CLUSTER", "REPLICATE", &master]);
        }
        self.agree("every server sees a whole cluster", |server| {
            let info = server.run::<String>(&["CLUSTER", "INFO"]);
            let nodes = server.run::<String>(&["CLUSTER", "NODES"]);
            info.contains("cluster_state:ok")
                && nodes.lines().filter(|line| line.contains("slave")).count() == MASTERS
        });
        self.agree("every master has its replica", |server| {
            let info = server.run::<String>(&["INFO", "replication"]);
            info.contains("master_link_status:up") || info.contains("state=online")
        });
    }

    /// Waits until the replica that a master began with has all that the master has now.
    pub fn caught_up(&self, master: usize) {
        self.caught_up_by(master, MASTERS + master);
    }

    /// Waits until a master's replica has all that the master has now.
    pub fn caught_up_by(&self, master: usize, replica: usize) {
        let offset = |server: &Server, name: &str| {
            let info = server.run::<String>(&["INFO", "replication"]);
            let mut lines = info.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map_or(0, |value| value.trim().parse::<u64>().unwrap())
        };
        let written = offset(&self.servers[master], "master_repl_offset");
        let replica = &self.servers[replica];
        wait_until("the replica has it all", || {
            let read = offset(replica, "slave_repl_offset");
            (read >= written)
                .then_some(())
                .ok_or_else(|| format!("{read} of {written}"))
        });
    }

    pub(super) fn agree(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        wait_until(what, || match self.servers.iter().find(|s| !holds(s)) {
            None => Ok(()),
            Some(server) => Err(server.run::<String>(&["CLUSTER", "NODES"])),
        });
    }
}

/// The cluster that the tests of this binary share; each keeps to keys of its own.
pub fn shared_cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

/// The server by itself that the tests of this binary share; each keeps to keys of its own.
pub fn shared_server() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::start(&[]))
}

/// A prefix of keys that nobody else in this process has.
pub fn own_prefix() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
