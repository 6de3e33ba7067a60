//! A store that does not answer at the start: waited for, or served without until it does.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use super::work::{Handles, Work};
use super::{RunError, load};
use crate::config::StoreStart;
use crate::store::Retry;

/// A store that does not answer is tried this often.
const RETRY_EVERY: Duration = Duration::from_secs(3);

/// Whether trying again can help.
fn may_pass(error: &RunError) -> bool {
    matches!(error, RunError::Store(error) if error.retry != Retry::Never)
}

/// Tries until the store answers, and says so while it does not; or, if it is to be served without,
/// once and for as long as `patience`: `None` is no answer then. What no waiting mends is handed on.
pub async fn answered<T>(
    start: StoreStart,
    patience: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, RunError>,
) -> Result<Option<T>, RunError> {
    let told = "the store does not answer, serving without it: nobody is called until it does";
    loop {
        let answer = match start {
            StoreStart::Wait => attempt().await,
            StoreStart::Serve => match timeout(patience, attempt()).await {
                Ok(answer) => answer,
                Err(_) => {
                    tracing::error!(waited_ms = patience.as_millis() as u64, "{told}");
                    return Ok(None);
                }
            },
        };
        match answer {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) if !may_pass(&error) => return Err(error),
            Err(error) if start == StoreStart::Serve => {
                tracing::error!(%error, "{told}");
                return Ok(None);
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for the store to answer before the start");
                sleep(RETRY_EVERY).await;
            }
        }
    }
}

/// Loads a store that was served without as soon as it answers, and starts the work with it. `None`
/// when it was stopped before, or when `failed` was told that the node does not fit the store.
pub async fn catch_up(
    stale_after: Duration,
    handles: Handles,
    mut stop: watch::Receiver<bool>,
    failed: oneshot::Sender<RunError>,
) -> Option<Work> {
    let Handles {
        room,
        store,
        health,
        clock,
        ..
    } = &handles;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return None,
            () = sleep(RETRY_EVERY) => {}
        }
        let loading = load::load(room, store, clock);
        let loaded = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return None,
            loaded = loading => loaded,
        };
        match loaded {
            Ok(loaded) => {
                health.found();
                room.set_loaded(true);
                tracing::info!("the store answers and was merged in, turns are called from now on");
                return Some(Work::start(stale_after, &handles, loaded));
            }
            Err(error) if error.retry == Retry::Never => {
                // Nobody listens only when the node is being stopped anyway.
                let _ = failed.send(error.into());
                return None;
            }
            Err(error) => tracing::warn!(%error, "still serving without the store"),
        }
    }
}
