//! Reads the other gateway's Redis, one server or a cluster: every key of every master is named by
//! `SCAN` once, in bounded steps, and what belongs to a sale is read. Nothing is written.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, RedisError, TlsCertificates, Value,
};

use super::sale::{Index, Sale};
use crate::clock::Clock;
use crate::model::Micros;

/// What the keys begin with. A record's and a heartbeat's end with the token, the others with the
/// event.
const HEARTBEAT: &str = "heartbeat:";
const RECORD: &str = "queue:waiting:";
const SETS: [(&str, Index); 2] = [
    ("position_index:", Index::Position),
    ("queue:event:", Index::Queue),
];
/// Keys or members of one step, about.
const STEP: usize = 1_000;
/// How long a connection may take to be made, and a step to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// A long reading says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Why the other gateway's Redis could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The address is none. It may hold a password, and is not repeated.
    #[error(
        "--from is no address of a Redis server: redis://user:password@host:port/db, rediss:// for TLS"
    )]
    Address,
    /// A server failed, or refused something.
    #[error("{server}: {source}")]
    Server {
        /// Its address.
        server: String,
        /// Why.
        source: RedisError,
    },
    /// A server answered what cannot be made sense of.
    #[error("{server}: an unexpected answer to {command}")]
    Unexpected {
        /// Its address.
        server: String,
        /// What it was asked.
        command: &'static str,
    },
}

/// The other gateway's Redis.
pub struct Source {
    seed: ConnectionInfo,
    ca: Option<Vec<u8>>,
}

/// One of its masters, connected.
struct Master {
    name: String,
    connection: MultiplexedConnection,
}

impl Source {
    /// The server at `url`, or the cluster it belongs to. `ca` are certificate authorities in PEM
    /// form instead of the system's, for `rediss://`.
    ///
    /// # Errors
    /// It is no address.
    pub fn new(url: &str, ca: Option<Vec<u8>>) -> Result<Self, SourceError> {
        let seed = url
            .into_connection_info()
            .map_err(|_| SourceError::Address)?;
        if matches!(seed.addr(), ConnectionAddr::TcpTls { .. }) {
            // The first one in the process stays; whichever it is will do.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        Ok(Self { seed, ca })
    }

    /// Reads everything into `sale`. The other gateway may be at work meanwhile: what changes during
    /// the reading may be seen as before or after.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn read(&self, sale: &mut Sale, clock: &Clock) -> Result<(), SourceError> {
        let now = || Micros(clock.now_micros());
        let (mut keys, mut told) = (0, now());
        for mut master in self.masters().await? {
            let mut sets = BTreeSet::new();
            let mut cursor = 0;
            loop {
                let step: Vec<Vec<u8>>;
                (cursor, step) = master.step("SCAN", None, cursor).await?;
                keys += step.len();
                master.take(step, &mut sets, sale).await?;
                if now().since(told) >= PROGRESS_EVERY {
                    told = now();
                    tracing::info!(
                        keys,
                        tickets = sale.found(),
                        server = master.name,
                        "reading"
                    );
                }
                if cursor == 0 {
                    break;
                }
            }
            for key in sets {
                master.members(&key, sale).await?;
            }
        }
        tracing::info!(keys, tickets = sale.found(), "read");
        Ok(())
    }

