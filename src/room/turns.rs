//! Asking gates for turns, and what their answers change.
//!
//! In a fleet any node may ask, and the gate sees to it that none asks in vain of the others; but
//! one node, the event's home, asks as often as turns can be given. The others speak up when they
//! have something to say.

use std::time::Duration;

use super::Room;
use super::eta::Measured;
use super::event::Event;
use super::line::{LineWriter, State};
use super::shares::Given;
use super::side::{LocalGate, Side};
use super::tick::{Asking, PERIOD_MIN};
use crate::model::gate::{AdvanceRequest, Advanced, GatePolicy, Kept, Presence, Turn};
use crate::model::{EventId, Gone, Kind, Micros, Order, Policy, Record, TicketId, TicketKey};

/// An unanswered gate is asked again after this.
pub(super) const PERIOD_RETRY: Duration = Duration::from_millis(250);
/// So far ahead are numbers tried that an earlier life of this node may not have used.
const SERIAL_LEAP: u64 = 60_000_000;
/// The most candidates of one request.
const CANDIDATES_MAX: usize = 4_096;
/// How long turns put aside for visitors to come are good for.
const LEASE_HELD: Duration = Duration::from_secs(3);
/// Turns are put aside for so long after the last join.
const LEASE_AFTER_JOIN: Duration = Duration::from_secs(60);
/// In a fleet, who arrived less than this ago is not called yet: somebody may have joined on another
/// node before and still be on the feed.
pub const SETTLED_AFTER: Duration = Duration::from_millis(100);
/// After turns were heard of, others than the home leave it to that to call the next.
const LED_FOR: Duration = Duration::from_secs(1);
/// A node that is not an event's home asks its gate this often anyway: to keep its view, and in case
/// the home is alive and cannot.
const PERIOD_AWAY: Duration = Duration::from_secs(5);

impl Room {
    /// How long until the next turns can be given: when the bucket holds one, or half a burst if
    /// that is more, within bounds.
    pub(super) fn period(&self, now: Micros, policy: &Policy, side: &Side) -> Duration {
        if policy.rate <= 0.0 || policy.paused {
            return self.period_max();
        }
        let level = Self::level(now, policy, side);
        let enough = Self::enough(policy);
        // With enough and nobody called, there is something else to wait for.
        let missing = if level < enough {
            enough - level
        } else {
            enough
        };
        let micros = (missing / policy.rate).ceil();
        Duration::from_micros(micros as u64).clamp(PERIOD_MIN, self.period_max())
    }

    /// When to ask again after an answer: when the bucket that it tells of has filled up, however full
    /// this node takes it for by now.
    fn next_turns(&self, now: Micros, policy: &Policy, side: &Side) -> Micros {
        let missing = Self::enough(policy) - side.gate.level as f64;
        if missing <= 0.0 || policy.rate <= 0.0 || policy.paused {
            return now.after(self.period(now, policy, side));
        }
        let micros = (missing / policy.rate).ceil();
        let fills = Duration::from_micros(micros as u64).min(self.period_max());
        side.gate.level_at.after(fills).max(now.after(PERIOD_MIN))
    }

    /// Micro-turns that are worth asking for.
    fn enough(policy: &Policy) -> f64 {
        (f64::from(policy.burst) * 0.5e6).max(1e6)
    }

    /// Micro-turns the bucket holds by now, as far as this node knows.
    fn level(now: Micros, policy: &Policy, side: &Side) -> f64 {
        let full = f64::from(policy.burst) * 1e6;
        if side.gate.level_at == Micros(0) {
            return full;
        }
        let gained = policy.rate * now.since(side.gate.level_at).as_micros() as f64;
        (side.gate.level as f64 + gained).min(full)
    }

