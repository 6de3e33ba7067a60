//! What happens by itself: turns are called, soft leaves end, the dead are removed, forecasts move.
//!
//! One schedule holds when each event wants attention next, so that ten thousand quiet events cost
//! nothing. [`Room::tick`] does an event's memory work and hands out what to ask the gate;
//! [`Room::advanced`] brings the answer back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Room;
use super::enter::gate_policy;
use super::eta::Measured;
use super::event::Event;
use super::line::{Lapse, LineWriter, State};
use super::side::Side;
use crate::model::gate::{AdvanceRequest, Advanced, Turn};
use crate::model::{EventId, Gone, Kind, Micros, Order, Policy, TicketId, TicketKey};

/// Turns are called at least this often while somebody waits.
pub(super) const PERIOD_MAX: Duration = Duration::from_millis(100);
/// … and at most this often.
const PERIOD_MIN: Duration = Duration::from_millis(2);
/// An event in which nobody waits is looked at this often while it holds any ticket.
const PERIOD_QUIET: Duration = Duration::from_secs(1);
/// One with nothing in it is looked at this often, and dropped after [`IDLE_DROPPED`].
const PERIOD_IDLE: Duration = Duration::from_secs(30);
const IDLE_DROPPED: Duration = Duration::from_secs(600);
/// An unanswered gate is asked again after this.
const PERIOD_RETRY: Duration = Duration::from_millis(250);
/// How long a reason for a longer wait is told.
pub(super) const REASON_TOLD: Duration = Duration::from_secs(60);
/// The most candidates of one request.
const CANDIDATES_MAX: usize = 4_096;
/// The most tickets one sweep looks at, so that the lock is short.
const SWEEP_MAX: usize = 4_096;
/// How long turns put aside for visitors to come are good for.
const LEASE_HELD: Duration = Duration::from_secs(3);
/// Turns are put aside for so long after the last join.
const LEASE_AFTER_JOIN: Duration = Duration::from_secs(60);

/// When which event wants attention.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    heap: Mutex<BinaryHeap<Reverse<(Micros, EventId)>>>,
    earlier: Notify,
}

impl Schedule {
    /// Wants attention for `event` at `at`, or earlier if that was wanted already.
    pub fn at(&self, at: Micros, event: &Event) {
        {
            let mut side = event.side.lock();
            if side.gate.due != Micros(0) && side.gate.due <= at {
                return;
            }
            side.gate.due = at;
        }
        self.push(at, &event.id);
    }

    fn push(&self, at: Micros, event: &EventId) {
        let first = {
            let mut heap = self.heap.lock();
            let first = heap
                .peek()
                .is_none_or(|Reverse((earliest, _))| at < *earliest);
            heap.push(Reverse((at, event.clone())));
            first
        };
        if first {
            self.earlier.notify_one();
        }
    }

    fn pop(&self, now: Micros) -> Option<(Micros, EventId)> {
        let mut heap = self.heap.lock();
        match heap.peek() {
            Some(Reverse((at, _))) if *at <= now => heap.pop().map(|Reverse(due)| due),
            _ => None,
        }
    }
}

/// A request to an event's gate, to be answered through [`Room::advanced`].
#[derive(Debug)]
pub struct Asking {
    /// What to ask.
    pub request: AdvanceRequest,
    /// When it was made.
    pub since: Micros,
    event: Arc<Event>,
}

impl Room {
    /// When anything wants attention next.
    pub fn next_due(&self) -> Option<Micros> {
        self.schedule.heap.lock().peek().map(|Reverse((at, _))| *at)
    }

    /// Waits until something wants attention earlier than anything did before.
    pub async fn earlier(&self) {
        self.schedule.earlier.notified().await;
    }

    /// Does the memory work of every event that is due, and hands out what to ask their gates.
    pub fn tick(&self, now: Micros, asking: &mut Vec<Asking>) {
        while let Some((at, name)) = self.schedule.pop(now) {
            let Some(event) = self.event(name.as_str()) else {
                continue;
            };
            let outdated = event.side.lock().gate.due != at;
            if outdated {
                continue;
            }
            if let Some(ask) = self.tick_event(now, &event) {
                asking.push(ask);
            }
        }
    }

    fn tick_event(&self, now: Micros, event: &Arc<Event>) -> Option<Asking> {
        let policy = event.policy.load_full();
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        self.end_soft_leaves(now, event, &mut writer, &mut side);
        let more = self.sweep(now, event, &policy, &mut writer, &mut side);
        let waiting = event.line.waiting() > 0;
        let departures = std::mem::take(&mut side.departures);
        if let Some(measured) = &mut side.measured {
            measured.note(now, 0, departures, waiting && !policy.paused);
        }
        event.publish_forecast(now, &side);
        let request = self.ask(now, event, &policy, &mut writer, &mut side);
        let period = if more {
            PERIOD_MIN
        } else if waiting || !side.leaving.is_empty() || !side.gate.leased.is_empty() {
            Self::period(now, &policy, &side)
        } else if event.line.is_empty() && request.is_none() {
            PERIOD_IDLE
        } else {
            PERIOD_QUIET
        };
        let dead = event.line.is_empty()
            && request.is_none()
            && !side.configured
            && side.patch.is_none()
            && now.since(side.joined_at) > IDLE_DROPPED;
        if dead {
            side.retired = true;
            drop(side);
            drop(writer);
            self.events.remove(&event.id, None);
            return None;
        }
        side.gate.due = now.after(period);
        let due = side.gate.due;
        drop(side);
        drop(writer);
        self.schedule.push(due, &event.id);
        request.map(|request| Asking {
            request,
            since: now,
            event: Arc::clone(event),
        })
    }

