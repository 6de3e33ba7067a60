//! What happens by itself: turns are called, soft leaves end, the dead are removed, forecasts move.
//!
//! One schedule holds when each event wants attention next, so that ten thousand quiet events cost
//! nothing. [`Room::tick`] does an event's memory work and hands out what to ask the gate;
//! [`Room::advanced`] brings the answer back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use crate::sync::waits::Mutex;
use tokio::sync::Notify;

use super::Room;
use super::event::Event;
use super::line::{Lapse, LineWriter, State};
use super::peers::SILENT_AFTER;
use super::side::Side;
use super::turns::PERIOD_RETRY;
use crate::model::gate::AdvanceRequest;
use crate::model::{EventId, Gone, Micros, Policy, TicketId, TicketKey, home};

/// Turns are called at least this often while somebody waits.
const PERIOD_MAX: Duration = Duration::from_millis(100);
/// … in a fleet, whose gates are asked over the network, and have their steps heard of by all.
const PERIOD_FLEET_MAX: Duration = Duration::from_millis(250);
/// … and at most this often.
pub(super) const PERIOD_MIN: Duration = Duration::from_millis(2);
/// An event in which nobody waits is looked at this often while it holds any ticket.
const PERIOD_QUIET: Duration = Duration::from_secs(1);
/// One with nothing in it is looked at this often, and dropped after [`IDLE_DROPPED`].
const PERIOD_IDLE: Duration = Duration::from_secs(30);
const IDLE_DROPPED: Duration = Duration::from_secs(600);
/// How long a reason for a longer wait is told.
pub(super) const REASON_TOLD: Duration = Duration::from_secs(60);
/// What a sighting told by another node may take to be heard.
pub(super) const HEARING: Duration = Duration::from_secs(2);
/// Who is seen so long after a lapse came after it, whatever the clocks say.
const RETURNED_AFTER: Duration = Duration::from_secs(2);
/// The most tickets one sweep looks at, so that the lock is short.
const SWEEP_MAX: usize = 4_096;

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

    /// Wants attention for `event` now, unless it gets it within `period` anyway: what visitors do
    /// does not set the pace at which gates are asked.
    pub fn soon(&self, now: Micros, event: &Event, period: Duration) {
        let due = event.side.lock().gate.due;
        if due == Micros(0) || due > now.after(period) {
            self.at(now, event);
        }
    }

    pub fn push(&self, at: Micros, event: &EventId) {
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
    /// The gate may have lost what happened after this: see [`Room::settlement`].
    pub(super) doubted: Option<Micros>,
    /// What was given without the gate is told before.
    pub(super) tells: bool,
    pub(super) event: Arc<Event>,
}

impl Room {
    /// Turns are called at least this often while somebody waits.
    pub(super) fn period_max(&self) -> Duration {
        if self.is_alone() {
            PERIOD_MAX
        } else {
            PERIOD_FLEET_MAX
        }
    }

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
        self.note_hearing(now);
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
        side.prune(now, policy.late_grace + policy.ticket_ttl);
        let waiting = event.line.waiting() > 0;
        let departures = std::mem::take(&mut side.departures);
        if let Some(measured) = &mut side.measured {
            measured.note(now, 0, departures, waiting && !policy.paused);
        }
        self.share(now, event, &policy, &mut writer, &mut side);
        event.publish_forecast(now, &side);
        let request = self.ask(now, event, &policy, &mut writer, &mut side);
        let period = if more {
            PERIOD_MIN
        } else if waiting && request.is_some() && self.is_home(now, event.home_key) {
            // The answer says when the next turn can be given.
            PERIOD_RETRY
        } else if waiting || !side.leaving.is_empty() || !side.gate.leased.is_empty() {
            self.period(now, &policy, &side)
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
            drop(self.events.remove(&event.id, None));
            return None;
        }
        side.gate.due = now.after(period);
        let due = side.gate.due;
        let doubted = side.gate.doubted;
        let tells = request.is_some() && side.shares.contact && side.shares.hand_over();
        drop(side);
        drop(writer);
        self.schedule.push(due, &event.id);
        request.map(|request| Asking {
            request,
            doubted,
            tells,
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
        let expire = self.hears_all(now, policy.heartbeat_ttl);
        let ticket = policy.ticket_ttl;
        // Another node tells of a poll only when it last told a third of the heartbeat time ago, and
        // is heard a little later.
        let heartbeat = if self.is_alone() {
            policy.heartbeat_ttl
        } else {
            policy.heartbeat_ttl + policy.heartbeat_ttl / 3 + SILENT_AFTER
        };
        let swept = writer.sweep(now, heartbeat, ticket, expire, SWEEP_MAX, &mut over);
        for due in over {
            let Some(view) = event.line.find(&due.id) else {
                continue;
            };
            match due.lapse {
                // One node is enough; this one's turn comes if that one is away.
                Lapse::Silent { .. } | Lapse::Grace
                    if !self.is_home(now, home::ticket_key(&due.id))
                        && !is_overdue(now, heartbeat, due.lapse, view.state) => {}
                // It may have been back elsewhere in time.
                Lapse::Grace if is_open_yet(&view.state, self.heard_until(now)) => {}
                Lapse::Grace
                    if matches!(view.state, State::Missed { until }
                        if was_back(policy, until, last_seen(event, &due.id))) =>
                {
                    self.note_return(now, event, writer, side, &view, policy);
                }
                Lapse::Silent { .. } | Lapse::Grace => {
                    let key = TicketKey {
                        arrival: view.time,
                        id: due.id,
                    };
                    self.remove(now, event, writer, side, &key, Gone::Expired);
                }
                // Turns that the gate does not know of lapse by themselves.
                Lapse::Turn => {
                    if let State::Called { until } = view.state {
                        writer.miss(&due.id, until.after(policy.late_grace));
                    }
                    side.shares.end_turn(&due.id);
                }
            }
        }
        swept.more
    }
}

/// Whether so long a time is over that the ticket's home cannot know of the ticket: what a store lost
/// may be known to one node alone.
fn is_overdue(now: Micros, heartbeat: Duration, lapse: Lapse, state: State) -> bool {
    match (lapse, state) {
        (Lapse::Silent { last_seen }, _) => now.since(last_seen) > 2 * heartbeat,
        (_, State::Missed { until }) => now.since(until) > heartbeat,
        _ => false,
    }
}

/// Whether of a missed turn's late grace not all was heard yet. A node that has not heard all of it, and
/// of others it hears nothing older, gives a late one another chance, which is to be heard of too.
fn is_open_yet(state: &State, heard_until: Micros) -> bool {
    matches!(state, State::Missed { until } if until.after(SILENT_AFTER) > heard_until)
}

/// When a ticket was last seen anywhere.
fn last_seen(event: &Event, id: &TicketId) -> Micros {
    let (polled, told) = event.line.sightings(id).unwrap_or_default();
    polled.max(told)
}

/// Whether the owner of a missed turn, whose late grace ends at `until`, was seen within it, though
/// the word of its return did not come here: a store that nodes load from does not keep it.
pub(super) fn was_back(policy: &Policy, until: Micros, seen: Micros) -> bool {
    seen.after(policy.late_grace) > until.after(RETURNED_AFTER)
}
