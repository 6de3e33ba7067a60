//! What an event keeps beside its line: the node's view of the gate, soft leaves, measurements.

use std::collections::BTreeSet;
use std::time::Duration;

use ahash::AHashMap;

use super::eta::Measured;
use super::shares::{Given, Shares};
use super::words::Early;
use crate::model::gate::{Kept, LIFE, LOST_AT_MOST};
use crate::model::{Kind, Micros, NodeId, PolicyPatch, Record, TicketId, TicketKey};

/// How many waits are sampled at once to compare what was promised with what came.
const PROMISES_MAX: usize = 256;
/// How many turns are known by name.
const TURNS_MAX: usize = 1_000_000;

/// One event's side. Plain data under one lock.
#[derive(Debug)]
pub(super) struct Side {
    pub gate: LocalGate,
    pub shares: Shares,
    pub leaving: Leaving,
    pub measured: Option<Measured>,
    /// Departures since the last note to `measured`.
    pub departures: u32,
    /// Joins taken here lately.
    pub joins: RecentJoins,
    /// When somebody last joined.
    pub joined_at: Micros,
    /// Until when a lower rate is told as the reason of a longer wait.
    pub rate_lowered_until: Micros,
    /// Until when returned visitors are told as the reason.
    pub returned_until: Micros,
    /// The override set at run time.
    pub patch: Option<PolicyPatch>,
    /// Named in the configuration: never dropped for being empty.
    pub configured: bool,
    /// Taken out of the map for being empty: whoever finds this set looks the event up again.
    pub retired: bool,
    /// Words about turns of places that are not known yet.
    pub early: Early,
    promises: AHashMap<TicketId, (Micros, Duration)>,
}

/// What this node knows of the gate, and what it has yet to tell it.
#[derive(Debug, Default)]
pub(super) struct LocalGate {
    pub version: u64,
    pub serial: u64,
    /// The gate may have lost what happened after this moment: it is told before it is asked.
    pub doubted: Option<Micros>,
    /// When the gate was last found to have lost something.
    pub lost_at: Option<Micros>,
    /// A request is on its way.
    pub asking: bool,
    /// When the gate last answered.
    pub answered_at: Micros,
    /// When turns that others had the gate give were last heard of.
    pub stepped_at: Micros,
    /// When to ask next.
    pub due: Micros,
    /// Turns that may be given to visitors who come while nobody waits, and until when.
    pub lease: u32,
    pub lease_until: Micros,
    /// Turns given out of the lease that the gate has not confirmed.
    pub leased: AHashMap<TicketId, Given>,
    /// Turns that other nodes gave out of their leases, as they say; the gate may not know yet.
    pub lent: AHashMap<TicketId, (NodeId, Given)>,
    /// When the turn of each ticket that has one, missed one or is back from one ends, on the store's
    /// clock, to the microsecond: its name in all that is said of it. A gate that forgot a turn is told
    /// the same again, and no other reading of ours.
    pub turns: AHashMap<TicketId, Micros>,
    /// Turns to give back.
    pub given_back: Vec<TicketId>,
    /// Which tickets are other nodes' to call.
    pub kept: Vec<Kept>,
    /// All who wait up to this are of nodes that are away.
    pub passed: Option<TicketKey>,
    /// Micro-turns in the bucket, and when that was so.
    pub level: i64,
    pub level_at: Micros,
    /// Visitors inside and open turns, as of the last word.
    pub active: u32,
    pub open_turns: u32,
    /// The last word said that the active cap leaves no room.
    pub at_capacity: bool,
}

impl LocalGate {
    /// Hears of a version of the gate; of one in another life, that it lost something until `now`, which
    /// others may know.
    pub fn note_version(&mut self, now: Micros, version: u64) {
        if version / LIFE > self.version / LIFE {
            self.lost_at = Some(now);
            // Who knew nothing of it has nothing to tell.
            if self.version > 0 {
                self.doubt(Micros(now.0.saturating_sub(LOST_AT_MOST)));
            }
        }
        self.version = self.version.max(version);
    }

    /// The gate may have lost what happened after a moment.
    pub fn doubt(&mut self, since: Micros) {
        self.doubted = self.doubted.min(Some(since)).or(Some(since));
    }

    /// A ticket's turn is to be given back.
    pub fn give_back(&mut self, id: TicketId) {
        if self.given_back.last() != Some(&id) {
            self.given_back.push(id);
        }
    }

    /// Notes when a ticket's turn ends, on the store's clock.
    pub fn note_turn(&mut self, id: TicketId, end: Micros) {
        if self.turns.len() < TURNS_MAX || self.turns.contains_key(&id) {
            self.turns.insert(id, end);
        }
    }
}

impl Side {
    pub fn new(now: Micros, fleet: u16) -> Self {
        Self {
            // Later than the serials of any earlier life of this node, so that gates listen to it.
            gate: LocalGate {
                serial: now.0,
                answered_at: now,
                ..LocalGate::default()
            },
            shares: Shares::new(fleet),
            leaving: Leaving::default(),
            measured: None,
            departures: 0,
            joins: RecentJoins::default(),
            joined_at: now,
            rate_lowered_until: Micros(0),
            returned_until: Micros(0),
            patch: None,
            configured: false,
            retired: false,
            early: Early::default(),
            promises: AHashMap::new(),
        }
    }

