//! A visitor asks for a place.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::answer::{Commit, Join, JoinRefusal, Joined};
use super::event::{Event, Tally};
use super::line::State;
use super::shares::Given;
use super::side::Side;
use super::status::Found;
use super::{Room, line};
use crate::model::gate::Turn;
use crate::model::token::Claims;
use crate::model::{EventId, Kind, Micros, Order, Policy, Record, TicketId, TicketKey, home};

/// A view that is older than this misses more than the joins that are on their way.
const HEARD_WITHIN: Duration = Duration::from_millis(300);
/// Whose turn is further away than this is in no hurry.
const FAR: Duration = Duration::from_secs(2);
/// When it is worth trying again after something was full.
const FULL_RETRY: Duration = Duration::from_secs(5);
/// Before a lottery opens, arrivals are drawn from this long a time before the opening: 2^32 µs.
const DRAW_SPAN: u64 = 1 << 32;

/// As many events as may be are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Room {
    /// Gives a place, or finds the one that the idempotency key names. Never waits.
    ///
    /// # Errors
    /// See [`JoinRefusal`]; nothing was changed then.
    pub fn join(&self, now: Micros, ask: &Join<'_>) -> Result<Joined, JoinRefusal> {
        if ask.event.is_empty() {
            return Err(JoinRefusal::MissingEvent);
        }
        let name = EventId::new(ask.event)?;
        let (id, key) = match ask.key {
            Some(key) => {
                let (key_hash, body) = self.ticket_keys.key_and_body(&name, key, ask.user);
                if !self.recent.agrees(key_hash, body) {
                    return Err(JoinRefusal::Conflict);
                }
                let id = self.ticket_keys.keyed_id(&name, key, ask.user);
                (id, Some(key_hash))
            }
            None => {
                let partitions = self.journal.partitions();
                // One partition has the event's gate to keep.
                let lane = self.journal.spread(now, home::gate(&name, partitions));
                (TicketId::random_in(lane, partitions), None)
            }
        };
        loop {
            let event = self.event_to_join(now, &name)?;
            if let Some(joined) = self.join_event(now, &event, id, key)? {
                return Ok(joined);
            }
        }
    }

    fn event_to_join(&self, now: Micros, name: &EventId) -> Result<Arc<Event>, JoinRefusal> {
        match self.event(name.as_str()) {
            Some(event) => Ok(event),
            None if !self.settings.load().create_on_demand => Err(JoinRefusal::EventNotFound),
            None => self
                .event_or_make(now, name, false)
                .map_err(|TooMany| JoinRefusal::Full {
                    what: "the number of events",
                    retry_after: FULL_RETRY,
                }),
        }
    }

    /// `None` when the event or the ticket is not any more what it was when looked at: look again.
    fn join_event(
        &self,
        now: Micros,
        event: &Arc<Event>,
        id: TicketId,
        key: Option<u64>,
    ) -> Result<Option<Joined>, JoinRefusal> {
        // The one snapshot that this look goes by.
        let policy = event.policy.load();
        if policy.order == Order::Reject || Event::is_closed(&policy, now) {
            return Err(JoinRefusal::EventClosed);
        }
        if let Some(key) = key {
            match event.line.find_prefix(id.name()) {
                Some(known) if known.id != id => return Err(JoinRefusal::Conflict),
                Some(_) => {
                    if let Some(replayed) = self.replay(now, event, &policy, id, key) {
                        return Ok(Some(replayed));
                    }
                }
                None => {}
            }
        }
        let full = |what| JoinRefusal::Full {
            what,
            retry_after: FULL_RETRY,
        };
        if event.line.waiting() >= u64::from(policy.max_waiting) {
            return Err(full("the line"));
        }
        self.journal.admit().map_err(|_| full("the journal"))?;
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        let known = event.line.find(&id);
        // Looked at again: dropped for being empty, or joined by the same key at the same moment.
        if side.retired || known.is_some_and(|view| !view.state.is_gone()) {
            return Ok(None);
        }
        // The stamp is taken under the lock, so that places on one node are given in its order.
        let stamp = self.clock.tick(now);
        // Later than the ticket's own removal, should it have left before, and than what was forgotten.
        let before = known.map(|view| view.time).max(event.forgotten);
        let after = before.map_or(Micros(0), |before| Micros(before.0 + 1));
        let arrival = if Event::is_before_draw(&policy, now) {
            self.drawn(event, &policy, id, after)
        } else {
            stamp.max(after)
        };
        match writer.join(&id, arrival, now) {
            line::Joined::New | line::Joined::Moved | line::Joined::Known => {}
            // It entered meanwhile.
            line::Joined::Gone { .. } => return Ok(None),
            line::Joined::Full => return Err(full("the line")),
        }
        let far = self.is_far(now, &policy, event.line.waiting());
        let (lane, seq) = if far {
            self.record_patiently(now, event, Kind::Joined, id, arrival)
        } else {
            self.record(now, event, Kind::Joined, id, arrival)
        };
        side.joined_at = now;
        side.joins.note(now, self.feed_lag(now) <= HEARD_WITHIN);
        let peers = self.identity.fleet.saturating_sub(1);
        let unheard = side.joins.unheard(peers, far);
        let ticket = TicketKey { arrival, id };
        self.catch_up(now, event, &mut writer, &mut side, &ticket);
        if let Some(turn) = self.instant_turn(now, event, &policy, &mut side, ticket) {
            let end = self.call_until(&mut writer, &mut side, &id, turn.until);
            if !self.is_alone() && policy.order != Order::Passthrough {
                // The other nodes hear of the turn together with the ticket.
                self.record(now, event, Kind::Called, id, end);
            }
        }
        drop(side);
        drop(writer);
        Tally::add(&event.tally.joined);
        let found = Found::of(Arc::clone(event), &id, None, now).ok_or_else(|| full("the line"))?;
        let mut standing = self.standing(now, &found);
        if found.state == State::Waiting && !self.is_alone() {
            // Others may have joined elsewhere before: better a place that falls than one that rises.
            standing.position += unheard;
            standing.total_waiting = standing.total_waiting.max(standing.position);
        }
        let told = self.told(&policy, now, &standing);
        if let Some(key) = key {
            self.recent.tell(key, told);
        }
        let token = self.token(event, &found, arrival, told);
        self.schedule_after_join(now, event, &standing, id);
        Ok(Some(Joined {
            token,
            standing,
            commit: Commit { lane, seq },
        }))
    }

    fn schedule_after_join(
        &self,
        now: Micros,
        event: &Event,
        standing: &super::answer::Standing,
        id: TicketId,
    ) {
        let soon = now.after(self.period_max());
        let scheduled = {
            let mut side = event.side.lock();
            if !standing.ready {
                side.promise(now, id, Duration::from_secs(standing.eta.likely));
            }
            side.gate.due != Micros(0) && side.gate.due <= soon
        };
        // An event at rest looks again late; somebody waits now, or spent a turn put aside.
        if !scheduled {
            self.schedule
                .at(if standing.ready { soon } else { now }, event);
        }
    }

    /// The place that a repeated join has already: also after entering, so that a lost answer costs
    /// nobody anything; a visit as a poll is. `None` when it was left or expired: joining again is a
    /// new place then.
    fn replay(
        &self,
        now: Micros,
        event: &Arc<Event>,
        policy: &Policy,
        id: TicketId,
        key: u64,
    ) -> Option<Joined> {
        let found = Found::of(Arc::clone(event), &id, None, now)?;
        let mut found = self.visited(now, found).ok()?;
        found.told = self.recent.told(key);
        let standing = self.standing(now, &found);
        // Place 0 is the word for a turn that came with the join itself, see `Room::adopt`.
        let told = || self.told(policy, now, &standing).filter(|told| *told > 0);
        let told = found.told.or_else(told);
        let commit = Commit {
            lane: id.partition(self.journal.partitions()),
            seq: 0,
        };
        Some(Joined {
            token: self.token(event, &found, found.time, told),
            standing,
            commit,
        })
    }

    /// Whether a place with so many before it is so far from its turn that the other nodes need not
    /// hear at once what becomes of it.
    pub(super) fn is_far(&self, now: Micros, policy: &Policy, before: u64) -> bool {
        let soon = f64::from(policy.burst) + policy.rate * FAR.as_secs_f64();
        let opens_late = policy.opens.is_some_and(|opens| opens > now.after(FAR));
        let waits = policy.order != Order::Passthrough
            && (policy.paused || opens_late || before as f64 > soon);
        waits && !self.is_alone()
    }

    /// A turn in the join's own answer, when nobody waits and one was put aside for that.
    fn instant_turn(
        &self,
        now: Micros,
        event: &Event,
        policy: &Policy,
        side: &mut Side,
        ticket: TicketKey,
    ) -> Option<Turn> {
        let id = ticket.id;
        let until = now.after(policy.ready_ttl);
        if policy.order == Order::Passthrough && !self.serves_empty() {
            return Some(Turn { id, until });
        }
        let kept = self.is_kept(side, &ticket);
        let gate = &mut side.gate;
        let free = gate.lease > 0
            && !kept
            && now < gate.lease_until
            && !policy.paused
            && self.is_fresh(now)
            && Event::is_open(policy, now)
            && event.line.waiting() == 1;
        if !free {
            return None;
        }
        gate.lease -= 1;
        let of_store = self.to_store_clock(until);
        gate.leased.insert(id, Given { until, of_store });
        Some(Turn { id, until })
    }

    /// The place drawn for a visitor who came before the opening: even over the time before it, and
    /// not before `after`.
    fn drawn(&self, event: &Event, policy: &Policy, id: TicketId, after: Micros) -> Micros {
        let opens = policy.opens.unwrap_or(after);
        let low = opens.0.saturating_sub(DRAW_SPAN).max(after.0);
        let span = opens.0.saturating_sub(low).max(1);
        let draw = self.ticket_keys.draw(&event.id, &id);
        Micros(low + ((u128::from(draw) * u128::from(span)) >> 64) as u64)
    }

    /// Appends a record to the journal.
    pub(super) fn record(
        &self,
        now: Micros,
        event: &Event,
        kind: Kind,
        id: TicketId,
        at: Micros,
    ) -> (u16, u64) {
        self.journal.append(now, &event.id, Record { kind, id, at })
    }

    /// Appends a record that waits for company: nobody is in a hurry to hear of it.
    pub(super) fn record_patiently(
        &self,
        now: Micros,
        event: &Event,
        kind: Kind,
        id: TicketId,
        at: Micros,
    ) -> (u16, u64) {
        let record = Record { kind, id, at };
        if self.is_alone() {
            return self.journal.append(now, &event.id, record);
        }
        self.journal.append_patient(now, &event.id, record)
    }

    /// What a join's answer tells of the place, for the token to hold us to; nothing before a draw.
    fn told(
        &self,
        policy: &Policy,
        now: Micros,
        standing: &super::answer::Standing,
    ) -> Option<u32> {
        if self.serves_empty() {
            // Those ahead are in the store: what is told here must not bind later.
            return None;
        }
        if self.is_alone() {
            // Nothing is on its way from anywhere, and a replay is the same token to the letter.
            return None;
        }
        let told = u32::try_from(standing.position).ok();
        told.filter(|_| !Event::is_before_draw(policy, now))
    }

    fn token(&self, event: &Event, found: &Found, arrival: Micros, told: Option<u32>) -> String {
        self.ticket_keys.sign(&Claims {
            event: event.id.as_str(),
            id: found.id,
            slot: found.slot,
            arrival,
            node: self.identity.node,
            epoch: self.identity.epoch,
            told,
        })
    }

    /// Whether anything may be believed of a token: not so when it was issued before its event was
    /// forgotten on an operator's word.
    pub(super) fn is_void(&self, claims: &Claims<'_>) -> bool {
        let Ok(name) = EventId::new(claims.event) else {
            return true;
        };
        self.events
            .forgotten(&name)
            .is_some_and(|at| claims.arrival <= at)
    }

    /// Events held.
    pub fn events_held(&self) -> usize {
        self.events.len()
    }

    /// Joins since the start.
    pub fn joined(&self) -> u64 {
        let events = self.events.all();
        events
            .iter()
            .map(|event| event.tally.joined.load(Ordering::Relaxed))
            .sum()
    }
}
