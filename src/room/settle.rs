//! Telling gates what they may have lost.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Room;
use super::line::{Entry, State};
use super::tick::Asking;
use crate::model::gate::{ENTRY_STEP, LOST_AT_MOST, SettleRequest, Turn};
use crate::model::{Micros, Order, micros};

/// Entries looked at while the line's writer is held, and tickets of one request at most.
const AT_ONCE: u32 = 4_096;
/// Two readings of the end of one turn differ by less, in microseconds.
const SAME: u64 = 1_000_000;
/// Turns that are over are told to have ended at least so long ago: no gate shall take them for open.
const OVER: Duration = Duration::from_secs(1);
/// Who lives has written the last minute again this long after a doubt; and who dies later than
/// [`LOST_FOR`], too.
const REPEATED_BY: Duration = Duration::from_secs(5);
const LOST_FOR: Duration = Duration::from_secs(60);

impl Room {
    /// The store may have lost what it acknowledged lately: every gate is told, with its next
    /// question, what this node knows.
    pub fn doubt_gates(&self, now: Micros) {
        self.doubt_since(now, Micros(now.0.saturating_sub(LOST_AT_MOST)));
    }

    /// The store lost everything.
    pub fn doubt_all_of_gates(&self, now: Micros) {
        self.doubt_since(now, Micros(0));
    }

    /// Whether the store may have lost a ticket of this arrival since it was last told of it.
    pub(super) fn may_be_lost(&self, arrival: Micros, told: Micros) -> bool {
        let doubted = Micros(self.doubted.load(Ordering::Relaxed));
        told <= doubted
            && arrival <= doubted
            && doubted <= arrival.after(Duration::from_micros(LOST_AT_MOST))
    }

    /// Since when this node has to tell the store what others wrote, if it does: it may have lost some
    /// of it, and a node that wrote some has died or started anew, so that it cannot write it again.
    pub fn orphaned_since(&self, now: Micros) -> Option<Micros> {
        let doubted = Micros(self.doubted.load(Ordering::Relaxed));
        let since = Micros(doubted.0.saturating_sub(LOST_AT_MOST));
        let is_due = (REPEATED_BY..LOST_FOR).contains(&now.since(doubted));
        let is_gone = || self.started >= since || self.peers.lost_somebody(now, since);
        (is_due && is_gone() && !mutant!(OrphansLeft)).then_some(since)
    }

    fn doubt_since(&self, now: Micros, since: Micros) {
        self.doubted.store(now.0, Ordering::Relaxed);
        for event in self.events.all() {
            {
                let side = &mut *event.side.lock();
                let since = side.shares.told_since(since).unwrap_or(since).min(since);
                side.gate.doubt(since);
            }
            self.schedule.at(now, &event);
        }
    }

    /// A gate answered with an earlier version than it had: it lost some, or all.
    pub(super) fn doubt(now: Micros, gate: &mut super::side::LocalGate, version: u64) {
        let since = if version <= 1 {
            Micros(0)
        } else {
            Micros(now.0.saturating_sub(LOST_AT_MOST))
        };
        gate.doubted = Some(since);
    }

    /// Until when a turn is by the store's clock, which ends then by ours: as it was first told, unless
    /// that is another turn, or the store's clock has jumped since.
    pub(super) fn same_turn(&self, until: Micros, first: Option<Micros>) -> Micros {
        let ours = self.to_store_clock(until);
        let same = first.filter(|first| first.0.abs_diff(ours.0) < SAME);
        same.unwrap_or(ours)
    }

    /// What to tell the gate before it is asked; nothing, mostly. Looks through the whole line when
    /// there is something, a piece at a time.
    pub fn settlement(&self, now: Micros, asking: &Asking) -> Vec<SettleRequest> {
        let mut requests = self.shares_to_tell(asking);
        let Some(since) = asking.doubted.filter(|_| !mutant!(NotSettled)) else {
            return requests;
        };
        let event = &asking.event;
        let policy = event.policy.load();
        let empty = SettleRequest {
            event: event.id.clone(),
            node: self.identity.node,
            policy: self.gate_policy(&policy, now),
            version: asking.request.version,
            called: Vec::new(),
            entered: Vec::new(),
            // Who is let through without a turn takes none from the bucket.
            shared: policy.order == Order::Passthrough,
        };
        let latest = self.to_store_clock(Micros(now.0.saturating_sub(micros(OVER))));
        let mut entries = Vec::new();
        let mut next = Some(0);
        while let Some(from) = next {
            next = event.line.write().entries(from, AT_ONCE, &mut entries);
            let mut request = empty.clone();
            let side = event.side.lock();
            // What this node gave without the gate is told apart, and only by a node that is heard:
            // until then its turns are its own.
            let kept = |entry: &Entry| side.shares.concerns(&entry.id);
            for entry in entries.drain(..).filter(|entry| !kept(entry)) {
                let id = entry.id;
                match entry.state {
                    State::Called { until } if until > now => {
                        // As it was given: by a store's clock that has jumped since it ended there.
                        let given = side.gate.turns.get(&id).copied();
                        let until = given.unwrap_or_else(|| self.to_store_clock(until));
                        request.called.push(Turn { id, until });
                    }
                    // Who is back has missed a turn too.
                    State::Called { .. } | State::Missed { .. } | State::Returned => {
                        let ended = self.turn_end(&side, &policy, &id, entry.state);
                        let until = ended.map_or(latest, |ended| ended.min(latest));
                        request.called.push(Turn { id, until });
                    }
                    // It may have entered by so much later than is told.
                    State::Entered if entry.time.0.saturating_add(ENTRY_STEP) >= since.0 => {
                        request.entered.push((entry.id, entry.time));
                    }
                    _ => {}
                }
            }
            drop(side);
            if !request.called.is_empty() || !request.entered.is_empty() {
                requests.push(request);
            }
        }
        // Even one with nothing to say moves the version on, so that the gate is not doubted again.
        if requests.is_empty() {
            requests.push(empty);
        }
        requests
    }
}
