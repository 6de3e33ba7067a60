//! The rules of a gate, as one synchronous state machine on the store's clock.
//!
//! Stores that run in this process (memory, embedded) hold one [`Gate`] an event. A token bucket
//! (Turner, "New directions in communications", 1986) in whole micro-tokens pays for every call.
//! What each step changed is reported as [`Change`]s, so that a durable store can write just those.

use serde::{Deserialize, Serialize};

use shares::{Owner, Share, in_time};
use timed::Timed;

use crate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GatePolicy, GateView, LAPSE_GRACE, LIFE, Turn,
};
use crate::model::{EventId, Micros, NodeId, TicketId};

/// One turn, in micro-tokens.
const TURN: i64 = 1_000_000;
/// A lease whose node has not asked for this long is dropped, its turns lost: a node must not give
/// turns out of a lease that is older, or the cap may be exceeded by them. Microseconds.
pub const LEASE_DROPPED_AFTER: u64 = 60_000_000;
/// A clock that went back by more than this is believed, and filling goes on from there; by less, it
/// waits for the time to come again, so that no moment pays twice. Microseconds.
const CLOCK_BACK_MAX: u64 = 60_000_000;
/// Two nodes' readings of the end of one turn out of a lease differ by less. Microseconds.
const SAME_TURN: u64 = 200_000;
/// How many lapsed things one step disposes of, so that no step is long.
const LAPSES_MAX: usize = 4_096;

/// The small part of a gate, written whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Micro-tokens; below 0 when late claims are being paid off. With what is leased, at most the
    /// burst: a lease that lies idle must not be refilled behind its back.
    level: i64,
    /// When it was last filled; 0 before the first time.
    filled_at: Micros,
    /// The rate it is being filled at: a new rate counts from when the gate hears of it.
    rate: f64,
    /// Rises with every step that calls tickets or in which turns lapsed.
    version: u64,
    leases: Vec<Lease>,
    /// When it was first filled, or taken over from a store that fell back: what was given before was
    /// not given out of this one. Not written by the embedded store, which loses nothing.
    #[serde(skip)]
    began: Micros,
    /// Turns that end by then were paid for before it began, and do not come back to it.
    #[serde(skip)]
    inherited: Micros,
    /// Nodes that go on by themselves when they are cut off, and of how many each is one. Not
    /// written by the embedded store, whose only node is never cut off.
    #[serde(skip)]
    shares: Vec<Share>,
    #[serde(skip)]
    nodes: u16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Lease {
    node: NodeId,
    serial: u64,
    held: u32,
    asked_at: Micros,
}

/// One thing that a step changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A turn was given (until when) or ended.
    Called(TicketId, Option<Micros>),
    /// A ticket missed its turn (until when it may come back), or that is over.
    Missed(TicketId, Option<Micros>),
    /// A ticket entered (when, see [`GatePolicy::entry_at`]), or is forgotten.
    Entered(TicketId, Option<Micros>),
    /// A visitor is inside (until when at most), or no longer.
    Active(TicketId, Option<Micros>),
}

/// Whether a turn that was promised until then is over for good.
fn lapsed(until: Micros, now: Micros) -> bool {
    until.0.saturating_add(LAPSE_GRACE) <= now.0
}

/// One event's gate.
#[derive(Debug, Default)]
pub struct Gate {
    bucket: Bucket,
    called: Timed,
    /// Turns that lapsed, with the end of the late grace: who comes back is called again. Remembered for
    /// as long as the ticket may be in line, since nobody's place counts it.
    missed: Timed,
    active: Timed,
    entered: Timed,
    /// How many shares were out at the last filling.
    silent: u32,
    fell_back: bool,
}

impl Gate {
    /// The part that is written whole after each step.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Puts back what was written, after a start.
    pub fn restore_bucket(&mut self, bucket: Bucket) {
        self.bucket = bucket;
    }

