//! Where truth outlives processes: the trait, its contract, and the stores.
//!
//! A store is asked for nothing during a poll. It takes batches of records, answers with what it
//! holds after a start, hands out what other nodes wrote, and runs each gate's steps exactly once on
//! its own clock.

pub mod embedded;
pub mod fault;
mod feed;
pub mod gate;
pub mod memory;
mod merge;
pub mod redis;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest};
use crate::model::{Batch, Beat, Change, EventId, Gone, Micros, Ruled, Ruling, Rulings, TicketId};

pub use embedded::Embedded;
pub use feed::FeedLimits;
pub use memory::Memory;
pub use redis::Redis;

/// The version of the layout that this build writes, and the only one it reads.
pub const FORMAT: u32 = 1;

/// The epoch of a feed's batches that a gate wrote and no node did. Their records are
/// `Called`, `Missed` and `Entered`; their node is who asked the gate, their number the gate's
/// version after that step. Only a store that is shared writes them.
pub const FROM_THE_GATE: u32 = 0;

/// The clock of a store that runs in this process.
pub type StoreClock = Arc<dyn Fn() -> Micros + Send + Sync>;

/// What a store call answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What may be done about a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retry {
    /// Try again here: nothing is wrong but the moment.
    Again,
    /// Try again: the server that was asked is not the one to ask any more, and the store looks for
    /// the one that is.
    Elsewhere,
    /// Try again: whether it was applied is not known, and being applied twice is harmless.
    Unknown,
    /// Never: the call itself is wrong, or the store is broken. An operator must look.
    Never,
}

/// A failed call: what failed, and whether to try again.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{during}: {source}")]
pub struct StoreError {
    /// What was being done.
    pub during: &'static str,
    /// Whether trying again can help.
    pub retry: Retry,
    /// The cause.
    #[source]
    pub source: Arc<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// A failure of this class.
    pub fn new(
        during: &'static str,
        retry: Retry,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            during,
            retry,
            source: Arc::from(source.into()),
        }
    }

    /// A failure of the moment: trying again can help.
    pub fn again(
        during: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(during, Retry::Again, source)
    }

    /// A failure that trying again does not mend.
    pub fn never(
        during: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(during, Retry::Never, source)
    }
}

/// Facts fixed at first start, which every node checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The version of the layout.
    pub format: u32,
    /// How many partitions there are.
    pub partitions: u16,
    /// A random name given to the deployment when the store was first used.
    pub deployment: String,
}

impl Meta {
    /// The facts of a store that is used for the first time, under a new random name.
    pub fn new(partitions: u16) -> Self {
        Self {
            format: FORMAT,
            partitions,
            deployment: format!("{:016x}", rand::random::<u64>()),
        }
    }
}

/// Where a reader is in a feed. Opaque but for its order: later entries have greater positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u128);

/// A ticket as the store holds it. One that came back after it was removed is answered twice: its
/// removal, which still refuses older records, and its new life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In line since this arrival.
    Live {
        /// The ticket.
        id: TicketId,
        /// Its arrival.
        arrival: Micros,
    },
    /// Removed, remembered for `ticket_ttl`.
    Removed {
        /// The ticket.
        id: TicketId,
        /// When.
        at: Micros,
        /// How.
        why: Gone,
    },
}

/// A piece of what a partition holds.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Tickets, by event, in no particular order.
    pub tickets: Vec<(EventId, Vec<Stored>)>,
    /// What to pass to get the next piece; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// Where a load goes on. Opaque; only the store that made it reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// New entries of a feed.
#[derive(Debug, Default)]
pub struct Feed {
    /// Batches with their positions, oldest first.
    pub batches: Vec<(Position, Arc<Batch>)>,
    /// The asked-for position lies before what the feed still holds: reload the partition.
    pub trimmed: bool,
}

/// The contract every store keeps; one conformance suite holds all of them to it.
///
/// Every call may fail with other than [`Retry::Never`] after having been applied, so every call is
/// harmless when repeated. No call waits for ever: a store gives up by itself and says so.
pub trait Store: Send + Sync + 'static {
    /// The fixed facts; written with `partitions` if the store is new.
    ///
    /// # Errors
    /// [`Retry::Never`] when the store has another format, or is in use by another process and
    /// cannot be shared.
    fn meta(&self, partitions: u16) -> Answer<'_, Meta>;

    /// Applies a batch to its partition and appends it to the partition's feed, in one step. When
    /// it answers, the batch survives what the store's configuration promises.
    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position>;

    /// The end of a partition's feed: following from here misses nothing written later.
    fn feed_end(&self, partition: u16) -> Answer<'_, Position>;

    /// What was appended after a position, at most `limit` batches. Does not wait.
    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed>;

    /// As [`Store::follow`], but when there is nothing it waits for something as long as `patience`;
    /// how it waits costs the store about one command. A feed that began anew need not be noticed.
    /// This one asks at the beginning and at the end.
    fn wait(
        &self,
        partition: u16,
        after: Position,
        limit: usize,
        patience: Duration,
    ) -> Answer<'_, Feed> {
        Box::pin(async move {
            let feed = self.follow(partition, after, limit).await?;
            if feed.trimmed || !feed.batches.is_empty() {
                return Ok(feed);
            }
            tokio::time::sleep(patience).await;
            self.follow(partition, after, limit).await
        })
    }

    /// Changes whenever acknowledged writes may have been lost: after a reconnect, a failover, a
    /// change of topology. Whoever wrote lately writes again then, whoever reads goes back a little.
    fn generation(&self) -> u64 {
        0
    }

    /// Whether other processes may write to it, so that even a node that is alone follows it.
    fn is_shared(&self) -> bool {
        false
    }

    /// What a partition holds, in pieces of about `limit` tickets.
    fn load(&self, partition: u16, from: Option<Cursor>, limit: usize) -> Answer<'_, Chunk>;

    /// Every gate, for a start.
    fn gates(&self) -> Answer<'_, Vec<GateView>>;

    /// Gives turns; see [`gate::Gate::advance`].
    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced>;

    /// Lets one ticket in, exactly once; see [`gate::Gate::enter`].
    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry>;

    /// Teaches a gate what it may have lost; see [`gate::Gate::settle`]. Nothing to do for a store
    /// that loses nothing it has acknowledged.
    fn settle(&self, request: SettleRequest) -> Answer<'_, ()> {
        drop(request);
        Box::pin(std::future::ready(Ok(())))
    }

    /// Frees an active visitor's place. Answers whether it was held.
    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool>;

    /// What operators ruled, unless it is still of the revision `known`. One cheap command when it
    /// is; a whole reading when not.
    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>>;

    /// Makes an operator's change, asked for at `at`; see [`Rulings::rule`]. The store decides which
    /// of two changes is the later.
    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled>;

    /// Merges in rulings that the store may have lost; see [`Rulings::restore`].
    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()>;

    /// Takes out what a forgotten event left: tickets that arrived, and removals that happened, until
    /// that moment, and its gate, the latter once for each such moment. Feeds excepted.
    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()>;

    /// Says that a node lives. Answers what the nodes said before that, itself included; a store for
    /// one node has nothing to tell.
    fn beat(&self, beat: Beat) -> Answer<'_, Vec<Beat>> {
        drop(beat);
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Writes down what is still only handed to the operating system, as far as the store's promise
    /// goes, and closes. Called once, last.
    fn close(&self) -> Answer<'_, ()>;
}