    /// Remembers what a visitor was promised, for a sample of visitors.
    pub fn promise(&mut self, now: Micros, id: TicketId, wait: Duration) {
        if self.promises.len() < PROMISES_MAX {
            self.promises.insert(id, (now, wait));
        }
    }

    /// A sampled visitor's turn came: the promised and the real wait.
    pub fn kept(&mut self, now: Micros, id: &TicketId) -> Option<(Duration, Duration)> {
        let (since, promised) = self.promises.remove(id)?;
        Some((promised, now.since(since)))
    }

    /// Forgets what is over of words that came early and of turns that other nodes gave.
    pub fn prune(&mut self, now: Micros, remembered: Duration) {
        self.early.prune(now, remembered);
        self.gate.lent.retain(|_, (_, turn)| turn.until > now);
    }

    /// A ticket has come to stand where walks through the line were already.
    pub fn rewind(&mut self, key: &TicketKey) {
        self.shares.rewind(key);
        if self.gate.passed.is_some_and(|passed| *key <= passed) {
            self.gate.passed = None;
        }
    }

    /// A ticket is gone from the line: nothing of it stays here.
    pub fn forget(&mut self, id: &TicketId) {
        self.leaving.cancel(id);
        self.promises.remove(id);
        self.gate.lent.remove(id);
        self.gate.turns.remove(id);
        self.shares.end_turn(id);
    }
}

/// Soft leaves: when each was said, and for those said here when their grace ends.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    by_id: AHashMap<TicketId, Farewell>,
    by_time: BTreeSet<(Micros, TicketId)>,
}

#[derive(Debug, Clone, Copy)]
struct Farewell {
    said: Micros,
    until: Option<Micros>,
}

impl Leaving {
    /// A beacon was taken here: this node ends the leave.
    pub fn start(&mut self, id: TicketId, said: Micros, until: Micros) {
        self.cancel(&id);
        let until = Some(until);
        self.by_id.insert(id, Farewell { said, until });
        self.by_time.extend(until.map(|until| (until, id)));
    }

    /// Another node took a beacon, and ends the leave.
    pub fn heard(&mut self, id: TicketId, said: Micros) {
        self.by_id
            .entry(id)
            .or_insert(Farewell { said, until: None })
            .said = said;
    }

    /// When the last goodbye was said.
    pub fn said(&self, id: &TicketId) -> Option<Micros> {
        self.by_id.get(id).map(|farewell| farewell.said)
    }

    pub fn cancel(&mut self, id: &TicketId) {
        if let Some(Farewell {
            until: Some(until), ..
        }) = self.by_id.remove(id)
        {
            self.by_time.remove(&(until, *id));
        }
    }

    /// The leaves that this node ends, as they were told.
    pub fn to_end(&self) -> Vec<Record> {
        let leaves = self.by_time.iter().filter_map(|(_, id)| {
            Some(Record {
                kind: Kind::Leaving,
                id: *id,
                at: self.said(id)?,
            })
        });
        leaves.collect()
    }

    /// None of the leaves that this node ends does so before `until`.
    pub fn put_off(&mut self, until: Micros) {
        for (at, id) in std::mem::take(&mut self.by_time) {
            if let Some(said) = self.said(&id) {
                self.start(id, said, at.max(until));
            }
        }
    }

    /// Takes out the earliest whose grace is over.
    pub fn pop(&mut self, now: Micros) -> Option<TicketId> {
        let &(until, id) = self.by_time.first()?;
        if until > now {
            return None;
        }
        self.cancel(&id);
        Some(id)
    }

    /// Whether this node has no leave to end.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

/// Joins of this and the last tenths of a second, or since the other nodes were last heard, and how
/// many others may be on their way meanwhile.
#[derive(Debug, Default)]
pub(super) struct RecentJoins {
    tenth: u64,
    /// Of this tenth, the last, and the one before.
    counts: [u32; 3],
    /// Since the other nodes could not be heard.
    deaf: u32,
}

impl RecentJoins {
    /// Notes a join, and whether other nodes can be heard at present.
    pub fn note(&mut self, now: Micros, heard: bool) {
        let tenth = now.0 / 100_000;
        let [current, last, _] = self.counts;
        match tenth.wrapping_sub(self.tenth) {
            0 => {}
            1 => self.counts = [0, current, last],
            2 => self.counts = [0, 0, current],
            _ => self.counts = [0; 3],
        }
        self.tenth = tenth;
        self.counts[0] = self.counts[0].saturating_add(1);
        self.deaf = if heard {
            0
        } else {
            self.deaf.saturating_add(1)
        };
    }

    /// How many tickets may have joined on the `peers` other nodes before the one just noted without
    /// having been heard of: a balancer sends them about as many as us, and half as many again is
    /// put on top. Those who are far from their turn are told of later.
    pub fn unheard(&self, peers: u16, far: bool) -> u64 {
        let tenths = if far { &self.counts } else { &self.counts[..2] };
        let joins: u64 = tenths.iter().copied().map(u64::from).sum();
        joins.max(self.deaf.into()) * u64::from(peers) * 3 / 2
    }
}
