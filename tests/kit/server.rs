//! The real binary as a child process: started on free ports in a folder of its own, learned from
//! its own announcement, killed by process id.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::client::{Connection, Request};
use super::process::{LOOK_EVERY, PATIENCE, Process};

/// Asks the system for a free port.
pub const FREE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The addresses that the process announced.
#[derive(Clone, Copy, Default)]
struct Announced {
    listen: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// A running server; dropping it kills it.
pub struct Server {
    /// Where visitors call.
    pub address: SocketAddr,
    /// Where operators call.
    pub admin: SocketAddr,
    process: Process,
    folder: TempDir,
    settings: Vec<String>,
}

impl Server {
    /// Starts the binary with these `section.key=value` settings on free ports and a fresh folder,
    /// and waits until it is ready. Panics with the process's own output when it does not get there.
    pub async fn start(settings: &[String]) -> Self {
        let folder = TempDir::new().expect("the system can make a temporary folder");
        let (process, announced) = launch(folder.path(), settings, FREE, FREE);
        let settings = settings.to_vec();
        let mut server = Self {
            address: FREE,
            admin: FREE,
            process,
            folder,
            settings,
        };
        server.await_ready(announced).await;
        server
    }

    /// The folder of its store.
    pub fn store(&self) -> PathBuf {
        store_in(self.folder.path())
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The process's latest output, standard output and error together.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Kills the process at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks the process to stop (SIGTERM) without waiting for it.
    pub fn ask_to_stop(&self) {
        self.process.ask_to_stop();
    }

    /// Stops the process where it is: it neither answers nor hangs up.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Starts the process again on the same folder and the same ports, and waits until it is ready.
    /// The process must have ended before.
    pub async fn restart(&mut self) {
        let (process, announced) =
            launch(self.folder.path(), &self.settings, self.address, self.admin);
        self.process = process;
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

/// The arguments that place a server: its ports, its store, and a log that can be read.
pub fn place(store: &Path, listen: SocketAddr, admin: SocketAddr) -> Vec<String> {
    let settings = [
        format!("server.listen={listen}"),
        format!("server.admin_listen={admin}"),
        format!("store.path={}", store.display()),
        "log.format=json".to_owned(),
    ];
    sets(&settings)
}

fn sets(settings: &[String]) -> Vec<String> {
    settings
        .iter()
        .flat_map(|setting| ["--set".to_owned(), setting.clone()])
        .collect()
}

fn store_in(folder: &Path) -> PathBuf {
    folder.join("store")
}

fn launch(
    folder: &Path,
    settings: &[String],
    listen: SocketAddr,
    admin: SocketAddr,
) -> (Process, watch::Receiver<Announced>) {
    let mut arguments = place(&store_in(folder), listen, admin);
    arguments.extend(sets(settings));
    let (announce, announced) = watch::channel(Announced::default());
    let process = Process::spawn(folder, &arguments, move |line| {
        let listen = address_in(line, "\"listen\":\"");
        let admin = address_in(line, "\"admin_listen\":\"");
        announce.send_if_modified(|known| {
            known.listen = listen.or(known.listen);
            known.admin = admin.or(known.admin);
            listen.is_some() || admin.is_some()
        });
    });
    (process, announced)
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