    /// What to ask the gate now, if anything.
    pub(super) fn ask(
        &self,
        now: Micros,
        event: &Event,
        policy: &Policy,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
    ) -> Option<AdvanceRequest> {
        if side.gate.asking {
            return None;
        }
        let policy_now = self.gate_policy(policy, now);
        let mut candidates: Vec<TicketKey> = Vec::new();
        let passes = policy.order == Order::Passthrough;
        let fresh = self.is_fresh(now) && !self.awaits_others(now, &policy_now, &side.gate);
        if !policy_now.paused && !passes && fresh {
            let affordable = (Self::level(now, policy, side) / 1e6).max(0.0) as usize + 1;
            let most = affordable.min(CANDIDATES_MAX);
            self.candidates(now, writer, side, most, &mut candidates);
            self.keep_settled(now, &mut candidates);
            if mutant!(LastFirst) {
                candidates.reverse();
            }
        }
        let nobody = event.line.waiting() == 0 && fresh;
        let expected = side.configured || now.since(side.joined_at) < LEASE_AFTER_JOIN;
        let lease_wanted = if nobody && expected && !policy_now.paused && !passes {
            let share = f64::from(policy.burst) / 2.0 / f64::from(self.identity.fleet.max(1));
            (policy.rate * 0.2)
                .min(share)
                .ceil()
                .max(1.0)
                .min(f64::from(policy.burst)) as u32
        } else {
            0
        };
        let gate = &side.gate;
        let nothing = candidates.is_empty()
            && gate.given_back.is_empty()
            && gate.leased.is_empty()
            && gate.open_turns == 0
            && gate.active == 0
            && gate.lease == 0
            && gate.doubted.is_none()
            && lease_wanted == 0
            && !side.shares.has_untold();
        // A node that goes on by itself says so, and says when it has nothing to go on with.
        let resting = nothing && (event.line.waiting() == 0 || policy_now.paused);
        let has_word = if nothing {
            side.shares.present
        } else {
            self.has_word(now, event, gate, lease_wanted)
        };
        if !has_word && (nothing || !self.has_presence_to_tell(now, &policy_now, side)) {
            return None;
        }
        let presence = self.presence(now, event, &policy_now, writer, side, resting);
        let led = now.since(side.gate.stepped_at) < LED_FOR && !self.is_home(now, event.home_key);
        if led {
            candidates.clear();
        }
        let gate = &mut side.gate;
        let claims = self.claimed(gate);
        // Given up before the gate hears of it, so that nobody spends it in the meantime.
        gate.lease = gate.lease.min(lease_wanted);
        gate.asking = true;
        gate.serial += 1;
        Some(AdvanceRequest {
            event: event.id.clone(),
            node: self.identity.node,
            serial: gate.serial,
            policy: policy_now,
            version: gate.version,
            homes: self.homes(&candidates),
            candidates: candidates.into_iter().map(|key| key.id).collect(),
            presence,
            given_back: gate.given_back.clone(),
            claims,
            lease_held: gate.lease,
            lease_wanted,
        })
    }

    /// Whether others may know of entries that a gate, which has just lost all it knew, was not told
    /// of: a ticket that entered must not be called anew. The store may be away for them yet. Where nodes
    /// go on by themselves, such a gate passes over the tickets of those that are not heard.
    fn awaits_others(&self, now: Micros, policy: &GatePolicy, gate: &LocalGate) -> bool {
        // A node that has just started knows of no gate whether it is new or lost all.
        let unheard_of = (gate.version == 0).then_some(self.started);
        let lost_at = gate.lost_at.filter(|_| policy.nodes == 0).max(unheard_of);
        !self.is_alone() && lost_at.is_some_and(|at| !self.have_told(now, at))
    }

    /// The turns that were given out of the lease, on the store's clock.
    pub(super) fn claimed(&self, gate: &LocalGate) -> Vec<Turn> {
        let turns = gate.leased.iter();
        let mut claims: Vec<_> = turns.map(|(id, turn)| self.claim_of(*id, turn)).collect();
        claims.sort_unstable_by_key(|turn| (turn.until, turn.id));
        claims
    }

    /// A turn out of a lease as gates are told of it, the same each time.
    pub(super) fn claim_of(&self, id: TicketId, turn: &Given) -> Turn {
        Turn {
            id,
            until: self.same_turn(turn.until, Some(turn.of_store)),
        }
    }

    /// Cuts off who arrived too lately to be called by this node. One whose clock is off does not
    /// hold up the line.
    fn keep_settled(&self, now: Micros, candidates: &mut Vec<TicketKey>) {
        if self.is_alone() {
            return;
        }
        let believed = now.after(self.identity.skew_max);
        let unsettled =
            |key: &TicketKey| key.arrival.after(SETTLED_AFTER) > now && key.arrival <= believed;
        if let Some(first) = candidates.iter().position(unsettled) {
            candidates.truncate(first);
        }
    }

    /// Whether this node is to ask the gate now.
    fn has_word(&self, now: Micros, event: &Event, gate: &LocalGate, lease_wanted: u32) -> bool {
        gate.doubted.is_some()
            || !gate.leased.is_empty()
            || !gate.given_back.is_empty()
            || gate.lease > 0
            || lease_wanted > 0
            || now.since(gate.answered_at) >= PERIOD_AWAY
            || self.is_home(now, event.home_key)
    }

