//! Telling gates whether this node would go on without them, and which tickets are whose.

use std::sync::Arc;
use std::time::Duration;

use super::Room;
use super::event::Event;
use super::line::LineWriter;
use super::peers::SILENT_AFTER;
use super::share::RETURNED_MAX;
use super::side::Side;
use super::tick::Asking;
use crate::model::gate::{AdvanceRequest, GatePolicy, Home, Kept, Presence};
use crate::model::{Micros, NodeId, Order, Outage, Policy, TicketId, TicketKey, home};

/// A word of presence is sent at least this often, and at most this often.
const HERE_MAX: Duration = Duration::from_millis(500);
const HERE_MIN: Duration = Duration::from_millis(200);
/// What the gate may call between two words: so much of the rate, and a few.
const LEFT_TO_THE_GATE: f64 = 4.0;
/// While fewer wait than that, all that arrive this soon are left to the gate.
const LEFT_AHEAD: Duration = Duration::from_secs(3);
/// A gate's word of who is away is believed for so long.
const AWAY_FOR: Duration = Duration::from_secs(1);
/// Tickets of nodes that are away that one step passes over.
const PASSED_MAX: usize = 65_536;
/// The least of all keys.
const FIRST: TicketKey = TicketKey {
    arrival: Micros(0),
    id: TicketId::from_u128(0),
};

impl Room {
    /// How many nodes each go on by themselves at an event, if they do. An active cap cannot be
    /// shared, nor a burst that has not a whole turn for each.
    pub(super) fn sharing_nodes(&self, policy: &Policy) -> u16 {
        let shares = !self.is_alone()
            && policy.outage == Outage::Share
            && policy.max_active == 0
            && policy.rate > 0.0
            && policy.burst >= u32::from(self.identity.fleet)
            && matches!(policy.order, Order::Fifo | Order::Lottery);
        if shares { self.identity.fleet } else { 0 }
    }

    /// The node that a ticket is at home at, whoever is heard at present.
    pub(super) fn home_of(&self, id: &TicketId) -> NodeId {
        home::home(home::ticket_key(id), self.identity.fleet)
    }

    /// Where candidates belong; of no interest to a node that is alone.
    pub(super) fn homes(&self, candidates: &[TicketKey]) -> Vec<Home> {
        if self.is_alone() {
            return Vec::new();
        }
        let home = |key: &TicketKey| Home {
            node: self.home_of(&key.id),
            arrival: key.arrival,
        };
        candidates.iter().map(home).collect()
    }

    /// Whether another node may come to call a ticket of this arrival by itself, as far as the gate
    /// has told.
    pub(super) fn is_kept(&self, side: &Side, key: &TicketKey) -> bool {
        let home = self.home_of(&key.id);
        let mut kept = side.gate.kept.iter();
        home != self.identity.node && kept.any(|kept| kept.node == home && key.arrival > kept.after)
    }

    /// The next to be called, without those of nodes that are away, whom the gate would pass over.
    pub(super) fn candidates(
        &self,
        now: Micros,
        writer: &LineWriter<'_>,
        side: &mut Side,
        most: usize,
        candidates: &mut Vec<TicketKey>,
    ) {
        let gate = &mut side.gate;
        // Who was away may be back since: what the gate said long ago it is left to say anew.
        let is_known = now.since(gate.answered_at) <= AWAY_FOR;
        let is_away = is_known && gate.kept.iter().any(|kept| kept.away);
        if !is_away {
            gate.passed = None;
            writer.front(most, false, candidates);
            return;
        }
        let keeps = |kept: &Kept, key: &TicketKey| {
            key.arrival > kept.after && kept.node == self.home_of(&key.id)
        };
        let passes_over = |key: &TicketKey| {
            let mut away = gate.kept.iter().filter(|kept| kept.away);
            away.any(|kept| keeps(kept, key))
        };
        let from = gate.passed.unwrap_or(FIRST);
        let mut first = None;
        let last = writer.walk(from, PASSED_MAX, |key| {
            if passes_over(&key) {
                return true;
            }
            first.get_or_insert(key);
            let room = candidates.len() < most;
            if room {
                candidates.push(key);
            }
            room
        });
        let returned = writer.returned().take(RETURNED_MAX);
        candidates.extend(returned.filter(|key| !passes_over(key)));
        candidates.sort_unstable();
        candidates.truncate(most);
        // Next time from before the first whom the gate may call.
        gate.passed = Some(first.map_or(last, |first| before(&first).max(from)));
    }

