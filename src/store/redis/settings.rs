//! How to reach Redis, and what to keep there.

use std::fmt;
use std::time::Duration;

use crate::store::StoreClock;

/// What kind of deployment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ask the first server that answers.
    Auto,
    /// Redis Cluster.
    Cluster,
    /// One master.
    Single,
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How to reach Redis, and what to keep there.
#[derive(Clone)]
pub struct Settings {
    /// Servers to start from; at least one.
    pub addresses: Vec<Address>,
    /// Whether to speak TLS with them.
    pub tls: bool,
    /// Certificate authorities in PEM form, instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// What kind of deployment they are.
    pub mode: Mode,
    /// ACL user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// What every key begins with: deployments with different ones are apart.
    pub prefix: String,
    /// How long a connection may take to be made.
    pub connection_timeout: Duration,
    /// How long an answer may take, all redirections included.
    pub response_timeout: Duration,
    /// Removals are remembered this long; the longest `ticket_ttl` of any event.
    pub keep_removed: Duration,
    /// Older batches of a feed are dropped.
    pub feed_age: Duration,
    /// Beyond this many batches the oldest of a feed are dropped.
    pub feed_batches_max: u64,
    /// A clock instead of the server's, for tests: scripts believe it.
    pub clock: Option<StoreClock>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            addresses: vec![Address {
                host: "127.0.0.1".to_owned(),
                port: 6379,
            }],
            tls: false,
            ca: None,
            mode: Mode::Auto,
            user: None,
            password: None,
            prefix: "tg".to_owned(),
            connection_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(3),
            keep_removed: Duration::from_secs(6 * 60 * 60),
            feed_age: Duration::from_secs(300),
            feed_batches_max: 500_000,
            clock: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("addresses", &self.addresses)
            .field("tls", &self.tls)
            .field("mode", &self.mode)
            .field("user", &self.user)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