    /// Every master: of a cluster, those that serve slots; else the server itself.
    async fn masters(&self) -> Result<Vec<Master>, SourceError> {
        let mut first = self.connect(self.seed.addr().clone()).await?;
        let info: String = first.query("INFO", &["cluster"]).await?;
        if !info.lines().any(|line| line.trim() == "cluster_enabled:1") {
            return Ok(vec![first]);
        }
        let slots: Slots = first.query("CLUSTER", &["SLOTS"]).await?;
        let unexpected = || SourceError::Unexpected {
            server: first.name.clone(),
            command: "CLUSTER SLOTS",
        };
        let mut addresses: Vec<ConnectionAddr> = Vec::new();
        for range in slots {
            // First slot, last slot, master, replicas.
            let master = range.into_iter().nth(2);
            let address = master.and_then(|master| at(self.seed.addr(), master));
            let address = address.ok_or_else(unexpected)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut masters = Vec::new();
        for address in addresses {
            masters.push(self.connect(address).await?);
        }
        Ok(masters)
    }

    async fn connect(&self, address: ConnectionAddr) -> Result<Master, SourceError> {
        let name = address.to_string();
        let failed = |source| SourceError::Server {
            server: name.clone(),
            source,
        };
        let info = self.seed.clone().set_addr(address);
        let client = match &self.ca {
            Some(ca) => Client::build_with_tls(
                info,
                TlsCertificates {
                    client_tls: None,
                    root_cert: Some(ca.clone()),
                },
            ),
            None => Client::open(info),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connection = client
            .map_err(failed)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(failed)?;
        Ok(Master { name, connection })
    }
}

impl Master {
    async fn query<T: FromRedisValue>(
        &mut self,
        command: &str,
        args: &[&str],
    ) -> Result<T, SourceError> {
        let mut cmd = redis::cmd(command);
        cmd.arg(args);
        let answer = cmd.query_async(&mut self.connection).await;
        answer.map_err(|source| self.failed(source))
    }

    /// One step of a `SCAN`, or of a `ZSCAN` of one key: where to go on (0: nowhere), and what came.
    async fn step<T: FromRedisValue>(
        &mut self,
        command: &'static str,
        key: Option<&str>,
        cursor: u64,
    ) -> Result<(u64, T), SourceError> {
        let mut cmd = redis::cmd(command);
        if let Some(key) = key {
            cmd.arg(key);
        }
        cmd.arg(cursor).arg("COUNT").arg(STEP);
        let answer = cmd.query_async(&mut self.connection).await;
        answer.map_err(|source| self.failed(source))
    }

    /// Sorts a step's keys, and reads the records among them.
    async fn take(
        &mut self,
        keys: Vec<Vec<u8>>,
        sets: &mut BTreeSet<String>,
        sale: &mut Sale,
    ) -> Result<(), SourceError> {
        let mut records = Vec::new();
        // A key of that gateway is text.
        for key in keys.into_iter().filter_map(|k| String::from_utf8(k).ok()) {
            if let Some(token) = key.strip_prefix(HEARTBEAT) {
                sale.present(token);
            } else if key.starts_with(RECORD) {
                records.push(key);
            } else if SETS.iter().any(|(prefix, _)| key.starts_with(prefix)) {
                sets.insert(key);
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        // One by one in one go: in a cluster, keys of one master need not be of one slot.
        let mut pipe = redis::pipe();
        for key in &records {
            pipe.get(key);
        }
        let answer = pipe.query_async(&mut self.connection).await;
        let texts: Vec<Option<Vec<u8>>> = answer.map_err(|source| self.failed(source))?;
        for (key, text) in records.iter().zip(texts) {
            // One that is gone by now left, or ran out of its time.
            if let (Some(token), Some(text)) = (key.strip_prefix(RECORD), text) {
                sale.record(token, &text);
            }
        }
        Ok(())
    }

    /// Reads the members of an event's sorted set.
    async fn members(&mut self, key: &str, sale: &mut Sale) -> Result<(), SourceError> {
        let named = |(prefix, index)| Some((key.strip_prefix(prefix)?, index));
        let Some((name, index)) = SETS.into_iter().find_map(named) else {
            return Ok(());
        };
        let Some(event) = sale.event(name) else {
            return Ok(());
        };
        let mut cursor = 0;
        loop {
            let members: Vec<(Vec<u8>, f64)>;
            (cursor, members) = self.step("ZSCAN", Some(key), cursor).await?;
            for (token, score) in members {
                sale.member(event, index, &String::from_utf8_lossy(&token), score);
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: RedisError) -> SourceError {
        SourceError::Server {
            server: self.name.clone(),
            source,
        }
    }
}

/// What `CLUSTER SLOTS` answers: ranges, each its first and last slot and its servers, each its host,
/// port and more.
type Slots = Vec<Vec<Value>>;

/// The address of a server that `CLUSTER SLOTS` names, reached as the first one is. One without a
/// host is known by where it was asked.
fn at(seed: &ConnectionAddr, server: Value) -> Option<ConnectionAddr> {
    let Value::Array(server) = server else {
        return None;
    };
    let mut server = server.into_iter();
    let named: Option<String> = redis::from_redis_value(server.next()?).ok()?;
    let named = named.filter(|host| !host.is_empty());
    let own = redis::from_redis_value(server.next()?).ok()?;
    match seed.clone() {
        ConnectionAddr::Tcp(host, _) => Some(ConnectionAddr::Tcp(named.unwrap_or(host), own)),
        ConnectionAddr::TcpTls {
            host,
            insecure,
            tls_params,
            ..
        } => Some(ConnectionAddr::TcpTls {
            host: named.unwrap_or(host),
            port: own,
            insecure,
            tls_params,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_servers_are_reached_as_the_first_one() {
        let server = |host: Value| Value::Array(vec![host, Value::Int(7001), Value::Nil]);
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let plain = ConnectionAddr::Tcp("a".to_owned(), 7000);
        let tcp = |host: &str| Some(ConnectionAddr::Tcp(host.to_owned(), 7001));
        assert_eq!(at(&plain, server(text("b"))), tcp("b"));
        assert_eq!(at(&plain, server(text(""))), tcp("a"));
        assert_eq!(at(&plain, server(Value::Nil)), tcp("a"));
        assert_eq!(at(&plain, Value::Nil), None);
        let secure = "rediss://a:7000"
            .into_connection_info()
            .expect("an address");
        let reached = at(secure.addr(), server(text("b"))).map(|address| address.to_string());
        assert_eq!(reached.as_deref(), Some("b:7001"));
    }

    #[test]
    fn an_address_that_is_none_is_not_repeated() {
        for bad in [
            "",
            "localhost:6379",
            "http://:secret@a",
            "redis://:secret@a:port",
        ] {
            let Err(error) = Source::new(bad, None) else {
                panic!("{bad} was taken for an address");
            };
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
