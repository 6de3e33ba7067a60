//! What is asked of an event's gate, and what it answers.
//!
//! The gate's truth lives in the store, on the store's clock: bucket, leases, called tickets, active
//! visitors, entries. Nodes ask it with these words; each request is one step there, whole or not at
//! all, and asking twice is harmless.

use serde::{Deserialize, Serialize};

use super::ids::{EventId, NodeId, TicketId};
use super::ticket::Micros;
use super::token::KeyMark;

/// A node that was not heard for this long may be going on by its share of the rate, as far as a gate
/// is concerned: the share is withheld. The node itself waits longer. Microseconds.
pub const SILENT_AFTER: u64 = 2_000_000;

/// A turn is kept this much longer than its owner was told, so that an answer in flight at the last
/// moment still finds it. Microseconds.
pub const LAPSE_GRACE: u64 = 1_000_000;

/// Passes of one turn that are asked for within this are the same. Microseconds.
pub const ENTRY_STEP: u64 = 30_000_000;

/// A turn that was given so soon after the join came with it, out of a lease, on the clock of the
/// node that gave it. Microseconds.
const INSTANT: u64 = 2_000_000;

/// What a gate needs to know of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GatePolicy {
    /// Turns per second, 0 or more.
    pub rate: f64,
    /// Turns that may be given at once after a quiet time, 1 or more.
    pub burst: u32,
    /// Visitors inside at once; 0 = no cap.
    pub max_active: u32,
    /// Whether no turns are given at present.
    pub paused: bool,
    /// How long a turn is kept, in microseconds.
    pub ready_ttl: u64,
    /// How long after a lapsed turn a ticket may come back to its place, in microseconds.
    pub late_grace: u64,
    /// How long an entered ticket is remembered, in microseconds.
    pub ticket_ttl: u64,
    /// How long a pass holds at least, in microseconds.
    pub pass_ttl: u64,
    /// How many nodes each go on at their share of the rate when they are cut off; 0: none does.
    pub nodes: u16,
    /// For how long such a node goes on, in microseconds.
    pub share_limit: u64,
}

impl GatePolicy {
    /// What counts as the moment of an entry at `now`, and is what its pass is made from (see
    /// [`Self::pass_until`]): that of the turn, which ends at `turn`, or the last of the steps of
    /// [`ENTRY_STEP`] that were taken since. So whoever lets a ticket in by that turn, and should it be
    /// twice since a store forgot the first time, gives the same pass. Who came with a turn, or needs
    /// none (`turn` is `None`), is reckoned from the join, which all nodes know to the microsecond. All
    /// but the arrival are on the store's clock.
    pub fn entry_at(&self, now: Micros, arrival: Micros, turn: Option<Micros>) -> Micros {
        let given = turn.map_or(arrival.0, |until| until.0.saturating_sub(self.ready_ttl));
        let given = if given <= arrival.0.saturating_add(INSTANT) {
            arrival.0
        } else {
            given
        };
        let past = now.0.saturating_sub(given);
        Micros(given.saturating_add(past - past % self.entry_step()))
    }

    /// When the pass of an entry ends: `pass_ttl` after the last moment at which the same pass is given.
    pub fn pass_until(&self, entered: Micros) -> Micros {
        let holds = self.entry_step().saturating_add(self.pass_ttl);
        Micros(entered.0.saturating_add(holds))
    }

    /// No longer than a turn is kept.
    fn entry_step(&self) -> u64 {
        self.ready_ttl.saturating_add(LAPSE_GRACE).min(ENTRY_STEP)
    }

    /// Micro-turns that one of `nodes` may save up while it is cut off: a turn, and a fifth of a
    /// second of its share of the rate, but no more than its share of the burst.
    pub fn share_saved(&self, nodes: u16) -> i64 {
        let nodes = f64::from(nodes.max(1));
        let fair = f64::from(self.burst) * 1e6 / nodes;
        let some = self.rate * 2e5 / nodes;
        (some + 1e6).min(fair) as i64
    }
}

/// Where a ticket belongs: the node that alone may give it a turn when that node is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The first node in the ticket's order of all nodes of the fleet.
    pub node: NodeId,
    /// The ticket's arrival.
    pub arrival: Micros,
}

/// A node that may go on by itself, as a gate has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The node.
    pub node: NodeId,
    /// Tickets at home there that arrived after this are not called by the gate.
    pub after: Micros,
    /// The node is not heard at present.
    pub away: bool,
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Presence {
    /// Nothing: the gate goes by what it heard last.
    #[default]
    Quiet,
    /// It hears the gate, and would go on by its share of the rate if it did not.
    Here {
        /// When this was sent, on the store's clock, not later than it was.
        sent_at: Micros,
        /// Of the tickets that are at home there, those that arrived until then are left to the gate.
        horizon: Micros,
    },
    /// It will give no turns by itself.
    Gone,
}

/// A turn: whose, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// The ticket whose turn it is.
    pub id: TicketId,
    /// When it lapses, on the store's clock.
    pub until: Micros,
}

