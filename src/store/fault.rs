//! A store that fails on demand, for tests: held calls, failed calls, counted calls.

use std::sync::Arc;

use tokio::sync::watch;

use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest};
use crate::model::{Batch, Beat, Change, EventId, Micros, Ruled, Ruling, Rulings, TicketId};

use super::{Answer, Chunk, Cursor, Feed, Meta, Position, Store, StoreError};

/// The kinds of calls, one for each function of [`Store`].
#[expect(missing_docs, reason = "each is named as the function it stands for")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Meta,
    Append,
    FeedEnd,
    Follow,
    Load,
    Gates,
    Advance,
    Enter,
    Settle,
    Complete,
    Rulings,
    Rule,
    RestoreRulings,
    Erase,
    Beat,
    Close,
}

/// How many kinds there are.
const CALLS: usize = Call::Close as usize + 1;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It never reaches the store.
    Lost,
    /// It is applied, and the answer is lost.
    Unanswered,
    /// It is refused, and trying again does not help.
    Refused,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    calls: [u64; CALLS],
    faults: [Option<(Fault, u32)>; CALLS],
}

/// The handle to a [`Faulty`] store. Clones share it.
#[derive(Debug, Clone)]
pub struct Faults(Arc<watch::Sender<State>>);

impl Faults {
    /// Lets no call through until [`Faults::release`]. Those under way are not affected.
    pub fn hold(&self) {
        self.0.send_modify(|state| state.held = true);
    }

    /// Lets held calls, and all later ones, through.
    pub fn release(&self) {
        self.0.send_modify(|state| state.held = false);
    }

    /// Fails the next `times` calls of this kind; replaces what was asked for before. `u32::MAX` is
    /// for ever.
    pub fn fail(&self, call: Call, times: u32, fault: Fault) {
        self.0
            .send_modify(|state| state.faults[call as usize] = Some((fault, times)));
    }

    /// Fails no call any more, and holds none.
    pub fn heal(&self) {
        self.0.send_modify(|state| {
            state.held = false;
            state.faults = Default::default();
        });
    }

    /// How many calls of this kind were made, held and failed ones included.
    pub fn calls(&self, call: Call) -> u64 {
        self.0.borrow().calls[call as usize]
    }

    /// Waits until `count` calls of this kind were made since the start, held and failed ones
    /// included: what a test waits on instead of time.
    pub async fn called(&self, call: Call, count: u64) {
        let mut states = self.0.subscribe();
        // It fails only when the sender is gone, and `self` is one.
        let _ = states
            .wait_for(|state| state.calls[call as usize] >= count)
            .await;
    }

    /// Counts a call, waits while calls are held, and says how this one fails.
    async fn fate(&self, call: Call) -> Option<Fault> {
        let mut states = self.0.subscribe();
        self.0.send_modify(|state| state.calls[call as usize] += 1);
        let _ = states.wait_for(|state| !state.held).await;
        let mut fate = None;
        self.0.send_if_modified(|state| {
            if let Some((fault, times)) = &mut state.faults[call as usize]
                && *times > 0
            {
                fate = Some(*fault);
                *times -= u32::from(*times != u32::MAX);
            }
            fate.is_some()
        });
        fate
    }
}

/// A store that does what its [`Faults`] say, and else what the store inside does.
#[derive(Debug)]
pub struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S: Store> Faulty<S> {
    /// Wraps a store. It fails nothing until asked to.
    pub fn new(store: S) -> Self {
        Self {
            store,
            faults: Faults(Arc::new(watch::Sender::default())),
        }
    }

    /// The handle by which faults are asked for.
    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// The store inside, which never fails.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn run<'a, T: Send + 'a>(
        &'a self,
        call: Call,
        inner: impl FnOnce(&'a S) -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            match self.faults.fate(call).await {
                None => inner(&self.store).await,
                Some(Fault::Lost) => Err(StoreError::again("reach the store", "lost by a test")),
                Some(Fault::Unanswered) => {
                    inner(&self.store).await?;
                    Err(StoreError::again("hear the store", "lost by a test"))
                }
                Some(Fault::Refused) => {
                    Err(StoreError::never("ask the store", "refused by a test"))
                }
            }
        })
    }
}

impl<S: Store> Store for Faulty<S> {
    fn meta(&self, partitions: u16) -> Answer<'_, Meta> {
        self.run(Call::Meta, move |store| store.meta(partitions))
    }

    fn append(&self, partition: u16, batch: Arc<Batch>) -> Answer<'_, Position> {
        self.run(Call::Append, move |store| store.append(partition, batch))
    }

    fn feed_end(&self, partition: u16) -> Answer<'_, Position> {
        self.run(Call::FeedEnd, move |store| store.feed_end(partition))
    }

    fn follow(&self, partition: u16, after: Position, limit: usize) -> Answer<'_, Feed> {
        self.run(Call::Follow, move |store| {
            store.follow(partition, after, limit)
        })
    }

    fn generation(&self) -> u64 {
        self.store.generation()
    }

    fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    fn load(&self, partition: u16, from: Option<Cursor>, limit: usize) -> Answer<'_, Chunk> {
        self.run(Call::Load, move |store| store.load(partition, from, limit))
    }

    fn gates(&self) -> Answer<'_, Vec<GateView>> {
        self.run(Call::Gates, |store| store.gates())
    }

    fn advance(&self, request: AdvanceRequest) -> Answer<'_, Advanced> {
        self.run(Call::Advance, move |store| store.advance(request))
    }

    fn enter(&self, request: EnterRequest) -> Answer<'_, Entry> {
        self.run(Call::Enter, move |store| store.enter(request))
    }

    fn settle(&self, request: SettleRequest) -> Answer<'_, ()> {
        self.run(Call::Settle, |store| store.settle(request))
    }

    fn complete(&self, event: EventId, id: TicketId) -> Answer<'_, bool> {
        self.run(Call::Complete, move |store| store.complete(event, id))
    }

    fn rulings(&self, known: u64) -> Answer<'_, Option<Rulings>> {
        self.run(Call::Rulings, move |store| store.rulings(known))
    }

    fn rule(&self, event: EventId, change: Change, at: Micros) -> Answer<'_, Ruled> {
        self.run(Call::Rule, move |store| store.rule(event, change, at))
    }

    fn restore_rulings(&self, rulings: Vec<(EventId, Ruling)>) -> Answer<'_, ()> {
        self.run(Call::RestoreRulings, move |store| {
            store.restore_rulings(rulings)
        })
    }

    fn erase(&self, event: EventId, until: Micros) -> Answer<'_, ()> {
        self.run(Call::Erase, move |store| store.erase(event, until))
    }

    fn beat(&self, beat: Beat) -> Answer<'_, Vec<Beat>> {
        self.run(Call::Beat, |store| store.beat(beat))
    }

    fn close(&self) -> Answer<'_, ()> {
        self.run(Call::Close, |store| store.close())
    }
}
