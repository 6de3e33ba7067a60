//! What a configuration means: every value typed, in range and consistent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::secret::Secret;
use crate::model::{EventId, NodeId, Policy};
use crate::telemetry::logging::{LogFilter, LogFormat};

/// The whole configuration. Its `Default` is the one that `config.toml` spells out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Listeners and threads.
    pub server: Server,
    /// The durable store.
    pub store: Store,
    /// How to reach Redis; of use with [`StoreKind::Redis`] only.
    pub redis: Redis,
    /// This node's place among its peers.
    pub fleet: Fleet,
    /// The write-behind.
    pub journal: Journal,
    /// Signing keys; `None` asks for development keys, which only the embedded store keeps.
    pub keys: Option<KeySet>,
    /// How events come to be.
    pub events: Events,
    /// The policy of events that have no other.
    pub defaults: Policy,
    /// The policies of named events, `defaults` already filled in.
    pub event: BTreeMap<EventId, Policy>,
    /// Bounds on what clients may ask of us.
    pub limits: Limits,
    /// Which web pages may call us.
    pub cors: Cors,
    /// The admin API.
    pub admin: Admin,
    /// How often visitors are told to ask.
    pub polling: Polling,
    /// Logs.
    pub log: Log,
}

impl Config {
    /// The policy of `event`: its own, else the defaults.
    pub fn policy(&self, event: &EventId) -> &Policy {
        self.event.get(event).unwrap_or(&self.defaults)
    }
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where visitors are answered; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where operators and metrics are answered; `None` (written "off") opens no such listener.
    pub admin_listen: Option<SocketAddr>,
    /// Worker threads; `None` (written 0) is one per core.
    pub workers: Option<NonZeroUsize>,
    /// How long a stop waits for requests and the journal.
    pub drain_timeout: Duration,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Which store.
    pub kind: StoreKind,
    /// The embedded store's folder.
    pub path: PathBuf,
    /// When the embedded store makes its writes safe against power loss.
    pub fsync: Fsync,
    /// How often, with [`Fsync::Interval`].
    pub fsync_interval: Duration,
    /// What a start does while Redis does not answer.
    pub start: StoreStart,
}

/// The kinds of durable store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// A folder of this process.
    Embedded,
    /// Redis or Redis Cluster.
    Redis,
}

/// What a start does while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreStart {
    /// Waits for it.
    Wait,
    /// Serves what visitors bring along, and loads once it answers.
    Serve,
}

/// When a write is made safe against power loss. Against `kill -9` it always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before it is acknowledged.
    Always,
    /// Every `fsync_interval`.
    Interval,
    /// When the system pleases.
    Never,
}

/// `[redis]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Nodes to start from; at least one.
    pub urls: Vec<RedisUrl>,
    /// What kind of deployment they are.
    pub mode: RedisMode,
    /// ACL user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// A PEM file of certificate authorities instead of the system's, for `rediss://`.
    pub ca: Option<PathBuf>,
}

impl Redis {
    /// What the file of certificate authorities says, if one is named.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ca_pem(&self) -> std::io::Result<Option<Vec<u8>>> {
        self.ca.as_ref().map(std::fs::read).transpose()
    }
}

/// One Redis node's address. Written `redis://host:port` or, for TLS, `rediss://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// `rediss://`
    pub tls: bool,
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// The port; 6379 when none is written.
    pub port: u16,
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

/// What kind of deployment Redis is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisMode {
    /// Ask the first node that answers.
    Auto,
    /// Redis Cluster.
    Cluster,
    /// One master.
    Single,
}

/// `[fleet]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// This node's number, below `size`.
    pub node: NodeId,
    /// How many nodes there are.
    pub size: NonZeroU16,
    /// How far a peer's clock may be off before its time is no longer followed.
    pub max_clock_skew: Duration,
    /// For how long an event goes on by shares while the store is away.
    pub share_limit: Duration,
}