    /// The gate's answer; `None` when there was none in time.
    pub fn advanced(&self, now: Micros, asking: Asking, answer: Option<Advanced>) {
        let Asking {
            request,
            since,
            event,
            doubted,
            tells,
        } = asking;
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        side.gate.asking = false;
        let Some(answer) = answer else {
            side.shares.contact = false;
            let due = now.after(PERIOD_RETRY);
            side.gate.due = due;
            drop(side);
            drop(writer);
            self.schedule.push(due, &event.id);
            return;
        };
        self.note_store_clock(now, answer.now, now.since(since));
        self.share_answered(now, &event, &mut side);
        let lost = answer.version < request.version;
        let presence = if lost {
            Presence::Quiet
        } else {
            request.presence
        };
        let limit = self.identity.share_limit;
        side.shares.answered(now, since, presence, limit, &answer);
        if tells {
            side.shares.told(now);
        }
        if side.gate.doubted == doubted {
            side.gate.doubted = None;
        }
        if lost {
            tracing::warn!(event = %event.id, "a gate lost what it had acknowledged, telling it again");
            Self::doubt(now, &mut side.gate, answer.version);
            // It heard nothing of the question: all of it stands, and is asked again.
            side.gate.version = answer.version;
            side.gate.due = now;
            drop(side);
            drop(writer);
            self.schedule.push(now, &event.id);
            return;
        }
        let own = self.identity.node;
        side.shares.present = answer.kept.iter().any(|kept| kept.node == own);
        self.book(now, since, &request, &answer, &mut side);
        // First what is over: who was back in time may have been given another turn at once.
        for turn in &answer.missed {
            let id = turn.id;
            let word = Record {
                kind: Kind::Missed,
                id,
                at: turn.until,
            };
            self.merge_turn(now, &event, &mut writer, &mut side, &word);
            let view = event.line.find(&id);
            if view.is_some_and(|view| matches!(view.state, State::Missed { .. })) {
                side.gate.lent.remove(&id);
                self.record(now, &event, Kind::Missed, id, turn.until);
            }
        }
        let mut called = 0;
        for turn in &answer.called {
            called += u32::from(self.call(now, &event, &mut writer, &mut side, turn));
        }
        for (id, at) in &answer.entered {
            let Some(view) = event.line.find(id) else {
                continue;
            };
            if !view.state.is_gone() {
                let key = TicketKey {
                    arrival: view.time,
                    id: *id,
                };
                let entered = (*at, Gone::Entered);
                self.remove_at(now, &event, &mut writer, &mut side, &key, entered);
            }
        }
        if called > 0 {
            let departures = std::mem::take(&mut side.departures);
            let measured = side.measured.get_or_insert_with(|| Measured::new(since));
            measured.note(now, called, departures, true);
        }
        // Refused although nothing has changed: an earlier life of this node, with a clock that was
        // ahead, asked under later numbers.
        let late = answer.stale && answer.version == request.version;
        if late {
            side.gate.serial = side.gate.serial.saturating_add(SERIAL_LEAP);
        }
        if event.line.waiting() == 0 || !self.is_home(now, event.home_key) {
            return;
        }
        // A stale view was refused: ask again at once with what is known now. Else when the bucket
        // will hold a turn, as it says itself: what was thought when this was asked may have been off.
        let stale = answer.stale && !late;
        let due = if stale {
            now
        } else {
            self.next_turns(now, &event.policy.load(), &side)
        };
        if stale || due < side.gate.due {
            side.gate.due = due;
            drop(side);
            drop(writer);
            self.schedule.push(due, &event.id);
        }
    }

    /// Takes over what the answer says of bucket, lease and version.
    fn book(
        &self,
        now: Micros,
        since: Micros,
        request: &AdvanceRequest,
        answer: &Advanced,
        side: &mut Side,
    ) {
        let gate = &mut side.gate;
        // Meanwhile the feed may have told of later versions.
        gate.note_version(now, answer.version);
        gate.answered_at = now;
        gate.level = answer.level;
        let away = |all: &[Kept]| -> Vec<Kept> {
            let away = all.iter().filter(|kept| kept.away);
            away.copied().collect()
        };
        if away(&gate.kept) != away(&answer.kept) {
            gate.passed = None;
        }
        gate.kept.clone_from(&answer.kept);
        // On its way the answer grew old, and the bucket fuller.
        gate.level_at = self.by_our_clock(answer.now).min(now);
        gate.active = answer.active;
        gate.open_turns = answer.open_turns;
        gate.given_back
            .retain(|id| !request.given_back.contains(id));
        for turn in &request.claims {
            gate.leased.remove(&turn.id);
        }
        // What was given out of the lease since the request was made is not known to the gate yet.
        let given = u32::try_from(gate.leased.len()).unwrap_or(u32::MAX);
        gate.lease = answer.lease.saturating_sub(given);
        gate.lease_until = since.after(LEASE_HELD);
        let cap = request.policy.max_active;
        gate.at_capacity = cap > 0 && answer.active.saturating_add(answer.open_turns) >= cap;
    }

    /// A ticket's turn has come. Answers whether that was news.
    fn call(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        turn: &Turn,
    ) -> bool {
        let word = Record {
            kind: Kind::Called,
            id: turn.id,
            at: turn.until,
        };
        let called = self.merge_turn(now, event, writer, side, &word);
        let view = event.line.find(&turn.id);
        if view
            .is_some_and(|view| matches!(view.state, State::Waiting | State::Left | State::Expired))
        {
            // The place was left while the call was on its way.
            side.gate.give_back(turn.id);
        }
        called
    }

    /// How many are before a token's ticket in line, itself included, as this node's memory has them:
    /// what all nodes and the store agree on at rest. What is told may be less, see I5. `None` for
    /// one that does not wait.
    pub fn rank(&self, token: &str) -> Option<u64> {
        let mut buffer = crate::model::token::buffer();
        let claims = self.claims(token, &mut buffer)?;
        let event = self.event(claims.event)?;
        event.line.place(&event.line.find(&claims.id)?)
    }

    /// Open turns of an event, as its line has them; for tests and operators.
    pub fn turn_of(&self, event: &EventId, id: &TicketId) -> Option<Micros> {
        match self.event(event.as_str())?.line.find(id)?.state {
            State::Called { until } => Some(until),
            _ => None,
        }
    }
}
