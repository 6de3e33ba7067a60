//! A gate that lost what it had acknowledged learns it again from the nodes.

use super::{Change, Gate, TURN, lapsed};
use crate::model::Micros;
use crate::model::gate::{LOST_AT_MOST, SettleRequest};

impl Gate {
    /// Takes over turns and entries that nodes know of. What is news was given without being paid
    /// for here, so the bucket pays; but the one it was paid from was not below zero by it, so this
    /// one is not either, and that of a gate that knew nothing at all is empty. What is older than
    /// [`LOST_AT_MOST`] was lost with such a bucket. Shares are paid for by what was withheld.
    /// Harmless when repeated.
    pub fn settle(&mut self, now: Micros, request: &SettleRequest, changes: &mut Vec<Change>) {
        let policy = &request.policy;
        let fresh = self.bucket.filled_at == Micros(0);
        let mut news = 0i64;
        for &(id, at) in &request.entered {
            if self.entered.by_id.contains_key(&id) {
                continue;
            }
            let mut learnt = vec![Change::Entered(id, Some(at))];
            let until = Micros(at.0.saturating_add(policy.pass_ttl));
            if until > now {
                learnt.push(Change::Active(id, Some(until)));
            }
            if self.called.by_id.contains_key(&id) {
                learnt.push(Change::Called(id, None));
            } else if at.0.saturating_add(LOST_AT_MOST) > now.0 {
                news += 1;
            }
            self.learn(learnt, changes);
        }
        for turn in &request.called {
            if self.entered.by_id.contains_key(&turn.id) {
                continue;
            }
            if lapsed(turn.until, now) {
                // Missed: it was paid for and came back, and its owner may.
                let until = Micros(turn.until.0.saturating_add(policy.late_grace));
                let known = self.called.by_id.contains_key(&turn.id)
                    || self.missed.by_id.contains_key(&turn.id);
                if !known && until > now {
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
                learnt.push(Change::Missed(turn.id, None));
            }
            news += 1;
            self.learn(learnt, changes);
        }
        for (id, pass, until) in &request.passes {
            if *until > now && !self.passes.contains_key(id) {
                let pass = Change::Pass(*id, Some((pass.clone(), *until)));
                self.learn(vec![pass], changes);
            }
        }
        if request.shared {
            news = 0;
        }
        if fresh {
            self.bucket.filled_at = now.max(Micros(1));
            self.bucket.rate = policy.rate;
            self.presume(now, policy);
        } else {
            // The time since may have paid for them: it counts in full before the bucket overflows.
            let (gained, accounted) = self.gained(now);
            self.look_around(now);
            let level = self.bucket.level.saturating_add(gained);
            let paid = level.min(0).max(level - news * TURN);
            self.bucket.level = paid.min(self.room(policy));
            self.bucket.filled_at = Micros(self.bucket.filled_at.0 + accounted);
        }
        // Whoever knew an earlier version knows too little now.
        self.bucket.version = self.bucket.version.max(request.version).saturating_add(1);
    }

    fn learn(&mut self, learnt: Vec<Change>, changes: &mut Vec<Change>) {
        for change in learnt {
            self.restore(change.clone());
            changes.push(change);
        }
    }
}