    /// Puts back one written change, after a start.
    pub fn restore(&mut self, change: Change) {
        match change {
            Change::Called(id, Some(until)) => self.called.insert(id, until),
            Change::Called(id, None) => drop(self.called.remove(&id)),
            Change::Missed(id, Some(until)) => self.missed.insert(id, until),
            Change::Missed(id, None) => drop(self.missed.remove(&id)),
            Change::Entered(id, Some(at)) => self.entered.insert(id, at),
            Change::Entered(id, None) => drop(self.entered.remove(&id)),
            Change::Active(id, Some(until)) => self.active.insert(id, until),
            Change::Active(id, None) => drop(self.active.remove(&id)),
        }
    }

    /// The gate as a node needs it after a start. O(open turns + entered).
    pub fn view(&self, now: Micros, event: EventId) -> GateView {
        let turns = |timed: &Timed| {
            let turns = timed.by_time.iter();
            turns.map(|&(until, id)| Turn { id, until }).collect()
        };
        let entered = self.entered.by_time.iter();
        GateView {
            event,
            now,
            lost_at: match self.bucket.version {
                ..LIFE => Micros(0),
                _ => self.bucket.began,
            },
            version: self.bucket.version,
            called: turns(&self.called),
            missed: turns(&self.missed),
            entered: entered.map(|&(at, id)| (id, at)).collect(),
            active: self.active.len(),
        }
    }

    /// Calls the next tickets: refill, dispose of what lapsed, take back what was given back, book
    /// what was given out of the lease, then give turns in the order of the candidates.
    pub fn advance(
        &mut self,
        now: Micros,
        request: &AdvanceRequest,
        changes: &mut Vec<Change>,
    ) -> Advanced {
        let policy = &request.policy;
        self.take_over(now, policy);
        let mut answer = Advanced {
            now,
            version: self.bucket.version,
            ..Advanced::default()
        };
        if request.version > self.bucket.version {
            // What the caller knows was lost here: it is to be told first, see `settle`, before the
            // time in which it was given is paid out again.
            answer.stale = true;
            return answer;
        }
        // Who could not call by what it knows may know of an old rate.
        let heeded = !request.candidates.is_empty() || request.lease_wanted > 0;
        self.refill(now, policy, heeded);
        self.dispose(now, policy, &mut answer.missed, changes);
        let refunds = self.is_own_lease(request.node);
        let late =
            !in_time(&request.presence, now) || !self.lease_of(request.node, request.serial, now);
        answer.heard = !late && self.note(now, request);
        // One that is late may speak of a turn that was given anew since.
        for id in request.given_back.iter().filter(|_| !late) {
            if let Some(until) = self.called.remove(id) {
                changes.push(Change::Called(*id, None));
                self.refund(u32::from(!self.is_inherited(until)), policy);
                // Over like one that was missed: no word that is on its way yet books it again.
                self.miss(Turn { id: *id, until }, policy, changes);
            }
        }
        let lapsed = answer.missed.len();
        for turn in &request.claims {
            if !self.claim(now, request.node, *turn, policy, changes) && !late {
                self.miss(*turn, policy, changes);
                answer.missed.push(*turn);
            }
        }
        answer.stale = late || request.version != self.bucket.version;
        let mut given = false;
        if answer.stale {
            answer.called = self.open_turns();
        } else {
            given = self.call(now, request, &mut answer, changes);
        }
        if !late {
            self.settle_lease(request, refunds);
        }
        if given || lapsed > 0 {
            self.bucket.version += 1;
        }
        answer.version = self.bucket.version;
        answer.lease = self.lease(request.node).map_or(0, |lease| lease.held);
        answer.active = self.active.len();
        answer.open_turns = self.called.len();
        answer.level = self.bucket.level;
        answer.kept = self.kept(now);
        answer
    }

