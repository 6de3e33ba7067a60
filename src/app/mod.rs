//! The composition root: what runs, in which order it starts and stops.

mod effects;
mod load;
mod parts;
mod turns;

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
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::store::embedded::OpenError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A key cannot be used.
    #[error(transparent)]
    TicketKey(#[from] crate::model::token::KeyError),
    /// A key cannot be used.
    #[error(transparent)]
    PassKey(#[from] crate::model::pass::PassKeyError),
    /// Not in this version.
    #[error("store.kind = \"redis\" is not served by this version; use \"embedded\"")]
    NoRedis,
}
