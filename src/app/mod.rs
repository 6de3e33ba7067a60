//! The composition root: what runs, in which order it starts and stops.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Sources, Watch, WatchError};
use crate::telemetry::logging::LogHandle;

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
}

/// Runs until `SIGTERM` or `SIGINT`. `sources` are where `config` came from, for reloads.
pub async fn run(config: Config, sources: Sources, log: LogHandle) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let watch = Watch::new(sources, Arc::new(config))?;
    let mut current = watch.subscribe();
    let follow_log_level = async {
        while current.changed().await.is_ok() {
            log.set(&current.borrow_and_update().log.level);
        }
    };
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::join!(watch.run(stop), follow_log_level);
    Ok(())
}