    /// Lets one ticket in, exactly once.
    pub fn enter(
        &mut self,
        now: Micros,
        request: &EnterRequest,
        changes: &mut Vec<Change>,
    ) -> Entry {
        let id = request.id;
        if let Some(&at) = self.entered.by_id.get(&id)
            && !mutant!(EnterTwice)
        {
            return Entry::Again { at, now };
        }
        if let Some(at) = request.known.filter(|_| !mutant!(EnterTwice)) {
            // Forgotten with a write that was lost.
            self.called.remove(&id);
            changes.push(Change::Called(id, None));
            self.let_in(now, id, at, &request.policy, changes);
            return Entry::Again { at, now };
        }
        if let Some(turn) = request.claim
            && !self.claim(now, request.node, turn, &request.policy, changes)
            && !request.free
        {
            return Entry::Missed;
        }
        let turn = self.called.by_id.get(&id).copied();
        match turn {
            Some(until) if !request.free && lapsed(until, now) => return Entry::Missed,
            Some(_) => {
                self.called.remove(&id);
                changes.push(Change::Called(id, None));
            }
            None if request.free || mutant!(EnterTwice) => {}
            None => return Entry::NotCalled,
        }
        self.forgive(&id, changes);
        let turn = turn.filter(|_| !request.free);
        let at = request.policy.entry_at(now, request.arrival, turn);
        self.let_in(now, id, at, &request.policy, changes);
        Entry::Granted { at, now }
    }

    /// Notes that a ticket entered, and is inside for as long as its pass holds.
    fn let_in(
        &mut self,
        now: Micros,
        id: TicketId,
        at: Micros,
        policy: &GatePolicy,
        changes: &mut Vec<Change>,
    ) {
        let until = policy.pass_until(at);
        let inside = (until > now).then_some(Change::Active(id, Some(until)));
        for change in [Change::Entered(id, Some(at))].into_iter().chain(inside) {
            self.restore(change.clone());
            changes.push(change);
        }
    }

    /// Frees the place of a visitor who is done. Answers whether it was held.
    pub fn complete(&mut self, id: &TicketId, changes: &mut Vec<Change>) -> bool {
        let held = self.active.remove(id).is_some();
        if held {
            changes.push(Change::Active(*id, None));
        }
        held
    }

    /// Fills the bucket at the rate of before; that of `policy` counts from now on if it is `heeded`.
    fn refill(&mut self, now: Micros, policy: &GatePolicy, heeded: bool) {
        let (gained, accounted) = self.gained(now);
        self.look_around(now);
        let room = self.room(policy);
        let bucket = &mut self.bucket;
        let first = bucket.filled_at == Micros(0);
        // Claims may have come before the first filling: they are paid out of it.
        let filled = match first {
            true => room,
            false if mutant!(RefillShort) => gained * 4 / 5,
            false => gained,
        };
        if first {
            bucket.began = now;
        }
        bucket.level = bucket.level.saturating_add(filled).min(room);
        let back = bucket.filled_at.0.saturating_sub(now.0);
        bucket.filled_at = if first || back > CLOCK_BACK_MAX {
            bucket.began = bucket.began.min(now);
            now.max(Micros(1))
        } else if heeded && bucket.rate != policy.rate {
            bucket.filled_at.max(now)
        } else {
            Micros(bucket.filled_at.0 + accounted)
        };
        if first || heeded {
            bucket.rate = policy.rate;
        }
    }

    /// What the time since the last filling pays, and how much of that time it uses up: a part of a
    /// micro-token is left for the next filling.
    fn gained(&self, now: Micros) -> (i64, u64) {
        let Bucket {
            filled_at, rate, ..
        } = self.bucket;
        // A clock that went back adds nothing.
        let elapsed = now.0.saturating_sub(filled_at.0);
        if rate.is_nan() || rate <= 0.0 {
            return (0, elapsed);
        }
        let away = self.away(now);
        if away > 0 {
            // What nodes that are away may be giving is not paid here.
            let nodes = u64::from(self.bucket.nodes);
            let present = elapsed.saturating_mul(nodes).saturating_sub(away);
            return ((rate * present as f64 / nodes as f64) as i64, elapsed);
        }
        // A turn a second is a micro-turn a microsecond.
        let gained = (rate * elapsed as f64) as i64;
        let accounted = (gained as f64 / rate).ceil() as u64;
        (gained, accounted.min(elapsed))
    }

    /// What the bucket may hold: the burst without what is leased, and without what nodes that are
    /// away may have saved up.
    fn room(&self, policy: &GatePolicy) -> i64 {
        let free = i64::from(policy.burst) - i64::from(self.leased());
        let kept = i64::from(self.silent) * policy.share_saved(self.bucket.nodes);
        (free.max(0) * TURN - kept).max(0)
    }

