//! A gate that lost what it had acknowledged learns it again from the nodes.

use super::{Change, Gate, TURN, lapsed};
use crate::model::Micros;
use crate::model::gate::{GatePolicy, LAPSE_GRACE, LOST_AT_MOST, SettleRequest};

/// What is known of a turn that was told again outlives it by this. Microseconds.
const TOLD_MIN: u64 = 60 * LAPSE_GRACE;

impl Gate {
    /// Takes over turns and entries that nodes know of. What is news was given without being paid
    /// for here, so the bucket pays, each at its moment as far as it was not filled beyond that; below
    /// zero if it must, since leases that had paid come back. Such turns do not: they may have before. What was given before
    /// this bucket began was paid from another: it can only empty this one, and that of a gate that
    /// knew nothing at all is empty. What is older than [`LOST_AT_MOST`] was lost with such a bucket.
    /// Shares are paid for by what was withheld. Harmless when repeated. O(n log n) of what is told.
    pub fn settle(&mut self, now: Micros, request: &SettleRequest, changes: &mut Vec<Change>) {
        let policy = &request.policy;
        let fresh = self.bucket.filled_at == Micros(0);
        // When what is news was given.
        let mut news = Vec::new();
        for &(id, at) in &request.entered {
            if self.entered.by_id.contains_key(&id) {
                continue;
            }
            self.let_in(now, id, at, policy, changes);
            if self.called.by_id.contains_key(&id) {
                self.learn(vec![Change::Called(id, None)], changes);
            } else if at.0.saturating_add(LOST_AT_MOST) > now.0 {
                news.push(at);
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
            // Nobody knows whether it came back in what was lost: it does not come back (again).
            let told_again = Micros(turn.until.0.saturating_add(policy.late_grace.max(TOLD_MIN)));
            if request.shared {
                learnt.push(Change::Missed(turn.id, None));
            } else {
                learnt.push(Change::Missed(turn.id, Some(told_again)));
            }
            news.push(Micros(turn.until.0.saturating_sub(policy.ready_ttl)));
            self.learn(learnt, changes);
        }
        if fresh {
            self.bucket.filled_at = now.max(Micros(1));
            self.bucket.began = self.bucket.filled_at;
            self.bucket.rate = policy.rate;
            self.presume(now, policy);
        } else {
            self.look_around(now);
            if !request.shared {
                news.sort_unstable();
                self.pay(now, &news, policy);
            }
            self.fill(now, policy);
        }
        // Whoever knew an earlier version knows too little now.
        self.bucket.version = self.bucket.version.max(request.version).saturating_add(1);
    }

    /// Pays for turns in the order in which they were given, and fills the bucket in between.
    fn pay(&mut self, now: Micros, given: &[Micros], policy: &GatePolicy) {
        for &at in given {
            self.fill(at.min(now), policy);
            let level = self.bucket.level;
            let least = if at < self.bucket.began {
                level.min(0)
            } else {
                i64::MIN
            };
            self.bucket.level = level.saturating_sub(TURN).max(least);
        }
    }

    fn fill(&mut self, until: Micros, policy: &GatePolicy) {
        let (gained, accounted) = self.gained(until);
        let level = self.bucket.level.saturating_add(gained);
        self.bucket.level = level.min(self.room(policy));
        self.bucket.filled_at = Micros(self.bucket.filled_at.0 + accounted);
    }

    fn learn(&mut self, learnt: Vec<Change>, changes: &mut Vec<Change>) {
        for change in learnt {
            self.restore(change.clone());
            changes.push(change);
        }
    }
}