/// "Call the next": what a node asks every so often for each event with something to do.
#[derive(Debug, Clone, PartialEq)]
pub struct AdvanceRequest {
    /// The event.
    pub event: EventId,
    /// Who asks.
    pub node: NodeId,
    /// The node's own count of these requests, rising, also across its restarts (start from the
    /// clock): one that is not newer than what the gate has seen is late. It gives and takes
    /// nothing, but its claims count.
    pub serial: u64,
    /// The policy to go by.
    pub policy: GatePolicy,
    /// The gate's version when the candidates were picked.
    pub version: u64,
    /// The first waiting tickets, front first.
    pub candidates: Vec<TicketId>,
    /// Where each candidate belongs; none in a fleet of one.
    pub homes: Vec<Home>,
    /// What the node says of itself.
    pub presence: Presence,
    /// Called tickets that will not come: their turns are given back.
    pub given_back: Vec<TicketId>,
    /// Turns this node gave out of its lease since its last request.
    pub claims: Vec<Turn>,
    /// Turns of the lease that the node still holds, after those claims.
    pub lease_held: u32,
    /// Turns it would like to hold, for visitors who come while nobody waits.
    pub lease_wanted: u32,
}

/// What came of an [`AdvanceRequest`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Advanced {
    /// The gate's version now.
    pub version: u64,
    /// The caller saw an older version: nobody was called, and `called` holds every turn that is
    /// open now, so that the caller can catch up.
    pub stale: bool,
    /// The turns given (or, if `stale`, all open turns).
    pub called: Vec<Turn>,
    /// Turns that lapsed and were refunded, and claims that had lapsed when they came.
    pub missed: Vec<Turn>,
    /// Candidates that have entered before, with when, so that the caller forgets them.
    pub entered: Vec<(TicketId, Micros)>,
    /// Turns of the lease that the node holds now.
    pub lease: u32,
    /// Visitors inside.
    pub active: u32,
    /// Open turns.
    pub open_turns: u32,
    /// Micro-turns in the bucket; below 0 when late claims are being paid off.
    pub level: i64,
    /// The gate took notice of the node's [`Presence::Here`].
    pub heard: bool,
    /// The nodes that may go on by themselves, by number. Turns of the lease are not for tickets that
    /// others of them keep.
    pub kept: Vec<Kept>,
    /// The store's clock.
    pub now: Micros,
}

/// "Let this one in."
#[derive(Debug, Clone, PartialEq)]
pub struct EnterRequest {
    /// The event.
    pub event: EventId,
    /// Who asks.
    pub node: NodeId,
    /// The policy to go by.
    pub policy: GatePolicy,
    /// The ticket.
    pub id: TicketId,
    /// Its turn, when it came out of this node's lease and the gate may not have heard of it yet.
    pub claim: Option<Turn>,
    /// No turn is needed: the event lets everybody pass.
    pub free: bool,
    /// When it joined, as its token says.
    pub arrival: Micros,
    /// The key that signed its token. The gate does not ask for it.
    pub key: Option<KeyMark>,
    /// When it entered, if the node knows that it did: it is only asked whether the gate knows another
    /// moment.
    pub known: Option<Micros>,
}

/// A store that falls back, and is not lost as a whole, lost less than this, in microseconds.
pub const LOST_AT_MOST: u64 = 120_000_000;

/// Steps of a gate in one life of it. Versions count them in the lower half, and lives in the upper one:
/// a gate that fell back, or that knew nothing and was told of what was, begins another.
pub const LIFE: u64 = 1 << 32;

/// "You may have lost some of these": what a node knows of turns and entries.
#[derive(Debug, Clone, PartialEq)]
pub struct SettleRequest {
    /// The event.
    pub event: EventId,
    /// Who says so.
    pub node: NodeId,
    /// The policy to go by.
    pub policy: GatePolicy,
    /// The gate's version when it was last heard of.
    pub version: u64,
    /// Turns that nobody used yet: open ones, and those that were missed, whose owners may come back or
    /// are yet to expire. These have ended already.
    pub called: Vec<Turn>,
    /// Tickets that entered, with when, see [`GatePolicy::entry_at`].
    pub entered: Vec<(TicketId, Micros)>,
    /// All of it was given by the node while it was cut off, out of its share of the rate: it is paid
    /// for.
    pub shared: bool,
}

/// What came of an [`EnterRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// In.
    Granted {
        /// The moment of it, see [`GatePolicy::entry_at`].
        at: Micros,
        /// The store's clock.
        now: Micros,
    },
    /// Was in before.
    Again {
        /// The moment of then.
        at: Micros,
        /// The store's clock.
        now: Micros,
    },
    /// Had a turn that lapsed.
    Missed,
    /// Has no turn.
    NotCalled,
}

/// A gate as a node needs it after a start.
#[derive(Debug, Clone, PartialEq)]
pub struct GateView {
    /// The event.
    pub event: EventId,
    /// The gate's version.
    pub version: u64,
    /// The store's clock.
    pub now: Micros,
    /// When this life of it began; 0 in its first.
    pub lost_at: Micros,
    /// The open turns.
    pub called: Vec<Turn>,
    /// Lapsed turns of tickets that may still be in line, with the end of their late grace.
    pub missed: Vec<Turn>,
    /// Tickets that entered and are remembered, with when.
    pub entered: Vec<(TicketId, Micros)>,
    /// Visitors inside.
    pub active: u32,
}
