//! Says that this node lives, and hears which others do.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::effects::StoreEffects;
use crate::model::beat::BEAT_EVERY;
use crate::model::{Beat, Micros};

/// Speaks for `own` every few seconds until `stop` says so. Failures are told by whoever needs the
/// store.
pub async fn run(mut own: Beat, effects: Arc<StoreEffects>, mut stop: watch::Receiver<bool>) {
    loop {
        own.at = Micros(effects.clock.now_micros());
        if effects.health.alone_until(own.at).is_none() {
            match effects.store.beat(own.clone()).await {
                Ok(mut beats) => {
                    let other = beats.iter().find(|beat| beat.disputes(&own));
                    if let Some(other) = other {
                        tracing::error!(
                            node = own.node.0,
                            listen = other.listen,
                            started = other.started.0,
                            "another live process has this node's number, places may be lost: stop one of the two"
                        );
                    }
                    let taken = other.is_some();
                    beats.retain(|beat| beat.node != own.node);
                    beats.push(own.clone());
                    beats.sort_by_key(|beat| beat.node);
                    effects.note_nodes(beats, taken);
                }
                Err(error) => effects.health.failed(own.at, &error),
            }
        }
        tokio::select! {
            () = sleep(BEAT_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
