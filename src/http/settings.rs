//! What can be set about a listener, as values; where they come from is not its business.

use std::net::IpAddr;
use std::time::Duration;

/// Named bounds: full is an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// The longest body of a request, in bytes; over it: 413.
    pub body_bytes: usize,
    /// The longest path with query, in bytes; over it: 414.
    pub url_bytes: usize,
    /// The longest head (request line and headers), in bytes, at least 8,192; over it: 431.
    pub header_bytes: usize,
    /// The most header lines; over it: 431.
    pub headers: usize,
    /// The most open connections of the visitors' listener; over it: 503.
    pub connections: usize,
    /// How long a head may take from its first byte on; over it: 408.
    pub header_read_timeout: Duration,
    /// How long a connection may be quiet between requests; then it is closed.
    pub idle_timeout: Duration,
    /// How long a body may take; over it: 408.
    pub body_read_timeout: Duration,
    /// Joins a second on this node, 0 = any number; over it: 429.
    pub joins_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 8 * 1024,
            url_bytes: 4 * 1024,
            header_bytes: 16 * 1024,
            headers: HEADERS_DEFAULT,
            connections: 100_000,
            header_read_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_read_timeout: Duration::from_secs(10),
            joins_per_second: 0,
        }
    }
}

/// The number of header lines that costs nothing to allow; another one costs an allocation a
/// request.
pub const HEADERS_DEFAULT: usize = 100;

/// Which pages of other origins may use the API.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cors {
    /// Origins such as `https://tickets.example`, or `*` alone. None: no answer to other origins.
    pub origins: Vec<String>,
    /// How long a browser may remember a preflight's answer.
    pub max_age: Duration,
    /// Whether cookies and the like may be sent along. Never together with `*`.
    pub credentials: bool,
}

/// Everything that can be set.
#[derive(Clone, Default, PartialEq)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// Other origins.
    pub cors: Cors,
    /// What operators must show to change anything.
    pub admin_token: Option<String>,
    /// Whether a join is answered only when the store has it.
    pub durable_joins: bool,
    /// How long requests may take to finish when the listener stops.
    pub drain_timeout: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("limits", &self.limits)
            .field("cors", &self.cors)
            .field("admin_token", &self.admin_token.as_ref().map(|_| "***"))
            .field("durable_joins", &self.durable_joins)
            .field("drain_timeout", &self.drain_timeout)
            .finish()
    }
}

/// Whether an admin listener may start on this address: away from loopback only with a token.
pub fn admin_may_listen(address: IpAddr, settings: &Settings) -> bool {
    address.is_loopback() || settings.admin_token.is_some()
}
