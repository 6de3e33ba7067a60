//! One room, its journal and its store, driven by hand.

use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate::clock::{Clock, ManualTime};
use tidegate::journal::lane::{Journal, Limits};
use tidegate::model::gate::{Advanced, EnterRequest, Entry};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{Kind, Micros, NodeId, Policy, Record, TicketId, TicketKey};
use tidegate::room::{Identity, Room};
use tidegate::store::fault::{Call, Fault, Faults, Faulty};
use tidegate::store::memory::{Memory, Settings};
use tidegate::store::{Answer, Store, StoreError, Stored};

use crate::room::house::{START, event, policy, settings};

const PARTITIONS: u16 = 2;
pub const EVENT: &str = "sale";

pub struct Node {
    pub room: Room,
    pub journal: Arc<Journal>,
    pub now: Micros,
    store: Faulty<Memory>,
    faults: Faults,
    time: ManualTime,
    policy: Policy,
    epoch: u32,
    /// The calls that are to fail, by number, and how.
    failing: Vec<(u32, Fault)>,
    calls: u32,
}

/// All that a store or a memory holds of the tickets: who waits since when, who went when.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub live: Vec<TicketKey>,
    pub gone: Vec<(Micros, TicketId)>,
}

impl Node {
    pub fn new(max_active: u32, failing: Vec<(u32, Fault)>) -> Self {
        let (clock, time) = Clock::manual(START.0);
        let clock = Arc::new(move || Micros(clock.now_micros()));
        let store = Faulty::new(Memory::new(Settings::default(), clock));
        let policy = Policy {
            burst: 3,
            max_active,
            ..policy()
        };
        let (room, journal) = empty(START, 1, &policy);
        Self {
            room,
            journal,
            now: START,
            faults: store.faults(),
            store,
            time,
            policy,
            epoch: 1,
            failing,
            calls: 0,
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Moves time on and does what is due; answers what gates said.
    pub fn pass(&mut self, time: Duration) -> Vec<Advanced> {
        self.now = self.now.after(time);
        self.time.set(self.now.0);
        let (mut asking, mut heard) = (Vec::new(), Vec::new());
        self.room.tick(self.now, &mut asking);
        for ask in asking {
            let request = ask.request.clone();
            let answer = self.ask(Call::Advance, |store| store.advance(request)).ok();
            heard.extend(answer.clone());
            self.room.advanced(self.now, ask, answer);
        }
        heard
    }

    pub fn enter(&mut self, request: &EnterRequest) -> Result<Entry, StoreError> {
        self.ask(Call::Enter, |store| store.enter(request.clone()))
    }

    pub fn complete(&mut self, id: TicketId) -> Result<bool, StoreError> {
        self.ask(Call::Complete, |store| store.complete(event(EVENT), id))
    }

    /// Sends what the journal holds, each batch once. Answers whether the store has it all.
    pub fn flush(&mut self) -> bool {
        for lane in 0..PARTITIONS {
            let old = self.journal.unacknowledged(lane);
            let batch = old.or_else(|| self.journal.cut(lane, self.now, self.now, true));
            let Some(batch) = batch else { continue };
            if self
                .ask(Call::Append, |store| store.append(lane, batch))
                .is_ok()
            {
                self.journal.acknowledge(lane);
            }
        }
        self.journal.depth() == 0
    }

    /// Loses the memory, and loads what the store holds.
    pub fn crash(&mut self) {
        self.epoch += 1;
        (self.room, self.journal) = empty(self.now, self.epoch, &self.policy);
        let Holding { live, gone: _ } = self.stored();
        let event = event(EVENT);
        let removed: Vec<_> = self.chunks().filter_map(removed).collect();
        self.room.restore_removed(self.now, &event, &removed);
        self.room.restore_live(self.now, &event, &live);
        for gate in now(self.store.inner().gates()).unwrap() {
            self.room.restore_gate(self.now, &gate);
        }
        self.room.set_loaded(true);
    }

    pub fn heal(&mut self) {
        self.failing.clear();
        self.faults.heal();
    }

    /// What the store holds.
    pub fn stored(&self) -> Holding {
        let mut holding = Holding::default();
        for ticket in self.chunks() {
            match ticket {
                Stored::Live { id, arrival } => holding.live.push(TicketKey { arrival, id }),
                Stored::Removed { id, at, .. } => holding.gone.push((at, id)),
            }
        }
        holding.sorted()
    }

    /// What memory holds.
    pub fn remembered(&self) -> Holding {
        let mut holding = Holding::default();
        for lane in 0..PARTITIONS {
            self.room.dump(lane, Micros(0), |_, records| {
                for Record { kind, id, at } in records {
                    match kind {
                        Kind::Joined => holding.live.push(TicketKey { arrival: at, id }),
                        _ if kind.gone().is_some() => holding.gone.push((at, id)),
                        _ => {}
                    }
                }
            });
        }
        holding.sorted()
    }

    fn chunks(&self) -> impl Iterator<Item = Stored> {
        let load = |partition| now(self.store.inner().load(partition, None, 1_000)).unwrap();
        let chunks = (0..PARTITIONS).map(load);
        let tickets = chunks.flat_map(|chunk| chunk.tickets);
        tickets.flat_map(|(_, tickets)| tickets)
    }

    /// Makes a call, which fails if it is one of those that are to.
    fn ask<'a, T>(
        &'a mut self,
        call: Call,
        ask: impl FnOnce(&'a dyn Store) -> Answer<'a, T>,
    ) -> Result<T, StoreError> {
        self.calls += 1;
        let due = |(number, _): &&(u32, Fault)| *number == self.calls;
        let Some((_, how)) = self.failing.iter().find(due) else {
            // The way through the faults costs more than the call.
            return now(ask(self.store.inner()));
        };
        self.faults.fail(call, 1, *how);
        now(ask(&self.store))
    }
}

impl Holding {
    fn sorted(mut self) -> Self {
        self.live.sort_unstable();
        self.gone.sort_unstable();
        self
    }
}

fn removed(ticket: Stored) -> Option<(TicketId, Micros, tidegate::model::Gone)> {
    match ticket {
        Stored::Removed { id, at, why } => Some((id, at, why)),
        Stored::Live { .. } => None,
    }
}

fn empty(now: Micros, epoch: u32, policy: &Policy) -> (Room, Arc<Journal>) {
    let limits = Limits {
        records_max: 10_000,
        batch_records: 8,
        batch_bytes: 1 << 16,
        flush_interval: Duration::from_millis(10),
        patient_interval: Duration::from_millis(200),
        tail_records: 0,
    };
    let journal = Arc::new(Journal::new(PARTITIONS, NodeId(0), epoch, limits));
    let keys = keys().clone();
    let identity = Identity {
        node: NodeId(0),
        fleet: 1,
        epoch,
        events_max: 4,
        skew_max: Duration::from_secs(1),
        lag_max: Duration::from_millis(500),
        share_limit: Duration::from_secs(300),
    };
    let settings = settings(policy.clone());
    let room = Room::new(now, identity, settings, keys, Arc::clone(&journal));
    room.set_loaded(true);
    (room, journal)
}

/// What signs, made once.
pub fn keys() -> &'static (TicketKeys, PassKeys) {
    static KEYS: LazyLock<(TicketKeys, PassKeys)> = LazyLock::new(|| {
        let key = [("k1".to_owned(), [7; 32])];
        let ticket = TicketKeys::new("k1", &key).unwrap();
        (ticket, PassKeys::new("k1", &key).unwrap())
    });
    &KEYS
}

/// What a store that never waits answers.
fn now<T>(answer: Answer<'_, T>) -> Result<T, StoreError> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a store in memory does not wait"),
    }
}
