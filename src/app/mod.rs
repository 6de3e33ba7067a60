//! The composition root: what runs, in which order it starts and stops.
//!
//! Start: store → keys → room → listeners (answering "loading") → load → ready → turns, flushing.
//! Stop: not ready → requests drained → turns stopped → journal flushed → store closed.

mod beats;
mod effects;
mod import;
mod late;
mod load;
mod node;
mod parts;
mod refill;
mod rulings;
mod scrape;
mod turns;
mod work;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Config, Sources, Watch, WatchError};
use crate::http::{self, Shared};
use crate::room::Room;
use crate::telemetry::logging::LogHandle;

pub use effects::StoreEffects;
pub use import::{Import, ImportError, OrderError};
pub use late::catch_up;
pub use load::{Loaded, load};
pub use node::Node;
pub use parts::{Keys, PARTITIONS, redis_settings};
pub use work::{Handles, Work};

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration cannot be watched.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The signals that ask for a stop cannot be listened to.
    #[error("cannot listen for signals: {0}")]
    Signal(#[from] std::io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::store::embedded::OpenError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A ticket key cannot be used.
    #[error(transparent)]
    TicketKey(#[from] crate::model::token::KeyError),
    /// A pass key cannot be used.
    #[error(transparent)]
    PassKey(#[from] crate::model::pass::PassKeyError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The certificate authorities of Redis cannot be read.
    #[error("redis.ca cannot be read: {0}")]
    RedisCa(std::io::Error),
    /// Keys that a node makes for itself are of no use to others.
    #[error("a redis store needs keys that all nodes share: set [keys]")]
    NoKeys,
}

/// Runs until `SIGTERM` or `SIGINT`. `sources` are where `config` came from, for reloads.
///
/// # Errors
/// It cannot start, and nothing was answered; or it was served without its store and turned out not
/// to fit it.
pub async fn run(config: Config, sources: Sources, log: LogHandle) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let config = Arc::new(config);
    let descriptors = http::raise_descriptor_limit();
    if descriptors < config.limits.connections as u64 {
        tracing::warn!(
            descriptors,
            "fewer open files are allowed than limits.connections"
        );
    }
    let clock = Clock::real(config.fleet.max_clock_skew);
    let watch = Watch::new(sources, Arc::clone(&config))?;
    let changes = watch.subscribe();
    let watching = tokio::spawn(watch.run(std::future::pending()));
    let starting = async {
        let (store, keys) = parts::store_and_keys(&config, &clock)?;
        Node::start(&config, clock.clone(), store, keys).await
    };
    let mut node = tokio::select! {
        node = starting => node?,
        _ = terminate.recv() => {
            tracing::info!("SIGTERM received before the start");
            return Ok(());
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT received before the start");
            return Ok(());
        }
    };
    let following = tokio::spawn(follow(
        Arc::clone(&node.room),
        Arc::clone(&node.shared),
        changes,
        log,
    ));
    let ended = tokio::select! {
        _ = terminate.recv() => {
            tracing::info!("SIGTERM received, draining");
            Ok(())
        }
        _ = interrupt.recv() => {
            tracing::info!("SIGINT received, draining");
            Ok(())
        }
        error = node.failed() => {
            tracing::error!(%error, "this node does not fit its store, draining");
            Err(error)
        }
    };
    watching.abort();
    following.abort();
    node.stop(&config).await;
    ended
}

/// Applies what may change at run time.
async fn follow(
    room: Arc<Room>,
    shared: Arc<Shared>,
    mut changes: watch::Receiver<Arc<Config>>,
    log: LogHandle,
) {
    while changes.changed().await.is_ok() {
        let config = Arc::clone(&changes.borrow_and_update());
        log.set(&config.log.level);
        shared.set(parts::http_settings(&config));
        room.reconfigure(shared.now(), parts::room_settings(&config));
    }
}
