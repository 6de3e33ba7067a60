//! One real `redis-server` on loopback ports, with its own folder: started, killed and started again.
//! It ends with the value that started it, and with this process however it ends.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, ErrorKind, ServerErrorKind};
use tempfile::TempDir;

/// How long servers may take to start and to agree.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long one look waits for a connection, and how long a command does: the machine may be busy.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
const BUSY_MAX: Duration = Duration::from_secs(20);

/// What a server answers while it reads its data.
const LOADING: ErrorKind = ErrorKind::Server(ServerErrorKind::BusyLoading);

/// What keeps a server: it starts and kills it as told, a word a line, and ends it when its own
/// standard input closes, which happens however the process at the other end goes.
const KEEPER: &str = r#"
exec 3<&0
while read -r word <&3; do
  case $word in
    start)
      redis-server "$@" >>log 2>&1 3<&- </dev/null & pid=$!
      echo $pid >pid.new; mv pid.new pid;;
    kill) kill -KILL $pid; wait $pid; pid=; rm -f pid;;
  esac
done
if [ -n "$pid" ]; then
  kill -CONT $pid 2>/dev/null; kill -KILL $pid 2>/dev/null; wait $pid 2>/dev/null
fi
rm -rf -- "$PWD"
"#;

/// One `redis-server`.
pub struct Server {
    pub port: u16,
    keeper: Child,
    folder: TempDir,
    pid: u32,
}

impl Server {
    /// A server by itself. `settings` are as on its command line.
    pub fn start(settings: &[&str]) -> Self {
        Self::spawn(free_ports(1)[0], settings).await_answer()
    }

    /// A server at a port that was free lately.
    pub fn start_at(port: u16, settings: &[&str]) -> Self {
        let bus = free_ports(1)[0].1;
        Self::spawn((port, bus), settings).await_answer()
    }

    /// Starts one on a port for clients and one for the cluster's bus, without waiting for it.
    pub(super) fn spawn((port, bus): (u16, u16), settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "redis-server"]);
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
        let mut server = Self {
            port,
            keeper,
            folder,
            pid: 0,
        };
        server.tell("start");
        server
    }

    /// Waits until it answers.
    pub(super) fn await_answer(mut self) -> Self {
        self.answers();
        self
    }

    fn answers(&mut self) {
        wait_until("redis-server answers", || {
            let answers = self.connect(ANSWERS_WITHIN).is_some_and(|mut connection| {
                let pong = redis::cmd("PING").query::<String>(&mut connection);
                // One that reads its files answers everything else in a moment.
                pong.is_ok_and(|pong| pong == "PONG")
            });
            let pid = std::fs::read_to_string(self.pid_file()).ok();
            match pid.and_then(|pid| pid.trim().parse().ok()) {
                Some(pid) if answers => {
                    self.pid = pid;
                    Ok(())
                }
                _ => Err(self.log()),
            }
        });
    }

    fn pid_file(&self) -> std::path::PathBuf {
        self.folder.path().join("pid")
    }

    fn tell(&mut self, word: &str) {
        let stdin = self.keeper.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{word}").expect("the keeper lives as long as the server");
    }

    /// Kills it at once (SIGKILL) and waits until it is gone. Its folder stays.
    pub fn kill(&mut self) {
        self.tell("kill");
        let gone = |pid: u32| !Path::new("/proc").join(pid.to_string()).exists();
        wait_until("redis-server is gone", || {
            if gone(self.pid) && !self.pid_file().exists() {
                Ok(())
            } else {
                Err(self.log())
            }
        });
    }

    /// Starts it again on its folder, and waits until it answers.
    pub fn restart(&mut self) {
        self.tell("start");
        self.answers();
    }

    /// Stops it where it is: it neither answers nor hangs up.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill.args([name, &self.pid.to_string()]).status();
        assert!(status.expect("kill exists").success(), "{}", self.log());
    }

    fn connect(&self, patience: Duration) -> Option<Connection> {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_connection_with_timeout(patience).ok()
    }

    /// Runs one command, which must succeed; a server that reads its data is waited for.
    pub fn run<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let connected = self.connect(BUSY_MAX);
        let mut connection = connected.unwrap_or_else(|| panic!("{}", self.log()));
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        let mut answer = None;
        wait_until("redis-server has read its data", || {
            match cmd.query(&mut connection) {
                // A replica does whenever it is handed all of its master's.
                Err(error) if error.kind() == LOADING => return Err(self.log()),
                done => answer = Some(done),
            }
            Ok(())
        });
        let answer: redis::RedisResult<T> = answer.expect("it is waited for");
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
    pub(super) fn log(&self) -> String {
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
pub(super) fn wait_until(what: &str, mut look: impl FnMut() -> Result<(), String>) {
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

#[test]
fn a_killed_server_starts_again_with_what_it_held() {
    let mut server = Server::start(&[]);
    server.run::<String>(&["SET", "a", "1"]);
    server.kill();
    assert!(server.connect(ANSWERS_WITHIN).is_none());
    server.restart();
    assert_eq!(server.run::<String>(&["GET", "a"]), "1");
}
