//! The store of a single node: a folder, written by one thread in groups.
//!
//! Calls hand a step to the writer and wait. The writer takes all that wait, works them out in order
//! on its [`desk`], writes one atomic batch, and answers them all. Reads of tickets go beside it.

mod desk;
mod disk;
mod erase;
mod error;
mod layout;
mod load;
mod lock;
mod survey;
mod tail;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView};
use crate::model::{Batch, Change, EventId, Micros, Ruled, Ruling, Rulings, TicketId, micros};

use super::feed::Ring;
use super::{
    Answer, Chunk, Cursor, FORMAT, Feed, FeedLimits, Meta, Position, Store, StoreClock, StoreError,
};
use desk::Desk;
use disk::{Disk, Table, Writes};
use erase::Erasing;
use lock::FolderLock;
use writer::{Ack, Broken, Step};

use error::Failure;
pub use error::OpenError;
pub use survey::{Survey, survey};

/// How long a call waits for the disk before it gives up.
const PATIENCE: Duration = Duration::from_secs(10);

/// When what is acknowledged is forced to the disk. Whatever is chosen, a batch that was
/// acknowledged survives the death of the process (`kill -9`, a panic, running out of memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fsync {
    /// Before it is acknowledged, once for all calls that wait (`fdatasync`): survives the death of
    /// the machine (power loss, kernel panic). A call waits for the disk, 0.1 to 10 ms.
    Always,
    /// Every [`Settings::fsync_interval`]: the death of the machine costs at most what was
    /// acknowledged in the last interval.
    #[default]
    Interval,
    /// When the operating system sees fit: the death of the machine costs what it had not written
    /// yet, on Linux commonly the last 30 seconds.
    Never,
}

/// How an [`Embedded`] keeps what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// When it is forced to the disk.
    pub fsync: Fsync,
    /// How often, for [`Fsync::Interval`].
    pub fsync_interval: Duration,
    /// Removals are remembered this long; the longest `ticket_ttl` of any event.
    pub keep_removed: Duration,
    /// How much of each feed is kept in memory. One node follows nobody but itself, so little.
    pub feed: FeedLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            fsync_interval: Duration::from_secs(1),
            keep_removed: Duration::from_secs(6 * 60 * 60),
            feed: FeedLimits {
                records_max: 1_024,
                ..FeedLimits::default()
            },
        }
    }
}

/// A store in a folder, for one process. Calls need a tokio runtime whose timer is on and not
/// paused: the disk works in real time.
///
/// Dropping it without [`Store::close`] loses nothing that was acknowledged. A write that fails ends
/// it: every later call is refused with the cause, since memory may be ahead of the disk, until the
/// folder is opened anew.
pub struct Embedded {
    /// `None` only while it is dropped.
    steps: Option<SyncSender<Step>>,
    writer: Option<JoinHandle<()>>,
    /// Shut by the writer when it ends, however it ends.
    writing: Mutex<Receiver<()>>,
    broken: Broken,
    disk: Disk,
    feeds: Arc<Mutex<Feeds>>,
    /// Held while a secret is looked up and made.
    secrets: Mutex<()>,
    settings: Settings,
    clock: StoreClock,
    /// Last, so that the folder is let go of when all else has ended.
    _lock: FolderLock,
}

/// The feeds since this start. Those of earlier starts are gone, and their positions lie before.
struct Feeds {
    start: Position,
    rings: AHashMap<u16, Ring>,
}

impl Feeds {
    fn of(&mut self, partition: u16) -> &mut Ring {
        let start = self.start;
        self.rings
            .entry(partition)
            .or_insert_with(|| Ring::new(start))
    }
}