    /// Removes those nobody polled for, and forgets old removals. Answers whether there is more.
    fn sweep(
        &self,
        now: Micros,
        event: &Event,
        policy: &Policy,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
    ) -> bool {
        let mut over = Vec::new();
        let expire = !self.is_degraded();
        let (heartbeat, ticket) = (policy.heartbeat_ttl, policy.ticket_ttl);
        let swept = writer.sweep(now, heartbeat, ticket, expire, SWEEP_MAX, &mut over);
        for due in over {
            let Some(view) = event.line.find(&due.id) else {
                continue;
            };
            match due.lapse {
                Lapse::Silent { .. } | Lapse::Grace => {
                    let key = TicketKey {
                        arrival: view.time,
                        id: due.id,
                    };
                    self.remove(now, event, writer, side, &key, Gone::Expired);
                }
                // Turns that the gate does not know of lapse by themselves.
                Lapse::Turn => drop(writer.miss(&due.id, now.after(policy.late_grace))),
            }
        }
        swept.more
    }

    /// How long until the next turn can be given: when the bucket holds one, and not sooner than
    /// half a burst gathers, within bounds.
    fn period(now: Micros, policy: &Policy, side: &Side) -> Duration {
        if policy.rate <= 0.0 || policy.paused {
            return PERIOD_MAX;
        }
        let level = Self::level(now, policy, side);
        let whole = (1e6 - level).max(0.0) / policy.rate;
        let half_burst = f64::from(policy.burst) * 0.5e6 / policy.rate;
        let micros = whole
            .max(half_burst.min(PERIOD_MAX.as_micros() as f64))
            .ceil();
        Duration::from_micros(micros as u64).clamp(PERIOD_MIN, PERIOD_MAX)
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
    fn ask(
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
        let policy_now = gate_policy(policy, now);
        let mut candidates: Vec<TicketKey> = Vec::new();
        let passes = policy.order == Order::Passthrough;
        if !policy_now.paused && !passes {
            let affordable = (Self::level(now, policy, side) / 1e6).max(0.0) as usize + 1;
            let most = affordable.min(CANDIDATES_MAX);
            writer.front(most, false, &mut candidates);
        }
        let nobody = event.line.waiting() == 0;
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
        let gate = &mut side.gate;
        let idle = candidates.is_empty()
            && gate.given_back.is_empty()
            && gate.leased.is_empty()
            && gate.open_turns == 0
            && gate.active == 0
            && gate.lease == 0
            && lease_wanted == 0;
        if idle {
            return None;
        }
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
            candidates: candidates.into_iter().map(|key| key.id).collect(),
            given_back: gate.given_back.clone(),
            claims: gate.leased.values().copied().collect(),
            lease_held: gate.lease,
            lease_wanted,
        })
    }

    /// The gate's answer; `None` when there was none in time.
    pub fn advanced(&self, now: Micros, asking: Asking, answer: Option<Advanced>) {
        let Asking {
            request,
            since,
            event,
        } = asking;
        let policy = event.policy.load_full();
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        side.gate.asking = false;
        let Some(answer) = answer else {
            let due = now.after(PERIOD_RETRY);
            side.gate.due = due;
            drop(side);
            drop(writer);
            self.schedule.push(due, &event.id);
            return;
        };
        self.book(now, since, &request, &answer, &mut side);
        // Turns are told on the store's clock; here they end on ours.
        let ours = |until: Micros| now.after(until.since(answer.now));
        let mut called = 0;
        for turn in &answer.called {
            called +=
                u32::from(self.call(now, &event, &mut writer, &mut side, turn, ours(turn.until)));
        }
        for id in &answer.missed {
            let Some(view) = event.line.find(id) else {
                continue;
            };
            if matches!(view.state, State::Called { .. }) {
                writer.miss(id, now.after(policy.late_grace));
                self.record(now, &event, Kind::Missed, *id, self.clock.tick(now));
            }
        }
        for id in &answer.entered {
            let Some(view) = event.line.find(id) else {
                continue;
            };
            if !view.state.is_gone() {
                let key = TicketKey {
                    arrival: view.time,
                    id: *id,
                };
                self.remove(now, &event, &mut writer, &mut side, &key, Gone::Entered);
            }
        }
        if called > 0 {
            let departures = std::mem::take(&mut side.departures);
            let measured = side.measured.get_or_insert_with(|| Measured::new(since));
            measured.note(now, called, departures, true);
        }
        // A stale view was refused: ask again at once with what is known now.
        if answer.stale && event.line.waiting() > 0 {
            side.gate.due = now;
            drop(side);
            drop(writer);
            self.schedule.push(now, &event.id);
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
        gate.version = answer.version;
        gate.level = answer.level;
        gate.level_at = now;
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
        until: Micros,
    ) -> bool {
        let Some(view) = event.line.find(&turn.id) else {
            return false;
        };
        match view.state {
            State::Waiting | State::Returned | State::Missed { .. } => {
                writer.call(&turn.id, until);
                if let Some((promised, real)) = side.kept(now, &turn.id) {
                    self.promises.note(promised, real);
                }
                true
            }
            State::Called { .. } => false,
            // Left while the call was on its way.
            State::Left | State::Expired => {
                side.gate.given_back.push(turn.id);
                false
            }
            State::Entered => false,
        }
    }

    /// Open turns of an event, as its line has them; for tests and operators.
    pub fn turn_of(&self, event: &EventId, id: &TicketId) -> Option<Micros> {
        match self.event(event.as_str())?.line.find(id)?.state {
            State::Called { until } => Some(until),
            _ => None,
        }
    }
}
