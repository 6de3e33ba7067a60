//! A gate that lost what it had acknowledged learns it again from the nodes.

use super::{Change, Gate, TURN, lapsed};
use crate::model::gate::{GatePolicy, LIFE, LOST_AT_MOST, SettleRequest};
use crate::model::{Micros, NodeId};

impl Gate {
    /// The store fell back to what it was some time ago: it lost the last of what it acknowledged.
    /// Whoever holds the gate says so; the next step takes it over.
    pub fn fall_back(&mut self) {
        self.fell_back = true;
    }

    /// After the store fell back nobody here knows what was given in the time that was lost, and what
    /// came back. Whatever it was, the bucket of before held nothing less than nothing: so this one
    /// begins empty, and what was given before it began never comes back to it.
    pub(super) fn take_over(&mut self, now: Micros, policy: &GatePolicy) {
        let fell_back = std::mem::take(&mut self.fell_back) && !mutant!(NotTakenOver);
        if fell_back && self.bucket.filled_at > Micros(0) {
            self.look_around(now);
            self.begin_empty(now, policy);
            self.begin_life(0);
        }
    }

    /// Begins the life after all that are known of: whoever hears of it knows that something was lost.
    fn begin_life(&mut self, known: u64) {
        let known = self.bucket.version.max(known);
        self.bucket.version = (known / LIFE + 1) * LIFE;
    }

    fn begin_empty(&mut self, now: Micros, policy: &GatePolicy) {
        let last = self.called.by_time.last().map_or(0, |(until, _)| until.0);
        let bucket = &mut self.bucket;
        bucket.level = bucket.level.min(0);
        bucket.filled_at = now.max(Micros(1));
        bucket.began = bucket.filled_at;
        bucket.inherited = Micros(last.max(now.0.saturating_add(policy.ready_ttl)));
        // Whatever the clock of before said.
        let before = Micros(bucket.began.0 - 1);
        for lease in &mut bucket.leases {
            lease.asked_at = lease.asked_at.min(before);
        }
    }

    /// Whether a turn that ends then was given before the bucket began.
    pub(super) fn is_inherited(&self, until: Micros) -> bool {
        until <= self.bucket.inherited
    }

    /// Whether a node's lease is as the node told it to this bucket: one of before may have been spent.
    pub(super) fn is_own_lease(&self, node: NodeId) -> bool {
        let mut leases = self.bucket.leases.iter();
        leases.any(|lease| lease.node == node && lease.asked_at >= self.bucket.began)
    }

    /// Takes over turns and entries that nodes know of, and pays for those that are news and were not
    /// given before the bucket began; below zero if it must. Was one given before that is not known to
    /// be inherited, then the bucket took itself for new and is emptied; that of a gate that knew
    /// nothing at all begins empty. Shares are paid for by what was withheld. Harmless when repeated.
    /// O(n log n) of what is told.
    pub fn settle(&mut self, now: Micros, request: &SettleRequest, changes: &mut Vec<Change>) {
        let policy = &request.policy;
        self.take_over(now, policy);
        if self.bucket.filled_at == Micros(0) {
            self.begin_empty(now, policy);
            self.bucket.rate = policy.rate;
            self.presume(now, policy);
        } else {
            self.refill(now, policy, false);
        }
        for &(id, at) in &request.entered {
            if self.entered.by_id.contains_key(&id) {
                continue;
            }
            self.let_in(now, id, at, policy, changes);
            if self.called.by_id.contains_key(&id) {
                self.learn(vec![Change::Called(id, None)], changes);
            } else if at.0.saturating_add(LOST_AT_MOST) > now.0 {
                self.pay(at, at, request);
            }
        }
        for turn in &request.called {
            if self.entered.by_id.contains_key(&turn.id) {
                continue;
            }
            if turn.until <= now {
                // Missed: it was paid for and came back, and its owner may, or is not counted any more.
                let until = Micros(turn.until.0.saturating_add(policy.late_grace));
                let remembered = until.0.saturating_add(policy.ticket_ttl);
                let known = self.called.by_id.contains_key(&turn.id)
                    || self.missed.by_id.contains_key(&turn.id);
                if !known && remembered > now.0 {
                    self.learn(vec![Change::Missed(turn.id, Some(until))], changes);
                }
                continue;
            }
            let mut learnt = vec![Change::Called(turn.id, Some(turn.until))];
            if let Some(&until) = self.called.by_id.get(&turn.id) {
                // Lapsed and given anew meanwhile: what came back for the one paid for the other.
                if lapsed(until, turn.until) {
                    self.learn(learnt, changes);
                }
                continue;
            }
            if let Some(&until) = self.missed.by_id.get(&turn.id) {
                let missed = until.0.saturating_sub(policy.late_grace);
                if turn.until.0 <= missed {
                    continue;
                }
            }
            learnt.push(Change::Missed(turn.id, None));
            let given = Micros(turn.until.0.saturating_sub(policy.ready_ttl));
            self.pay(given, turn.until, request);
            self.learn(learnt, changes);
        }
        // Whoever knew an earlier version knows too little now.
        if self.bucket.version == 0 {
            self.begin_life(request.version);
        } else {
            self.bucket.version = self.bucket.version.max(request.version).saturating_add(1);
        }
    }

    /// Pays for a turn that was given then, and of which so much is known that it is not inherited if
    /// it ends after `known_to`.
    fn pay(&mut self, given: Micros, known_to: Micros, request: &SettleRequest) {
        if request.shared || self.is_inherited(known_to) {
            return;
        }
        let bucket = &mut self.bucket;
        if given < bucket.began {
            bucket.level = bucket.level.min(0);
            bucket.inherited = known_to;
        } else {
            bucket.level = bucket.level.saturating_sub(TURN);
        }
    }

    fn learn(&mut self, learnt: Vec<Change>, changes: &mut Vec<Change>) {
        for change in learnt {
            self.restore(change.clone());
            changes.push(change);
        }
    }
}
