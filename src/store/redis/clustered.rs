//! The connections to a cluster, replaced as a whole when servers stop answering.
//!
//! The client follows redirections and renews its map of slots when it is redirected or a connection
//! breaks. A master that hangs does neither, and its replica is promoted unnoticed; and when all servers
//! were away it may end up with no server to ask, for good. So a call that ran out of time, or found
//! nobody, has all connections made anew, aside, and taken into use once they stand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Value};

use super::link::{certificates, info, tcp};
use super::reply::Reply;
use super::settings::{Address, Settings};
use crate::store::StoreError;

/// How often the client goes round again by itself, within the response timeout.
const RETRIES: u32 = 3;
/// Between two of its rounds, in milliseconds, at least and at most.
const RETRY_WAIT: (u64, u64) = (10, 200);

/// Connections are made anew this often at most.
const RENEWED_EVERY: Duration = Duration::from_secs(1);

/// The connections to a cluster. Clones share them.
#[derive(Clone)]
pub(super) struct Clustered {
    settings: Arc<Settings>,
    current: Arc<ArcSwap<Connected>>,
    /// Whether new connections are being made.
    renewing: Arc<AtomicBool>,
}

/// One set of connections, and the servers it found.
pub(super) struct Connected {
    connection: ClusterConnection,
    servers: Vec<Address>,
}

impl Connected {
    /// The connections, for one call.
    pub fn get(&self) -> ClusterConnection {
        self.connection.clone()
    }
}

impl Clustered {
    pub async fn connect(settings: &Settings) -> RedisResult<Self> {
        let connected = connect(settings, &settings.addresses).await?;
        Ok(Self {
            settings: Arc::new(settings.clone()),
            current: Arc::new(ArcSwap::from_pointee(connected)),
            renewing: Arc::default(),
        })
    }

    pub fn current(&self) -> Arc<Connected> {
        self.current.load_full()
    }

    /// Every server that is known: as configured, and as the cluster said.
    pub fn servers(&self) -> Vec<Address> {
        let mut servers = self.settings.addresses.clone();
        let found = self.current.load();
        let new = found
            .servers
            .iter()
            .filter(|s| !self.settings.addresses.contains(s));
        servers.extend(new.cloned());
        servers
    }

    /// Looks at an answer that came through `used`, and has the connections renewed if there was
    /// none in time, or nobody to ask.
    pub fn judge<T>(&self, used: &Arc<Connected>, answer: RedisResult<T>) -> RedisResult<T> {
        let hopeless = |error: &RedisError| match error.kind() {
            ErrorKind::Io => !error.is_connection_dropped(),
            ErrorKind::ClusterConnectionNotFound => true,
            _ => false,
        };
        if let Err(error) = &answer
            && hopeless(error)
            && Arc::ptr_eq(used, &self.current.load())
            && !self.renewing.swap(true, Ordering::AcqRel)
        {
            tracing::debug!(%error, "redis does not answer, connecting anew");
            tokio::spawn(self.clone().renew());
        }
        answer
    }

    async fn renew(self) {
        let servers = self.servers();
        let patience = 2 * (self.settings.connection_timeout + self.settings.response_timeout);
        match tokio::time::timeout(patience, connect(&self.settings, &servers)).await {
            Ok(Ok(connected)) => {
                self.current.store(Arc::new(connected));
                tracing::info!("connected to redis anew");
            }
            // How the store is doing is told elsewhere.
            Ok(Err(error)) => tracing::debug!(%error, "redis cannot be connected anew"),
            Err(_) => tracing::debug!(?patience, "redis cannot be connected anew in time"),
        }
        tokio::time::sleep(RENEWED_EVERY).await;
        self.renewing.store(false, Ordering::Release);
    }
}

async fn connect(settings: &Settings, servers: &[Address]) -> RedisResult<Connected> {
    let nodes = servers.iter().map(|address| info(settings, address));
    let nodes: Vec<ConnectionInfo> = nodes.collect::<RedisResult<_>>()?;
    let mut builder = ClusterClient::builder(nodes)
        .retries(RETRIES)
        .min_retry_wait(RETRY_WAIT.0)
        .max_retry_wait(RETRY_WAIT.1)
        .retry_wait_formula(RETRY_WAIT.0, 2)
        .connection_timeout(settings.connection_timeout)
        .response_timeout(settings.response_timeout)
        .overall_response_timeout(Some(settings.response_timeout))
        .tcp_settings(tcp());
    if let Some(ca) = certificates(settings) {
        builder = builder.certs(ca);
    }
    let mut connection = builder.build()?.get_async_connection().await?;
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let slots: Value = slots.query_async(&mut connection).await?;
    Ok(Connected {
        connection,
        // What cannot be read adds nothing to what is configured.
        servers: servers_of(slots).unwrap_or_default(),
    })
}

/// The servers that `CLUSTER SLOTS` names: ranges, each its first and last slot and its servers,
/// each its host and port. One without a host is known by where it was asked.
fn servers_of(slots: Value) -> Result<Vec<Address>, StoreError> {
    let reply = Reply("read the cluster's slots");
    let mut servers = Vec::new();
    for range in reply.list(slots)? {
        for server in reply.list(range)?.into_iter().skip(2) {
            let mut server = reply.list(server)?.into_iter();
            let (Some(host), Some(port)) = (server.next(), server.next()) else {
                return Err(reply.unexpected());
            };
            let Ok(host) = reply.text(host) else {
                continue;
            };
            let port = reply.number(port)?;
            let address = Address { host, port };
            if !address.host.is_empty() && !servers.contains(&address) {
                servers.push(address);
            }
        }
    }
    Ok(servers)
}
