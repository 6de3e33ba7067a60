//! The store on Redis or Redis Cluster, shared by a fleet.
//!
//! Every change is one script call on keys of one slot: a batch into its partition, a step of a
//! gate. A cluster redirects a single call properly, and a call that is repeated changes nothing.

mod append;
mod classify;
mod clustered;
mod desk;
mod feed;
mod gate;
mod keys;
mod layout;
mod link;
mod load;
mod meta;
mod nodes;
mod open;
mod reply;
mod rulings;
mod scripts;
mod settings;
mod survey;
mod wait;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OnceCell;

use super::{Answer, Chunk, Cursor, Feed, Meta, Position, Store, StoreError};
use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest};
use crate::model::{Batch, Beat, Change, EventId, Micros, Ruled, Ruling, Rulings, TicketId};
use keys::Keys;
use link::Link;
use scripts::{Call, Scripts};
use wait::Waiters;

pub use layout::{Layout, Master};
pub use open::{VERSION_MIN, evicts, is_known};
pub use settings::{Address, Mode, Settings};
pub use survey::{Contents, Server, Survey, survey};

/// Partitions of a store that is used for the first time, which are assumed until [`Store::meta`] says otherwise.
pub const PARTITIONS: u16 = 24;

/// A store on Redis. Ask [`Store::meta`] first: it says how many partitions the keys are made for.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

/// What calls and the tasks that carry them share.
pub struct Shared {
    settings: Settings,
    /// Made by the first call that needs it; the others wait for it meanwhile.
    link: OnceCell<Link>,
    scripts: Scripts,
    /// Swapped once at most, when the store says that it has another number of partitions.
    keys: ArcSwap<Keys>,
    waiters: Waiters,
    acknowledged: append::Acknowledged,
    desks: desk::Desks,
}

impl Deref for Redis {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Redis {
    /// A store that connects with its first call, and with the next one if that one fails.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            keys: ArcSwap::from_pointee(Keys::new(&settings.prefix, PARTITIONS)),
            settings,
            link: OnceCell::new(),
            scripts: Scripts::new(),
            waiters: Waiters::default(),
            acknowledged: append::Acknowledged::default(),
            desks: desk::Desks::default(),
        }))
    }

    /// A store that is connected.
    ///
    /// # Errors
    /// Nobody answers; or [`super::Retry::Never`] when the servers are not what `settings` say, or
    /// too old.
    pub async fn open(settings: Settings) -> Result<Self, StoreError> {
        let store = Self::new(settings);
        store.link().await?;
        Ok(store)
    }

    /// Whether it is a cluster, as far as it is known already.
    pub fn is_cluster(&self) -> bool {
        matches!(self.link.get(), Some(Link::Cluster(_)))
    }

    /// The connections. Whoever comes first makes them, and finds out by asking whether it is a
    /// cluster.
    async fn link(&self) -> Result<&Link, StoreError> {
        self.link
            .get_or_try_init(|| open::open(&self.settings))
            .await
    }

    fn base<'a>(
        &self,
        keys: &'a Keys,
        partition: u16,
        during: &'static str,
    ) -> Result<&'a str, StoreError> {
        keys.base(partition).ok_or_else(|| {
            let partitions = keys.partitions();
            let message = format!("partition {partition} of a store with {partitions}");
            StoreError::never(during, message)
        })
    }

    /// What the scripts go by instead of the server's clock; empty but in tests.
    fn injected_clock(&self) -> String {
        let clock = self.settings.clock.as_ref();
        clock.map_or_else(String::new, |clock| clock().0.to_string())
    }

    /// The first arguments of every script that writes to a feed.
    fn clock_and_feed(&self, call: &mut Call<'_>) {
        call.arg(self.injected_clock())
            .number(self.settings.feed_age.as_millis())
            .number(self.settings.feed_batches_max);
    }
}

impl Store for Redis {
    fn meta(&self, partitions: u16) -> Answer<'_, Meta> {
        Box::pin(self.do_meta(partitions))
    }

    fn generation(&self) -> u64 {
        self.acknowledged.losses()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position> {
        Box::pin(self.do_append(partition, batch))
    }

    fn feed_end(&self, partition: u16) -> Answer<'_, Position> {
        Box::pin(self.do_feed_end(partition))
    }

    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed> {
        Box::pin(self.do_follow(partition, after, limit))
    }

    fn wait(
        &self,
        partition: u16,
        after: Position,
        limit: usize,
        patience: Duration,
    ) -> Answer<'_, Feed> {
        Box::pin(self.do_wait(partition, after, limit, patience))
    }

    fn load(&self, partition: u16, from: Option<Cursor>, limit: usize) -> Answer<'_, Chunk> {
        Box::pin(self.do_load(partition, from, limit))
    }

    fn gates(&self) -> Answer<'_, Vec<GateView>> {
        Box::pin(self.do_gates())
    }

    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced> {
        Box::pin(self.do_advance(request))
    }

    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry> {
        Box::pin(self.do_enter(request))
    }

    fn settle(&self, request: SettleRequest) -> Answer<'_, ()> {
        Box::pin(self.do_settle(request))
    }

    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool> {
        Box::pin(self.do_complete(event, id))
    }

    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>> {
        Box::pin(self.do_rulings(known))
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled> {
        Box::pin(self.do_rule(event, change, at))
    }

    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()> {
        Box::pin(self.do_restore_rulings(rulings))
    }

    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()> {
        Box::pin(self.do_erase(event, until))
    }

    fn beat(&self, beat: Beat) -> Answer<'_, Vec<Beat>> {
        Box::pin(self.do_beat(beat))
    }

    fn close(&self) -> Answer<'_, ()> {
        // Whatever was answered is with the servers already.
        Box::pin(std::future::ready(Ok(())))
    }
}
