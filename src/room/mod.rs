//! The state machine of the waiting room, synchronous: time is an argument, nothing waits.
//!
//! A request takes no lock to look; a change takes, in this order and no other: the event's line
//! (writer), the event's side (gate, soft leaves, measurements), a journal lane. Everything that
//! needs the store is handed out as a request and its answer brought back.

pub mod answer;
pub mod effects;
pub mod eta;
pub mod line;

mod apply;
mod enter;
mod event;
mod events;
mod join;
mod leave;
mod legacy;
mod operate;
mod peers;
mod polling;
mod posted;
mod presence;
mod recent;
mod restore;
mod rulings;
mod settle;
mod share;
mod shares;
mod side;
mod status;
mod tick;
mod turns;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::journal::lane::Journal;
use crate::model::pass::PassKeys;
use crate::model::token::TicketKeys;
use crate::model::{EventId, Hlc, Micros, NodeId, Policy};
use crate::sync::ArcSwap;

pub use apply::GATE_EPOCH;
pub use event::Event;
pub use operate::Promises;
pub use status::{Found, Repeat};
pub use tick::Asking;
pub use turns::SETTLED_AFTER;

/// What may change while the room runs, seen whole by each request.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The policy of events that have no other.
    pub defaults: Policy,
    /// The policies of named events.
    pub events: std::collections::BTreeMap<EventId, Policy>,
    /// Whether a join makes an event that does not exist.
    pub create_on_demand: bool,
    /// The shortest and the longest time visitors are told to wait between polls.
    pub polling: (Duration, Duration),
}

/// What stays as it is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// This node's number.
    pub node: NodeId,
    /// How many nodes there are.
    pub fleet: u16,
    /// This life of the node: the second it started.
    pub epoch: u32,
    /// The most events held at once.
    pub events_max: usize,
    /// Stamps further ahead than this are not believed.
    pub skew_max: Duration,
    /// A view of the other nodes that is older than this calls nobody.
    pub lag_max: Duration,
    /// For how long an event goes on without the store at most.
    pub share_limit: Duration,
}

/// The waiting room of one node.
#[derive(Debug)]
pub struct Room {
    identity: Identity,
    started: Micros,
    settings: ArcSwap<Settings>,
    events: events::Events,
    clock: Hlc,
    ticket_keys: TicketKeys,
    pass_keys: PassKeys,
    journal: Arc<Journal>,
    recent: recent::RecentKeys,
    schedule: tick::Schedule,
    promises: operate::Promises,
    peers: peers::Peers,
    rulings: rulings::Known,
    /// Tokens that were not signed here.
    forged: AtomicU64,
    loaded: AtomicBool,
    /// Serves although nothing is loaded.
    empty: AtomicBool,
    /// The store has been away for longer than `stale_after`.
    degraded: AtomicBool,
    /// When the store was last said to have lost what it had acknowledged.
    doubted: AtomicU64,
    /// Events that go on without the store.
    sharing: AtomicUsize,
}

impl Room {
    /// An empty room, not loaded yet. Events named in the settings exist from the start.
    pub fn new(
        now: Micros,
        identity: Identity,
        settings: Settings,
        keys: (TicketKeys, PassKeys),
        journal: Arc<Journal>,
    ) -> Self {
        let (ticket_keys, pass_keys) = keys;
        let room = Self {
            identity,
            started: now,
            events: events::Events::new(identity.events_max),
            settings: ArcSwap::from_pointee(settings),
            clock: Hlc::default(),
            ticket_keys,
            pass_keys,
            journal,
            recent: recent::RecentKeys::new(),
            schedule: tick::Schedule::default(),
            promises: operate::Promises::default(),
            peers: peers::Peers::new(now, identity.fleet),
            rulings: rulings::Known::new(now),
            forged: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            empty: AtomicBool::new(false),
            degraded: AtomicBool::new(false),
            doubted: AtomicU64::new(0),
            sharing: AtomicUsize::new(0),
        };
        room.create_configured(now);
        room
    }

    /// Whether everything that the store held is here.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Says whether everything that the store held is here.
    pub fn set_loaded(&self, loaded: bool) {
        self.loaded.store(loaded, Ordering::Release);
        if loaded {
            self.empty.store(false, Ordering::Release);
        }
    }

    /// Whether visitors are answered.
    pub fn is_serving(&self) -> bool {
        self.is_loaded() || self.serves_empty()
    }

    /// Whether visitors are answered although what the store holds is not here: by what they bring
    /// along. Nobody is called then, places are not held to, and what is not known may be so.
    pub(super) fn serves_empty(&self) -> bool {
        self.empty.load(Ordering::Acquire)
    }

    /// Answers visitors before anything is loaded, until it is.
    pub fn serve_empty(&self) {
        self.set_degraded(true);
        self.empty.store(true, Ordering::Release);
    }

    /// Says whether the store has been away for too long: answers say so, and nobody expires, since
    /// other nodes' sightings cannot be heard.
    pub fn set_degraded(&self, degraded: bool) {
        self.degraded.store(degraded, Ordering::Relaxed);
    }

    fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed) || self.sharing() > 0
    }

    /// The journal that changes are recorded in.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A stamp of the logical clock, later than all before.
    pub fn stamp(&self, now: Micros) -> Micros {
        self.clock.tick(now)
    }

    /// The public keys that passes can be verified with, a JSON Web Key Set.
    pub fn jwks(&self) -> &str {
        self.pass_keys.jwks()
    }
}