    fn refund(&mut self, turns: u32, policy: &GatePolicy) {
        let refunded = self.bucket.level + i64::from(turns) * TURN;
        self.bucket.level = refunded.min(self.room(policy));
    }

    fn leased(&self) -> u32 {
        let held = self.bucket.leases.iter().map(|lease| lease.held);
        held.fold(0, u32::saturating_add)
    }

    fn dispose(
        &mut self,
        now: Micros,
        policy: &GatePolicy,
        missed: &mut Vec<Turn>,
        changes: &mut Vec<Change>,
    ) {
        let mut back = 0;
        while missed.len() < LAPSES_MAX
            && !mutant!(NoShowKept)
            && let Some((until, id)) = self.called.pop(now.0.saturating_sub(LAPSE_GRACE))
        {
            changes.push(Change::Called(id, None));
            back += u32::from(!self.is_inherited(until));
            let turn = Turn { id, until };
            self.miss(turn, policy, changes);
            missed.push(turn);
        }
        self.refund(back, policy);
        if mutant!(RefundTwice) {
            self.refund(back, policy);
        }
        for _ in 0..LAPSES_MAX {
            let Some((_, id)) = self.missed.pop(now.0.saturating_sub(policy.ticket_ttl)) else {
                break;
            };
            changes.push(Change::Missed(id, None));
        }
        for _ in 0..LAPSES_MAX {
            let Some((_, id)) = self.active.pop(now.0) else {
                break;
            };
            changes.push(Change::Active(id, None));
        }
        for _ in 0..LAPSES_MAX {
            let Some((_, id)) = self.entered.pop(now.0.saturating_sub(policy.ticket_ttl)) else {
                break;
            };
            changes.push(Change::Entered(id, None));
        }
        let kept = |lease: &Lease| now.0.saturating_sub(lease.asked_at.0) <= LEASE_DROPPED_AFTER;
        self.bucket.leases.retain(kept);
        self.bucket.shares.retain(|share| share.free_at > now);
    }

    /// Gives turns to the first candidates. Answers whether there was one to give.
    fn call(
        &mut self,
        now: Micros,
        request: &AdvanceRequest,
        answer: &mut Advanced,
        changes: &mut Vec<Change>,
    ) -> bool {
        let before = changes.len();
        let until = Micros(now.0.saturating_add(request.policy.ready_ttl));
        let mut homes = request.homes.iter();
        for id in &request.candidates {
            let owner = homes
                .next()
                .map_or(Owner::Gate, |home| self.owner(now, home));
            if let Some(&at) = self.entered.by_id.get(id) {
                answer.entered.push((*id, at));
            } else if let Some(&until) = self.called.by_id.get(id) {
                answer.called.push(Turn { id: *id, until });
            } else if owner == Owner::Away {
                // Its own node may be calling it.
            } else if owner == Owner::Gate
                && (self.affordable(&request.policy) > 0 || mutant!(TurnForFree))
            {
                self.bucket.level -= TURN;
                self.called.insert(*id, until);
                changes.push(Change::Called(*id, Some(until)));
                self.forgive(id, changes);
                answer.called.push(Turn { id: *id, until });
            } else {
                break;
            }
        }
        changes.len() > before
    }

    /// How many turns may be given now: what the bucket holds and the cap leaves. Turns that are
    /// open or leased count as taken, since each is a promise.
    fn affordable(&self, policy: &GatePolicy) -> u32 {
        if policy.paused {
            return 0;
        }
        let paid = (self.bucket.level.max(0) / TURN) as u32;
        if policy.max_active == 0 {
            return paid;
        }
        let active = if mutant!(CapForgotten) {
            0
        } else {
            self.active.len()
        };
        let taken = active
            .saturating_add(self.called.len())
            .saturating_add(self.leased());
        paid.min(policy.max_active.saturating_sub(taken))
    }

    fn open_turns(&self) -> Vec<Turn> {
        let turns = self.called.by_time.iter();
        turns.map(|&(until, id)| Turn { id, until }).collect()
    }