/// `[journal]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The longest a record waits for its batch.
    pub flush_interval: Duration,
    /// The most records of one batch.
    pub batch_records: NonZeroU32,
    /// When a join is answered.
    pub ack: Ack,
    /// The most unacknowledged records kept; beyond, whole state is sent again.
    pub max_records: NonZeroU32,
    /// The feed counts as fresh while it is behind by no more than this; a node whose feed is not
    /// fresh calls nobody.
    pub lag: Duration,
    /// How long the store may be silent before answers say `degraded`.
    pub stale_after: Duration,
}

/// When a join is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// At once.
    Memory,
    /// When the store has it.
    Durable,
}

/// `[keys]`: 32-byte keys by name, so that a rotation overlaps. `active` is in both maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet {
    /// The name of the keys that sign; the others only verify.
    pub active: String,
    /// Keys of waiting tokens (keyed BLAKE3).
    pub ticket: BTreeMap<String, Secret<[u8; 32]>>,
    /// Ed25519 seeds of passes.
    pub pass: BTreeMap<String, Secret<[u8; 32]>>,
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Whether a join makes its event when there is none.
    pub create_on_demand: bool,
    /// The most events at once.
    pub max_events: NonZeroU32,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The largest request body.
    pub body_bytes: usize,
    /// The longest request target.
    pub url_bytes: usize,
    /// The largest request head; at least 8192, which is the parser's own least.
    pub header_bytes: usize,
    /// The most request headers.
    pub headers: usize,
    /// The most connections at once.
    pub connections: usize,
    /// How long a request head may take to arrive.
    pub header_read_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    /// How long a request body may take to arrive.
    pub body_read_timeout: Duration,
    /// Joins a second on this node; `None` (written 0) is no limit.
    pub joins_per_second: Option<NonZeroU32>,
}

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Which pages may call.
    pub origins: Origins,
    /// How long browsers may remember the answer.
    pub max_age: Duration,
    /// Whether browsers may send cookies along; never with [`Origins::Any`].
    pub credentials: bool,
}

/// Which web pages may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// All of them.
    Any,
    /// These, each `scheme://host[:port]`; none when empty.
    Listed(Vec<String>),
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Admin {
    /// The bearer token of operators. There is one wherever the listener is not loopback.
    pub token: Option<Secret>,
}

/// `[polling]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polling {
    /// The shortest wait between two polls, near the front.
    pub min: Duration,
    /// The longest, far back; shorter than every `heartbeat_ttl`.
    pub max: Duration,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Log {
    /// What is logged.
    pub level: LogFilter,
    /// How it looks.
    pub format: LogFormat,
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("the defaults are not zero, as the compiler sees")
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8000).into(),
            admin_listen: Some((Ipv4Addr::LOCALHOST, 8001).into()),
            workers: None,
            drain_timeout: seconds(30),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            path: "data".into(),
            fsync: Fsync::Interval,
            fsync_interval: Duration::from_millis(100),
            start: StoreStart::Wait,
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            urls: vec![RedisUrl {
                tls: false,
                host: "127.0.0.1".to_owned(),
                port: 6379,
            }],
            mode: RedisMode::Auto,
            user: None,
            password: None,
            ca: None,
        }
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            node: NodeId(0),
            size: NonZeroU16::MIN,
            max_clock_skew: Duration::from_millis(500),
            share_limit: Duration::from_secs(300),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            flush_interval: Duration::from_millis(10),
            batch_records: nonzero(1024),
            ack: Ack::Memory,
            max_records: nonzero(2_000_000),
            lag: Duration::from_millis(500),
            stale_after: seconds(5),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            create_on_demand: true,
            max_events: nonzero(10_000),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8192,
            url_bytes: 4096,
            header_bytes: 16384,
            headers: 100,
            connections: 100_000,
            header_read_timeout: seconds(10),
            idle_timeout: seconds(75),
            body_read_timeout: seconds(10),
            joins_per_second: None,
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        // Tokens travel in the request, never in cookies, so any page may ask; a page gains nothing
        // by it that its visitor does not already have.
        Self {
            origins: Origins::Any,
            max_age: seconds(600),
            credentials: false,
        }
    }
}

impl Default for Polling {
    fn default() -> Self {
        Self {
            min: seconds(1),
            max: seconds(30),
        }
    }
}
