//! The one thread that writes: it takes all calls that wait, writes what they change in one batch,
//! and answers them all.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, OnceLock};

use crate::store::StoreError;

use super::desk::Desk;
use super::{Failure, Fsync, Settings};

/// How many calls may wait for the writer. More are refused.
pub(super) const WAITING_MAX: usize = 4_096;
/// A group is closed at this many changed keys, so that no call waits long for others.
const GROUP_KEYS_MAX: usize = 16_384;

/// Answers a call, once its group is written or failed.
pub(super) type Ack = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// What a call does at the desk.
pub(super) type Step = Box<dyn FnOnce(&mut Desk) -> Ack + Send>;
/// Why nothing is written any more, once that is so.
pub(super) type Broken = Arc<OnceLock<StoreError>>;

/// Runs until asked to close, until nobody can ask any more, or until a write fails. After a failed
/// write memory may be ahead of the disk, so nothing more is answered from it.
pub(super) fn run(mut desk: Desk, steps: Receiver<Step>, settings: Settings, broken: Broken) {
    let mut acks = Vec::new();
    let mut unsynced = false;
    let mut synced_at = desk.now();
    while !desk.closing {
        let idle = match steps.recv_timeout(settings.fsync_interval) {
            Ok(step) => {
                acks.push(step(&mut desk));
                false
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        while !desk.closing
            && desk.writes.len() < GROUP_KEYS_MAX
            && let Ok(step) = steps.try_recv()
        {
            acks.push(step(&mut desk));
        }
        let now = desk.now();
        let due = idle || now < synced_at || now.since(synced_at) >= settings.fsync_interval;
        let mut outcome = write(&mut desk, settings.fsync, &mut unsynced);
        if outcome.is_ok() && (desk.closing || settings.fsync == Fsync::Interval && unsynced && due)
        {
            outcome = desk.disk.sync().map_err(Failure::from);
            (unsynced, synced_at) = (false, now);
        }
        let outcome = outcome.map_err(|failure| {
            tracing::error!(error = %failure, "a write failed; the store takes no more calls");
            let error = failure.broken("write to the store's folder");
            broken.get_or_init(|| error).clone()
        });
        for ack in acks.drain(..) {
            ack(outcome.clone());
        }
        if outcome.is_err() {
            return;
        }
    }
    if settings.fsync != Fsync::Never
        && let Err(error) = desk.disk.sync()
    {
        tracing::error!(%error, "the last sync failed");
    }
}

fn write(desk: &mut Desk, fsync: Fsync, unsynced: &mut bool) -> Result<(), Failure> {
    desk.forget_removed()?;
    if desk.writes.len() > 0 {
        desk.disk.commit(&mut desk.writes, fsync)?;
        *unsynced = fsync != Fsync::Always;
    }
    Ok(())
}