    /// Notes that a turn is over and was not taken. The late grace begins with the turn's end, whenever that
    /// is noticed: all who know of the turn reckon alike.
    fn miss(&mut self, turn: Turn, policy: &GatePolicy, changes: &mut Vec<Change>) {
        let until = Micros(turn.until.0.saturating_add(policy.late_grace));
        self.missed.insert(turn.id, until);
        changes.push(Change::Missed(turn.id, Some(until)));
    }

    /// Whether this very turn was given back: turns are named by their ends.
    fn is_over(&self, turn: &Turn, policy: &GatePolicy) -> bool {
        let until = turn.until.0.saturating_add(policy.late_grace);
        let missed = self.missed.by_id.get(&turn.id);
        missed.is_some_and(|missed| missed.0.abs_diff(until) < SAME_TURN)
    }

    /// A ticket has a turn again, or needs none: what it missed is forgotten.
    fn forgive(&mut self, id: &TicketId, changes: &mut Vec<Change>) {
        if self.missed.remove(id).is_some() {
            changes.push(Change::Missed(*id, None));
        }
    }

    fn lease(&mut self, node: NodeId) -> Option<&mut Lease> {
        self.bucket
            .leases
            .iter_mut()
            .find(|lease| lease.node == node)
    }

    /// Notes that `node` asked with `serial`; answers whether that is newer than what was seen.
    fn lease_of(&mut self, node: NodeId, serial: u64, now: Micros) -> bool {
        match self.lease(node) {
            Some(lease) if lease.serial >= serial => false,
            Some(lease) => {
                lease.serial = serial;
                lease.asked_at = now;
                true
            }
            None => {
                self.bucket.leases.push(Lease {
                    node,
                    serial,
                    held: 0,
                    asked_at: now,
                });
                true
            }
        }
    }

    /// Books a turn that `node` gave out of its lease. When the lease is gone the visitor still has
    /// the promise: the bucket pays, below zero if it must. Answers `false` for a turn that lapsed
    /// before it was ever heard of, or was heard of and lapsed since: it is not booked (again), and
    /// the lease gets it back when the node next says what it holds. So for one that nobody can have
    /// given.
    fn claim(
        &mut self,
        now: Micros,
        node: NodeId,
        turn: Turn,
        policy: &GatePolicy,
        changes: &mut Vec<Change>,
    ) -> bool {
        let known =
            self.called.by_id.contains_key(&turn.id) || self.entered.by_id.contains_key(&turn.id);
        if known {
            return true;
        }
        // One that ends later than one that is given now is told by a clock that is off.
        let latest = now.0.saturating_add(policy.ready_ttl + LAPSE_GRACE);
        if lapsed(turn.until, now) || turn.until.0 > latest || self.is_over(&turn, policy) {
            return false;
        }
        self.take_over(now, policy);
        // Time pays before it is spent, or what it would pay beyond the burst came on top. A bucket
        // that was never filled, or is lost, is not filled by this.
        if self.bucket.filled_at > Micros(0) {
            self.refill(now, policy, false);
        }
        match self.lease(node) {
            Some(lease) if lease.held > 0 => lease.held -= 1,
            _ => self.bucket.level -= TURN,
        }
        self.called.insert(turn.id, turn.until);
        changes.push(Change::Called(turn.id, Some(turn.until)));
        self.forgive(&turn.id, changes);
        true
    }

    /// Brings the node's lease to what it holds and wants: the rest is given up, more is granted.
    fn settle_lease(&mut self, request: &AdvanceRequest, refunds: bool) {
        let Some(held) = self.lease(request.node).map(|lease| lease.held) else {
            return;
        };
        let kept = held.min(request.lease_held).min(request.lease_wanted);
        // The lease first: what it gives up is the room for the refund.
        if let Some(lease) = self.lease(request.node) {
            lease.held = kept;
        }
        if refunds {
            self.refund(held - kept, &request.policy);
        }
        let more = (request.lease_wanted - kept).min(self.affordable(&request.policy));
        if !mutant!(LeaseForFree) {
            self.bucket.level -= i64::from(more) * TURN;
        }
        if let Some(lease) = self.lease(request.node) {
            lease.held = kept + more;
        }
    }
}

mod settle;
mod shares;
mod timed;

#[cfg(test)]
mod tests;
