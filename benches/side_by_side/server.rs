//! The servers that are compared, each a process of its own on the measured cores.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::Clock;
use tidegate::http::{Answers, Build, Face, Settings, Shared, bind, serve_with};
use tidegate::model::gate::{EnterRequest, Entry};
use tidegate::model::{Change, EventId, Micros, NodeId, Ruled, TicketId};
use tidegate::room::answer::Commit;
use tidegate::room::effects::{Effect, Effects, Nodes, StoreHealth};
use tidegate::telemetry::metrics::Metrics;

use super::machine::Cores;
use super::rival::{Design, Rival};

/// What deploy/ tells the allocator.
const TUNABLES: &str = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576";

/// A process that answers polls.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// Where operators are answered, if they were to be.
    pub admin: Option<SocketAddr>,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The product itself, with these settings (`section.key=value`) on top.
    pub fn tidegate(cores: &Cores, settings: &[String]) -> Self {
        let mut command = cores.measured(env!("CARGO_BIN_EXE_tidegate"));
        let common = [
            "server.listen=127.0.0.1:0".to_owned(),
            "server.admin_listen=off".to_owned(),
            format!("server.workers={}", cores.workers),
            "log.format=json".to_owned(),
            "defaults.max_waiting=20000000".to_owned(),
            "defaults.heartbeat_ttl=2h".to_owned(),
        ];
        for set in common.iter().chain(settings) {
            command.args(["--set", set]);
        }
        // As deploy/ runs it: a long line lies in huge pages, and a rush leaves no queues behind.
        command.env("GLIBC_TUNABLES", TUNABLES);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("taskset runs the binary");
        let output = child.stderr.take().expect("piped");
        let address = told(output, |line| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let address = |name: &str| line[name].as_str()?.parse().ok();
            Some((address("listen")?, address("admin_listen")))
        });
        let (address, admin) = address;
        let server = Self {
            child,
            address,
            admin,
        };
        server.await_ready();
        server
    }

    /// This very program, serving something else: see [`serve`].
    pub fn own(cores: &Cores, arguments: &[&str]) -> Self {
        let own = std::env::current_exe().expect("it runs");
        let mut command = cores.measured(&own.to_string_lossy());
        command.arg("serve").arg(cores.workers.to_string());
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("taskset runs the binary");
        let output = child.stdout.take().expect("piped");
        let address = told(output, |line| line.parse().ok());
        Self {
            child,
            address,
            admin: None,
        }
    }

    /// The body of the answer to a request.
    pub fn ask(&self, request: &[u8]) -> String {
        ask(self.address, request)
    }

    fn await_ready(&self) {
        let ask = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n";
        while !self.ask(ask).contains("\"ready\"") {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The body of the answer to a request.
pub fn ask(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    ask_over(&mut stream, request)
}

/// The same over a connection that stays open.
pub fn ask_over(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).expect("it reads");
    let (mut buffer, mut chunk) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let got = stream.read(&mut chunk).expect("it answers");
        assert!(got > 0, "the server hung up");
        buffer.extend_from_slice(&chunk[..got]);
        if let Some(answer) = super::answer::first(&buffer) {
            return String::from_utf8_lossy(&buffer[answer.head..answer.len()]).into_owned();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address that a process tells; its further output is read and dropped, so that it never blocks.
fn told<T>(output: impl Read + Send + 'static, address: impl Fn(&str) -> Option<T>) -> T {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let mut said = String::new();
    let found = lines.find_map(|line| {
        said += &line;
        said.push('\n');
        address(&line)
    });
    std::thread::spawn(move || lines.for_each(drop));
    found.unwrap_or_else(|| panic!("it ended before it listened:\n{said}"))
}

/// The command line of such a process: `serve <workers> bare <body>` or `serve <workers> <design>
/// <redis>`.
pub fn serve(arguments: &[String]) {
    let [workers, what, with] = arguments else {
        panic!("serve <workers> <what> <with>");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.parse().expect("a number"))
        .enable_all()
        .build()
        .expect("the system has threads");
    runtime.block_on(async {
        let listener = bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        match Design::named(what) {
            None => {
                println!("{address}");
                super::bare::serve(listener, with.clone().into()).await;
            }
            Some(design) => {
                let rival = Arc::new(Rival::start(design, with).await);
                println!("{address}");
                let answers: Answers = Box::new(move |request| rival.answer(&request));
                let never = std::future::pending();
                serve_with(listener, shared(), Face::Visitor, answers, never).await;
            }
        }
    });
}

/// What Tidegate's HTTP layer wants around a listener. The room in it stays empty.
fn shared() -> Arc<Shared> {
    Arc::new(Shared::new(
        Arc::new(super::room::room(1)),
        Arc::new(NoStore),
        Clock::real(Duration::from_secs(1)),
        Arc::new(Metrics::new(tidegate::http::ROUTES)),
        Settings::default(),
        Build {
            version: "",
            commit: "",
            built: "",
        },
    ))
}

/// Rivals bring their own.
struct NoStore;

impl Effects for NoStore {
    fn enter(&self, _: EnterRequest) -> Effect<'_, Entry> {
        Box::pin(std::future::pending())
    }

    fn complete(&self, _: EventId, _: TicketId) -> Effect<'_, bool> {
        Box::pin(std::future::pending())
    }

    fn durable(&self, _: Commit) -> Effect<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn rule(&self, _: EventId, _: Change, _: Micros) -> Effect<'_, Ruled> {
        Box::pin(std::future::pending())
    }

    fn spread(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    fn nodes(&self) -> Arc<Nodes> {
        Arc::new(Nodes {
            own: NodeId(0),
            size: 1,
            beats: Vec::new(),
            number_taken: false,
        })
    }

    fn health(&self) -> StoreHealth {
        StoreHealth::Up
    }
}
