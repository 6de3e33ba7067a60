//! Waiting for something new in a feed, on connections of its own: a blocking read would hold up
//! every other command on its connection.

use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ServerErrorKind, Value};

use super::classify::classified;
use super::link::{connect, connect_any};
use super::reply::Reply;
use super::settings::{Address, Settings};
use super::{Redis, feed, keys};
use crate::store::{Feed, Position, StoreError};

/// How often a server may send us on to another one.
const REDIRECTIONS_MAX: u32 = 4;

/// Idle connections by partition. One is taken out while it is used, so the lock is held for a move
/// only.
#[derive(Default)]
pub(super) struct Waiters(Mutex<AHashMap<u16, MultiplexedConnection>>);

impl Redis {
    pub(super) async fn do_wait(
        &self,
        partition: u16,
        after: Position,
        limit: usize,
        patience: Duration,
    ) -> Result<Feed, StoreError> {
        const DURING: &str = "wait for a feed";
        let keyring = self.keys.load_full();
        let feed = keys::feed(self.base(&keyring, partition, DURING)?);
        let mut read = redis::cmd("XREAD");
        // 0 would mean for ever.
        read.arg("COUNT")
            .arg(limit.max(1))
            .arg("BLOCK")
            .arg(patience.as_millis().max(1) as u64);
        read.arg("STREAMS").arg(feed).arg(feed::show(after));
        let kept = self.waiters.0.lock().remove(&partition);
        let mut settings = self.settings.clone();
        settings.addresses = self.link().await?.servers(&self.settings);
        let asked = ask(&settings, kept, &read, patience).await;
        let (answer, connection) = asked.map_err(|error| classified(DURING, error))?;
        self.waiters.0.lock().insert(partition, connection);
        // One stream was asked for: its name, and its entries.
        let reply = Reply(DURING);
        let Some(stream) = reply.list(answer)?.pop() else {
            return Ok(Feed::default());
        };
        let entries = reply.list(stream)?.pop().unwrap_or(Value::Nil);
        feed::read(reply.list(entries)?, after)
    }
}

/// Asks the server that holds the feed, wherever that turns out to be. A connection that failed is
/// not given back.
async fn ask(
    settings: &Settings,
    kept: Option<MultiplexedConnection>,
    read: &redis::Cmd,
    patience: Duration,
) -> RedisResult<(Value, MultiplexedConnection)> {
    let mut kept = kept;
    let mut connection = match &kept {
        Some(kept) => kept.clone(),
        None => connect_any(settings).await?.0,
    };
    let mut asking = false;
    for _ in 0..REDIRECTIONS_MAX {
        connection.set_response_timeout(patience + settings.response_timeout);
        if std::mem::take(&mut asking) {
            // Lets the next command in to a slot that is on its way.
            let _: Value = redis::cmd("ASKING").query_async(&mut connection).await?;
        }
        let error = match read.query_async(&mut connection).await {
            Ok(answer) => return Ok((answer, connection)),
            Err(error) => error,
        };
        if kept.take().is_some() && error.is_connection_dropped() {
            // It broke while it was idle, which says nothing of the servers now.
            connection = connect_any(settings).await?.0;
            continue;
        }
        let Some(address) = error.redirect_node().and_then(|(node, _)| parse(node)) else {
            return Err(error);
        };
        asking = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        connection = connect(settings, &address, settings.response_timeout).await?;
    }
    let kind = ErrorKind::ClusterConnectionNotFound;
    Err((kind, "servers send each other's readers on and on").into())
}

fn parse(node: &str) -> Option<Address> {
    let (host, port) = node.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Address {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}
