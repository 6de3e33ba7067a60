//! The real binary as a child process: started on free ports in a folder of its own, learned from
//! its own announcement, killed by process id.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::client::{Connection, Request};

/// How long the process may take to start, to become ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a state that cannot be waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How many lines of the process's output are kept for messages.
const LINES_MAX: usize = 200;

/// The addresses that the process announced.
#[derive(Clone, Copy, Default)]
struct Announced {
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

type Lines = Arc<Mutex<VecDeque<String>>>;

/// A running process; dropping it kills it.
pub struct Server {
    /// Where visitors call.
    pub address: SocketAddr,
    /// Where operators call.
    pub admin: SocketAddr,
    child: Child,
    folder: TempDir,
    settings: Vec<String>,
    lines: Lines,
}

impl Server {
    /// Starts the binary with these `section.key=value` settings on free ports and a fresh folder,
    /// and waits until it is ready. Panics with the process's own output when it does not get there.
    pub async fn start(settings: &[String]) -> Self {
        let folder = TempDir::new().expect("the system can make a temporary folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let (child, lines, announced) = launch(&folder, settings, free, free);
        let mut server = Self {
            address: free,
            admin: free,
            child,
            folder,
            settings: settings.to_vec(),
            lines,
        };
        server.await_ready(announced).await;
        server
    }

    /// The folder of its store.
    pub fn store(&self) -> std::path::PathBuf {
        store_of(self.folder.path())
    }

    /// The process's latest output, standard output and error together.
    pub fn output(&self) -> String {
        let lines = self
            .lines
            .lock()
            .expect("readers of the output do not panic");
        lines
            .iter()
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// Kills the process at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Asks the process to stop (SIGTERM) without waiting for it.
    pub fn ask_to_stop(&self) {
        let command = format!("kill -TERM {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status();
        assert!(
            status.expect("sh exists").success(),
            "no process to stop:\n{}",
            self.output()
        );
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut look = interval(LOOK_EVERY);
        let child = &mut self.child;
        let wait = async {
            loop {
                look.tick().await;
                if let Some(status) = child.try_wait().expect("the process is ours") {
                    return status;
                }
            }
        };
        let ended = timeout(PATIENCE, wait).await;
        ended.unwrap_or_else(|_| panic!("the process does not end:\n{}", self.output()))
    }

    /// Starts the process again on the same folder and the same ports, and waits until it is ready.
    /// The process must have ended before.
    pub async fn restart(&mut self) {
        let (child, lines, announced) =
            launch(&self.folder, &self.settings, self.address, self.admin);
        (self.child, self.lines) = (child, lines);
        self.await_ready(announced).await;
    }

    async fn await_ready(&mut self, announced: watch::Receiver<Announced>) {
        let announced = timeout(PATIENCE, both_addresses(announced))
            .await
            .ok()
            .flatten();
        let Some((listen, admin)) = announced else {
            panic!("the process announces no addresses:\n{}", self.output());
        };
        (self.address, self.admin) = (listen, admin);
        if timeout(PATIENCE, until_ready(listen)).await.is_err() {
            panic!("the process does not become ready:\n{}", self.output());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary under test, with nothing inherited that could change its configuration.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

/// The arguments that place a process: its ports, its store, and a log that can be read.
pub fn place(store: &Path, listen: SocketAddr, admin: SocketAddr) -> Vec<String> {
    let settings = [
        format!("server.listen={listen}"),
        format!("server.admin_listen={admin}"),
        format!("store.path={}", store.display()),
        "log.format=json".to_owned(),
    ];
    settings
        .into_iter()
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect()
}

fn store_of(folder: &Path) -> std::path::PathBuf {
    folder.join("store")
}

fn launch(
    folder: &TempDir,
    settings: &[String],
    listen: SocketAddr,
    admin: SocketAddr,
) -> (Child, Lines, watch::Receiver<Announced>) {
    let mut command = command(folder.path());
    command.args(place(&store_of(folder.path()), listen, admin));
    command.args(settings.iter().flat_map(|setting| ["--set", setting]));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = Lines::default();
    let (announce, announced) = watch::channel(Announced::default());
    let announce = Arc::new(announce);
    if let Some(stdout) = child.stdout.take() {
        follow(stdout, lines.clone(), announce.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        follow(stderr, lines.clone(), announce);
    }
    (child, lines, announced)
}

/// Reads the pipe to its end, so that the process never blocks on it.
fn follow(pipe: impl Read + Send + 'static, lines: Lines, announce: Arc<watch::Sender<Announced>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            announce.send_if_modified(|known| {
                let listen = address_in(&line, "\"listen\":\"");
                let admin = address_in(&line, "\"admin_listen\":\"");
                known.listen = listen.or(known.listen);
                known.admin = admin.or(known.admin);
                listen.is_some() || admin.is_some()
            });
            let mut lines = lines.lock().expect("readers of the output do not panic");
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// The address that follows `label` in a line of JSON; port 0 is a wish, not an address.
fn address_in(line: &str, label: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(label)?;
    let (address, _) = rest.split_once('"')?;
    address
        .parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
}

/// Both addresses, or nothing when the process closed its output before it announced them.
async fn both_addresses(
    mut announced: watch::Receiver<Announced>,
) -> Option<(SocketAddr, SocketAddr)> {
    let both = announced.wait_for(|known| known.listen.is_some() && known.admin.is_some());
    let both = *both.await.ok()?;
    both.listen.zip(both.admin)
}

async fn until_ready(address: SocketAddr) {
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        if readiness(address).await == Some(200) {
            return;
        }
    }
}

/// What `/readyz` answers on a fresh connection; nothing when it does not answer.
pub async fn readiness(address: SocketAddr) -> Option<u16> {
    let mut connection = Connection::open(address).await.ok()?;
    connection
        .call(&Request::get("/readyz"))
        .await
        .ok()
        .map(|answer| answer.status)
}

/// Waits until `/readyz` no longer answers 200 on a fresh connection, and says what it answers.
pub async fn until_unready(address: SocketAddr) -> Option<u16> {
    let mut look = interval(LOOK_EVERY);
    let unready = async {
        loop {
            look.tick().await;
            match readiness(address).await {
                Some(200) => {}
                other => return other,
            }
        }
    };
    timeout(PATIENCE, unready)
        .await
        .expect("a process that was asked to stop becomes unready")
}

#[test]
fn announcements_are_read_from_a_line_of_json() {
    let line = r#"{"fields":{"listen":"127.0.0.1:80","admin_listen":"127.0.0.1:81"}}"#;
    let at = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(address_in(line, "\"listen\":\""), at(80));
    assert_eq!(address_in(line, "\"admin_listen\":\""), at(81));
    assert_eq!(
        address_in(r#"{"listen":"127.0.0.1:0"}"#, "\"listen\":\""),
        None
    );
}