impl Embedded {
    /// Opens the store in `folder`, made (for this user alone) if there is none. What a crash left
    /// torn at the end of the newest journal file is cut off, with a warning.
    ///
    /// It reads the gates and replays what was not yet in tables: about a second per million
    /// changes. Blocks.
    ///
    /// # Errors
    /// The folder is in use, cannot be read or written, or holds something else.
    pub fn open(
        folder: impl AsRef<Path>,
        settings: Settings,
        clock: StoreClock,
    ) -> Result<Self, OpenError> {
        let folder = folder.as_ref();
        make(folder)?;
        let lock = FolderLock::take(folder)?;
        let disk = Disk::open(&folder.join("db"))?;
        let unreadable = |failure: Failure| OpenError::Unreadable {
            folder: folder.to_owned(),
            source: failure.into(),
        };
        let opened = count_opening(&disk).map_err(unreadable)?;
        let desk = Desk::open(disk.clone(), settings, Arc::clone(&clock)).map_err(unreadable)?;
        let (steps, waiting) = sync_channel(writer::WAITING_MAX);
        let (ends, writing) = sync_channel(0);
        let broken = Broken::default();
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let broken = Arc::clone(&broken);
                move || {
                    let _ends: SyncSender<()> = ends;
                    writer::run(desk, waiting, settings, broken);
                }
            })
            .map_err(|source| OpenError::Io {
                path: PathBuf::from("the writer's thread"),
                source,
            })?;
        Ok(Self {
            steps: Some(steps),
            writer: Some(writer),
            writing: Mutex::new(writing),
            broken,
            disk,
            feeds: Arc::new(Mutex::new(Feeds {
                start: Position(u128::from(opened) << 64),
                rings: AHashMap::default(),
            })),
            secrets: Mutex::new(()),
            settings,
            clock,
            _lock: lock,
        })
    }

    /// A secret that was made at random when first asked for by this name, and stays the same.
    /// Meant for keys of a development set-up; it lies readable in the folder. Blocks.
    ///
    /// # Errors
    /// The disk fails.
    pub fn dev_secret(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let _made_once = self.secrets.lock();
        let during = "make a development secret";
        let key = layout::secret(name);
        let mut writes = Writes::default();
        let read = self.disk.get(&writes, Table::Facts, key.clone());
        let read = read.map_err(|error| Failure::from(error).of_call(during))?;
        match read {
            Some(secret) => secret.try_into().map_err(|other: Vec<u8>| {
                let what = format!("a secret of {} bytes, not 32", other.len());
                StoreError::never(during, what)
            }),
            None => {
                let secret: [u8; 32] = rand::random();
                writes.put(Table::Facts, key, secret.to_vec());
                let written = self.disk.commit(&mut writes, Fsync::Always);
                written.map_err(|error| Failure::from(error).broken(during))?;
                Ok(secret)
            }
        }
    }

    /// Has the writer do `work`; once that is written, `work`'s own result is called for the answer.
    fn step<'a, T, F>(
        &'a self,
        during: &'static str,
        work: impl FnOnce(&mut Desk) -> Result<F, Failure> + Send + 'static,
    ) -> Answer<'a, T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let step = move |desk: &mut Desk| -> Ack {
                let done = work(desk).map_err(|failure| failure.of_call(during));
                Box::new(move |written| {
                    // Nobody listens any more when the caller gave up.
                    let _ = tell.send(written.and(done).map(|done| done()));
                })
            };
            let sent = match &self.steps {
                Some(steps) => steps.try_send(Box::new(step)),
                None => return Err(self.gone(during)),
            };
            match sent {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    let full = format!("{} calls are waiting for the disk", writer::WAITING_MAX);
                    return Err(StoreError::again(during, full));
                }
                Err(TrySendError::Disconnected(_)) => return Err(self.gone(during)),
            }
            match tokio::time::timeout(PATIENCE, told).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(self.gone(during)),
                Err(_) => Err(StoreError::again(
                    during,
                    format!("the disk took longer than {} s", PATIENCE.as_secs()),
                )),
            }
        })
    }

    /// Why the writer takes nothing any more.
    fn gone(&self, during: &'static str) -> StoreError {
        let unknown = || StoreError::never(during, "the store is closed, or its writer died");
        self.broken.get().cloned().unwrap_or_else(unknown)
    }

    /// Reads on a thread that may block.
    fn read<T: Send + 'static>(
        &self,
        during: &'static str,
        work: impl FnOnce(&Disk) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'_, T> {
        let disk = self.disk.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&disk)).await;
            match done {
                Ok(done) => done.map_err(|failure| failure.of_call(during)),
                Err(died) => Err(StoreError::never(during, died)),
            }
        })
    }

    fn horizon(&self) -> Micros {
        let now = (self.clock)();
        Micros(now.0.saturating_sub(micros(self.settings.keep_removed)))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        drop(self.steps.take());
        // The engine waits for ever for room it cannot get; we do not wait for it.
        if self.writing.get_mut().recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("the store's writer does not end and is left behind");
            return;
        }
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the store's writer had died");
        }
    }
}