    /// Whether a word of presence is due.
    pub(super) fn has_presence_to_tell(
        &self,
        now: Micros,
        policy: &GatePolicy,
        side: &Side,
    ) -> bool {
        let shares = &side.shares;
        let goes_on = policy.nodes > 0 && !policy.paused;
        let due = now.since(shares.said_at()) >= HERE_MAX;
        let over = shares.present && (!goes_on || !shares.contact);
        goes_on && due || over || shares.has_untold()
    }

    /// What to tell the gate of this node with a question. `resting` when there is nothing to ask.
    pub(super) fn presence(
        &self,
        now: Micros,
        event: &Event,
        policy: &GatePolicy,
        writer: &LineWriter<'_>,
        side: &mut Side,
        resting: bool,
    ) -> Presence {
        if !side.shares.contact {
            return Presence::Quiet;
        }
        // Who does not hear of turns knows no horizon, and would hold up the others by an old one.
        let is_deaf = self.feed_lag(now) > SILENT_AFTER;
        if policy.nodes == 0 || policy.paused || resting || is_deaf {
            return if side.shares.present {
                side.shares.gone()
            } else {
                Presence::Quiet
            };
        }
        if now.since(side.shares.said_at()) < HERE_MIN {
            return Presence::Quiet;
        }
        let level = side.gate.level.max(0) as f64 / 1e6;
        let left = level + policy.rate * LEFT_TO_THE_GATE + 16.0;
        // Those of nodes that are away are not the gate's to call.
        let passed = side.gate.passed.map(|key| event.line.rank_of_key(&key));
        let horizon = match writer.arrival_at(passed.unwrap_or(0) + left as u64) {
            Some((arrival, true)) => arrival,
            Some((last, false)) => last.max(now.after(LEFT_AHEAD)),
            None => now.after(LEFT_AHEAD),
        };
        side.shares.here(now, horizon)
    }

    /// The last questions of a node that stops: it will not go on by itself, nor give turns that were
    /// put aside. Asked and answered as those of [`Room::tick`].
    pub fn farewell(&self, now: Micros) -> Vec<Asking> {
        let events = self.events.all();
        events
            .iter()
            .filter_map(|event| self.take_leave(now, event))
            .collect()
    }

    fn take_leave(&self, now: Micros, event: &Arc<Event>) -> Option<Asking> {
        let mut side = event.side.lock();
        self.end_share(now, event, &mut side, "the node stops");
        // Turns put aside go back, and those given of them are told: nobody else knows which is which.
        let has_turns = side.gate.lease > 0 || !side.gate.leased.is_empty();
        if side.gate.asking || !side.shares.present && !has_turns {
            return None;
        }
        let presence = side.shares.gone();
        let tells = side.shares.hand_over();
        let gate = &mut side.gate;
        gate.lease = 0;
        gate.serial += 1;
        let policy = self.gate_policy(&event.policy.load(), now);
        let request = AdvanceRequest {
            event: event.id.clone(),
            node: self.identity.node,
            serial: gate.serial,
            policy,
            version: gate.version,
            candidates: Vec::new(),
            homes: Vec::new(),
            presence,
            given_back: gate.given_back.clone(),
            claims: self.claimed(gate),
            lease_held: 0,
            lease_wanted: 0,
        };
        Some(Asking {
            request,
            since: now,
            doubted: gate.doubted,
            tells,
            event: Arc::clone(event),
        })
    }
}

/// The greatest key before `key`.
fn before(key: &TicketKey) -> TicketKey {
    match key.id.as_u128().checked_sub(1) {
        Some(id) => TicketKey {
            id: TicketId::from_u128(id),
            ..*key
        },
        None => TicketKey {
            arrival: Micros(key.arrival.0.saturating_sub(1)),
            id: TicketId::from_u128(u128::MAX),
        },
    }
}
