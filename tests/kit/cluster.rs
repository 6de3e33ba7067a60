//! Real Redis servers on loopback ports: one by itself, or a cluster of three masters with a replica
//! each. They end with the value that started them, and with this process however it ends.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use redis::Connection;
use tempfile::TempDir;

/// How long servers may take to start and to agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Of a cluster: the first are masters, and each other one is the replica of one of them.
const MASTERS: usize = 3;
const SERVERS: usize = 6;

/// One `redis-server`.
pub struct Server {
    pub port: u16,
    /// A shell that ends the server when its standard input closes: that happens however the
    /// process at the other end goes.
    keeper: Child,
    folder: TempDir,
    pid: u32,
}

impl Server {
    /// A server by itself. `settings` are as on its command line.
    pub fn start(settings: &[&str]) -> Self {
        let server = Self::spawn(&free_ports(1), 0, settings);
        server.await_answer()
    }

    /// A server at a port that was free lately.
    pub fn start_at(port: u16, settings: &[&str]) -> Self {
        let bus = free_ports(1)[0].1;
        Self::spawn(&[(port, bus)], 0, settings).await_answer()
    }

    fn spawn(ports: &[(u16, u16)], n: usize, settings: &[&str]) -> Self {
        let (port, bus) = ports[n];
        let folder = tempfile::tempdir().unwrap();
        let script = "exec 3<&0; redis-server \"$@\" >log 2>&1 </dev/null & pid=$!; \
                      echo $pid >pid; cat <&3 >/dev/null; kill -CONT $pid 2>/dev/null; \
                      kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null; rm -rf -- \"$PWD\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "redis-server"]);
        command.args([
            "--port",
            &port.to_string(),
            "--cluster-port",
            &bus.to_string(),
        ]);
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "everysec", "--daemonize", "no"]);
        command.args(settings);
        command
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What is typed at the terminal is for the tests.
            .process_group(0);
        let keeper = command.spawn().expect("sh exists");
        Self {
            port,
            keeper,
            folder,
            pid: 0,
        }
    }

    fn await_answer(mut self) -> Self {
        wait_until("redis-server answers", || {
            let answers = self.connect().is_some_and(|mut connection| {
                let pong = redis::cmd("PING").query::<String>(&mut connection);
                pong.is_ok_and(|pong| pong == "PONG")
            });
            answers.then_some(()).ok_or_else(|| self.log())
        });
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        self.pid = pid.trim().parse().unwrap();
        self
    }

    fn connect(&self) -> Option<Connection> {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection_with_timeout(LOOK_EVERY * 50).ok()
    }

    /// Runs one command, which must succeed.
    pub fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = self.connect().unwrap_or_else(|| panic!("{}", self.log()));
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        let answer = cmd.query(&mut connection);
        answer.unwrap_or_else(|error| panic!("{command:?}: {error}\n{}", self.log()))
    }

    /// Its process, for signals.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What it said.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log"));
        log.unwrap_or_else(|_| "redis-server said nothing; is it installed?".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The shell sees the end of its input, ends the server and removes the folder.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A cluster in which every slot is served and every master has its replica.
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        let settings = [
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
        let ports = free_ports(SERVERS);
        let servers: Vec<_> = (0..SERVERS)
            .map(|n| Server::spawn(&ports, n, &settings))
            .collect();
        let servers = servers.into_iter().map(Server::await_answer).collect();
        let cluster = Self { servers };
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

    /// Waits until a master's replica has all that the master has now.
    pub fn caught_up(&self, master: usize) {
        let offset = |server: &Server, name: &str| {
            let info = server.run::<String>(&["INFO", "replication"]);
            let mut lines = info.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map_or(0, |value| value.trim().parse::<u64>().unwrap())
        };
        let written = offset(&self.servers[master], "master_repl_offset");
        let replica = &self.servers[MASTERS + master];
        wait_until("the replica has it all", || {
            let read = offset(replica, "slave_repl_offset");
            (read >= written)
                .then_some(())
                .ok_or_else(|| format!("{read} of {written}"))
        });
    }

    fn agree(&self, what: &str, holds: impl Fn(&Server) -> bool) {
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

/// Free pairs of ports: for clients, and for the cluster's bus. They lie below those the system
/// hands out by itself, or a client's socket might take one before the server does.
pub fn free_ports(count: usize) -> Vec<(u16, u16)> {
    let mut held = Vec::new();
    let mut port = 20_000 + rand::random::<u16>() % 8_000;
    while held.len() < 2 * count {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push(listener);
        }
        port += 1;
        assert!(port < 32_768, "no free ports");
    }
    let ports = held.iter().map(|held| held.local_addr().unwrap().port());
    let ports: Vec<_> = ports.collect();
    ports.chunks(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Looks again and again until it holds.
fn wait_until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if Instant::now() > end => panic!("waited in vain until {what}:\n{seen}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// A process must end with its folder gone.
#[test]
fn a_server_ends_with_what_started_it() {
    let server = Server::start(&[]);
    let (pid, folder) = (server.pid(), server.folder.path().to_owned());
    let alive = || std::path::Path::new("/proc").join(pid.to_string()).exists();
    assert!(alive() && folder.exists());
    drop(server);
    assert!(!alive() && !folder.exists());
}
