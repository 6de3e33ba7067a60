//! What goes wrong on disk.

use std::path::PathBuf;

use crate::store::StoreError;

use super::layout::Unreadable;

/// Why a folder cannot be opened as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the folder {} is in use by another process{}",
        folder.display(),
        pid.map_or(String::new(), |pid| format!(", pid {pid}"))
    )]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// Who has it, if that could be read.
        pid: Option<u32>,
    },
    /// A file or folder cannot be made, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The engine cannot read what the folder holds.
    #[error("the store in {} cannot be opened: {source}", folder.display())]
    Engine {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: fjall::Error,
    },
    /// The engine can read it, and we cannot.
    #[error("the store in {} cannot be read: {source}", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Engine(#[from] fjall::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    EventId(#[from] crate::model::EventIdError),
    #[error(
        "the store has layout {found}; this build reads layout {}",
        crate::store::FORMAT
    )]
    Layout { found: u32 },
    #[error("a cursor of another store or partition")]
    Cursor,
}

impl Failure {
    /// The failure of one call that wrote nothing yet: a read that failed may go better next time.
    pub fn of_call(self, during: &'static str) -> StoreError {
        match self {
            Self::Engine(fjall::Error::Io(_)) => StoreError::again(during, self),
            _ => StoreError::never(during, self),
        }
    }

    /// The failure of the store: it must be opened anew.
    pub fn broken(self, during: &'static str) -> StoreError {
        StoreError::never(during, self)
    }
}