impl Store for Embedded {
    fn meta(&self, partitions: u16) -> Answer<'_, Meta> {
        self.step("read the fixed facts", move |desk| {
            let meta = desk.meta(partitions)?;
            if meta.format != FORMAT {
                return Err(Failure::Layout { found: meta.format });
            }
            Ok(move || meta)
        })
    }

    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position> {
        let feeds = Arc::clone(&self.feeds);
        let limits = self.settings.feed;
        self.step("append a batch", move |desk| {
            desk.append(partition, &batch)?;
            let now = desk.now();
            Ok(move || feeds.lock().of(partition).push(now, batch, &limits))
        })
    }

    fn feed_end(&self, partition: u16) -> Answer<'_, Position> {
        Box::pin(async move { Ok(self.feeds.lock().of(partition).end()) })
    }

    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed> {
        Box::pin(async move { Ok(self.feeds.lock().of(partition).follow(after, limit)) })
    }

    fn load(&self, partition: u16, from: Option<Cursor>, limit: usize) -> Answer<'_, Chunk> {
        let horizon = self.horizon();
        self.read("load a partition", move |disk| {
            load::chunk(disk, partition, from, limit.max(1), horizon)
        })
    }

    fn gates(&self) -> Answer<'_, Vec<GateView>> {
        self.step("read the gates", |desk| {
            let gates = desk.gates();
            Ok(move || gates)
        })
    }

    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced> {
        self.step("advance a gate", move |desk| {
            let answer = desk.advance(&request);
            Ok(move || answer)
        })
    }

    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry> {
        self.step("enter", move |desk| {
            let answer = desk.enter(&request);
            Ok(move || answer)
        })
    }

    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool> {
        self.step("complete", move |desk| {
            let held = desk.complete(&event, &id);
            Ok(move || held)
        })
    }

    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>> {
        self.step("read the rulings", move |desk| {
            let rulings = desk.rulings(known);
            Ok(move || rulings)
        })
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled> {
        self.step("rule on an event", move |desk| {
            let ruled = desk.rule(&event, &change, at);
            Ok(move || ruled)
        })
    }

    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()> {
        self.step("restore rulings", move |desk| {
            desk.restore_rulings(rulings);
            Ok(|| ())
        })
    }

    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut at = Some(Erasing::new(event, until));
            while let Some(here) = at {
                let step = self.step("erase an event", move |desk| {
                    let next = desk.erase(here)?;
                    Ok(move || next)
                });
                at = step.await?;
            }
            Ok(())
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        self.step("close", |desk| {
            desk.closing = true;
            Ok(|| ())
        })
    }
}

/// Counts this start, for good before anything is answered, so that positions never repeat.
fn count_opening(disk: &Disk) -> Result<u64, Failure> {
    let mut writes = Writes::default();
    let before = disk.get(&writes, Table::Facts, layout::OPENED.to_vec())?;
    let before = before.and_then(|value| Some(u64::from_be_bytes(value.try_into().ok()?)));
    let opened = before.unwrap_or_default();
    let next = opened.saturating_add(1).to_be_bytes().to_vec();
    writes.put(Table::Facts, layout::OPENED.to_vec(), next);
    disk.commit(&mut writes, Fsync::Always)?;
    Ok(opened)
}

fn make(folder: &Path) -> Result<(), OpenError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|source| OpenError::Io {
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
