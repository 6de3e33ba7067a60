//! Where a visitor stands: the path that a hundred thousand people refresh.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::answer::{Eta, Phase, Standing, TokenRefusal};
use super::event::Event;
use super::line::{LineWriter, State, View};
use super::shares::Given;
use super::side::Side;
use super::tick::REASON_TOLD;
use super::{Room, polling};
use crate::model::token::{self, Claims};
use crate::model::{EventId, Gone, Kind, LegacyToken, Micros, NodeId, Order, Policy};
use crate::model::{TicketId, TicketKey};

/// A visitor who asks again this soon gets the same bytes again. Less than any interval that
/// visitors are told.
const REPEATED_WITHIN: Duration = Duration::from_millis(300);

/// A ticket that a token showed, as it was at that moment.
#[derive(Debug, Clone)]
pub struct Found {
    /// Names the answer, when the visitor polls sooner than told and may be answered as before.
    pub repeat: Option<Repeat>,
    pub(super) event: Arc<Event>,
    pub(super) id: TicketId,
    /// Where the line keeps it.
    pub(super) slot: u32,
    pub(super) state: State,
    /// The arrival, or when the ticket was removed.
    pub(super) time: Micros,
    /// The place, when waiting.
    pub(super) place: Option<u64>,
    pub(super) leaving: bool,
    /// When the fleet was last told that the ticket was polled for.
    published: Micros,
    /// When it was last polled for here before.
    polled: Micros,
    /// The place told at the join, as the token says.
    pub(super) told: Option<u32>,
}

/// Names an answer: the same ticket waiting at the same place in the same second of its wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Repeat {
    /// The ticket.
    pub id: TicketId,
    /// Its place.
    pub place: u64,
    /// Whole seconds since it joined.
    pub waited_sec: u64,
}

impl Found {
    /// Looks a ticket up and notes the visit. No lock.
    pub(super) fn of(
        event: Arc<Event>,
        id: &TicketId,
        slot: Option<u32>,
        now: Micros,
    ) -> Option<Self> {
        let look = event.line.look(id, slot, now)?;
        let repeated = look.state == State::Waiting
            && look.place.is_some()
            && now > look.time.after(REPEATED_WITHIN)
            && now.since(look.previous_seen) < REPEATED_WITHIN;
        Some(Self {
            repeat: repeated.then_some(Repeat {
                id: *id,
                place: look.place.unwrap_or(0),
                waited_sec: now.since(look.time).as_secs(),
            }),
            event,
            id: *id,
            slot: look.slot,
            state: look.state,
            time: look.time,
            place: look.place,
            leaving: look.leaving,
            published: look.published,
            polled: look.previous_seen,
            told: None,
        })
    }
}

impl Room {
    /// Verifies the token, finds the ticket, notes that it was polled. No lock and no store, unless
    /// the visit itself changes something: a ticket nobody knew is put back at its place, a soft
    /// leave is undone, a missed turn's owner is back.
    ///
    /// # Errors
    /// The token shows nothing, or a place that is gone.
    pub fn look(&self, now: Micros, token: &str) -> Result<Found, TokenRefusal> {
        let mut buffer = token::buffer();
        let claims = self
            .believe(token, &mut buffer)
            .ok_or(TokenRefusal::NotFound)?;
        if mutant!(StatusNeedsStore) && !self.is_fresh(now) {
            return Err(TokenRefusal::NotFound);
        }
        let found = match self.event(claims.event) {
            Some(event) => Found::of(event, &claims.id, self.slot_of(&claims), now),
            None => None,
        };
        // The token may know of a join that this node does not, lost in a crash: one before the join
        // that is known here (it was asked for again, and the earliest counts), or one after the
        // removal that is known here. Who entered does not join again.
        let says_news = |found: &Found| match found.state {
            State::Entered => false,
            state if state.is_gone() => claims.arrival > found.time,
            state => claims.arrival < found.time || is_over(state, found.time, &claims),
        };
        let mut found = match found {
            Some(found) if !says_news(&found) => found,
            _ => self.put_back(now, &claims)?,
        };
        found.told = claims.told;
        if !self.is_alone() {
            self.publish_sighting(now, &found);
            if found.state == State::Waiting && claims.told == Some(0) {
                found = self.adopt(now, found, &claims);
            }
        }
        self.visited(now, found)
    }

    /// What a visit makes of a ticket that was just looked up. No lock, unless it changes something.
    ///
    /// # Errors
    /// The place is gone.
    pub(super) fn visited(&self, now: Micros, found: Found) -> Result<Found, TokenRefusal> {
        match found.state {
            State::Waiting | State::Returned
                if !found.leaving && !found.event.posted.lets_all() =>
            {
                Ok(found)
            }
            State::Entered => Ok(found),
            State::Left => Err(TokenRefusal::Gone(Some(Gone::Left))),
            State::Expired => Err(TokenRefusal::Gone(Some(Gone::Expired))),
            State::Called { until } if until > now && !found.leaving => Ok(found),
            _ => self.revive(now, found),
        }
    }

    /// Where the line keeps a token's ticket, if the token was issued by this very process.
    fn slot_of(&self, claims: &Claims<'_>) -> Option<u32> {
        let ours = (claims.node, claims.epoch) == (self.identity.node, self.identity.epoch);
        ours.then_some(claims.slot)
    }

    /// What a token says, if it was signed here; or what is known of a legacy one.
    pub(super) fn claims<'a>(
        &self,
        token: &str,
        buffer: &'a mut token::TokenBuffer,
    ) -> Option<Claims<'a>> {
        if token.len() == LegacyToken::CHARS {
            self.legacy_claims(token, buffer)
        } else {
            self.ticket_keys.verify(token, buffer)
        }
    }

    /// What a token says, if it is one of ours; counts it if not.
    pub(super) fn believe<'a>(
        &self,
        token: &str,
        buffer: &'a mut token::TokenBuffer,
    ) -> Option<Claims<'a>> {
        let claims = self.claims(token, buffer);
        if claims.is_none() {
            self.forged.fetch_add(1, Ordering::Relaxed);
        }
        claims
    }

    /// Tokens since the start that were not signed here.
    pub fn forged(&self) -> u64 {
        self.forged.load(Ordering::Relaxed)
    }

    /// Where a ticket that was just looked up stands. No lock.
    pub fn standing(&self, now: Micros, found: &Found) -> Standing {
        let event = &found.event;
        let total_waiting = event.line.waiting();
        let (min, max) = event.posted.polling();
        let polls = polling::Polls {
            min,
            max,
            salt: found.id.as_u128() as u64 ^ now.0,
        };
        let mut standing = Standing {
            phase: Phase::Waiting,
            position: 0,
            total_waiting,
            waited: now.since(found.time),
            eta: Eta::default(),
            ready: false,
            enter_within: None,
            poll_after: polls.soon(),
            reason: None,
            degraded: self.is_degraded(),
        };
        match found.state {
            State::Called { until } => {
                standing.ready = true;
                standing.enter_within = Some(until.since(now));
            }
            State::Entered => {
                standing.phase = Phase::Entered;
                standing.waited = Duration::ZERO;
                standing.poll_after = polls.late();
            }
            State::Waiting if event.posted.is_before_draw(now) => {
                // Nobody has a place before the draw: the last one is the honest bound.
                standing.position = total_waiting.max(1);
                standing.eta = event.forecast.at(standing.position);
                standing.reason = Some(super::answer::WaitReason::Calculating);
                standing.poll_after = polls.after(event.forecast.at(1).likely);
            }
            _ => {
                standing.position = self.shown(now, found);
                standing.eta = event.forecast.at(standing.position);
                standing.reason = if self.serves_empty() {
                    Some(super::answer::WaitReason::Calculating)
                } else {
                    event.reason()
                };
                standing.poll_after = polls.after(standing.eta.likely);
            }
        }
        standing
    }

    /// The place to tell: never behind the one told at the join (I5). Who joined on other nodes
    /// before this ticket may still have been on the feed then, and until it must have come, all
    /// nodes tell what was told; so does one that does not know who is ahead.
    fn shown(&self, now: Micros, found: &Found) -> u64 {
        // Who is back after a missed turn is at their own place again, though nobody counts them.
        let rank = found.place.unwrap_or_else(|| {
            found.event.line.rank_of_key(&TicketKey {
                arrival: found.time,
                id: found.id,
            })
        });
        let rank = rank.max(1);
        let told = found
            .told
            .filter(|told| *told > 0 && !mutant!(ToldForgotten));
        let Some(told) = told.map(u64::from) else {
            return rank;
        };
        let on_its_way = !self.is_alone()
            && found.state == State::Waiting
            && !self.has_heard_joins(now, found.time);
        if on_its_way || self.serves_empty() {
            told
        } else {
            rank.min(told)
        }
    }

    /// Tells the fleet that the ticket was polled for, when it last heard so long ago that other
    /// nodes might begin to wonder (I8).
    fn publish_sighting(&self, now: Micros, found: &Found) {
        let every = found.event.policy.load().heartbeat_ttl / 3;
        if !found.state.is_gone()
            && !mutant!(SightingsKept)
            && now.since(found.published) >= every
            && found.event.line.claim_sighting(&found.id, now, every)
        {
            let record = |kind, at| self.record_patiently(now, &found.event, kind, found.id, at);
            // The node that wrote the join may have died before it could write it again.
            if self.may_be_lost(found.time, found.published) {
                record(Kind::Joined, found.time);
            }
            record(Kind::Seen, self.clock.tick(now));
        }
    }

    /// The token says that its ticket was ready at once, out of a lease of the node that signed it,
    /// and this node has not heard of that turn yet: the signature is as good.
    fn adopt(&self, now: Micros, found: Found, claims: &Claims<'_>) -> Found {
        let event = Arc::clone(&found.event);
        let policy = event.policy.load();
        let until = claims.arrival.after(policy.ready_ttl);
        if until <= now || policy.order == Order::Passthrough || found.time != claims.arrival {
            return found;
        }
        {
            let mut writer = event.line.write();
            let mut side = event.side.lock();
            if event
                .line
                .find(&found.id)
                .is_none_or(|view| view.state != State::Waiting)
            {
                return found;
            }
            let of_store = self.call_until(&mut writer, &mut side, &found.id, until);
            let turn = Given { until, of_store };
            side.gate.lent.insert(found.id, (claims.node, turn));
        }
        Found::of(event, &found.id, None, now).unwrap_or(found)
    }

    /// A valid token that nobody knows and nobody removed: the visitor's proof is all that is left
    /// of the place, and it is enough (I1).
    fn put_back(&self, now: Micros, claims: &Claims<'_>) -> Result<Found, TokenRefusal> {
        // A legacy token proves nothing: what memory does not hold is not there.
        if claims.node == NodeId::OUTSIDE || self.is_void(claims) || mutant!(NotPutBack) {
            return Err(TokenRefusal::NotFound);
        }
        let name = EventId::new(claims.event).map_err(|_| TokenRefusal::NotFound)?;
        let ttl = match self.event(claims.event) {
            Some(event) => event.policy.load().ticket_ttl,
            None => self.base_policy(&name).ticket_ttl,
        };
        // Removals are remembered for `ticket_ttl`: of an older ticket nobody can tell.
        if now.since(claims.arrival) > ttl {
            return Err(TokenRefusal::Gone(None));
        }
        self.clock
            .observe(claims.arrival, now, self.identity.skew_max);
        loop {
            let event = self
                .event_or_make(now, &name, true)
                .map_err(|_| TokenRefusal::NotFound)?;
            let changed;
            {
                let mut writer = event.line.write();
                let mut side = event.side.lock();
                if side.retired {
                    continue;
                }
                let known = event.line.find(&claims.id);
                if known.is_some_and(|view| is_over(view.state, view.time, claims)) {
                    let removed = Micros(claims.arrival.0.saturating_sub(1));
                    let expired = (removed, Gone::Expired);
                    self.strike(now, &event, &mut writer, &mut side, &claims.id, expired);
                    self.record(now, &event, Kind::Expired, claims.id, removed);
                }
                // A token of a place that was left says nothing new, however often it is shown: no
                // poll may cost the gate a question.
                changed = matches!(
                    writer.join(&claims.id, claims.arrival, now),
                    super::line::Joined::New | super::line::Joined::Moved
                );
                if changed {
                    side.joined_at = now;
                    self.record(now, &event, Kind::Joined, claims.id, claims.arrival);
                    // Nor need this node have heard of a goodbye: it is taken back where it was said.
                    self.record(now, &event, Kind::Seen, claims.id, self.clock.tick(now));
                    let key = TicketKey {
                        arrival: claims.arrival,
                        id: claims.id,
                    };
                    self.catch_up(now, &event, &mut writer, &mut side, &key);
                }
            }
            if changed {
                self.schedule.at(now, &event);
            }
            return Found::of(event, &claims.id, None, now).ok_or(TokenRefusal::NotFound);
        }
    }

    /// The owner of a missed turn is back. The others are told which turn that was.
    pub(super) fn note_return(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        view: &View,
        policy: &Policy,
    ) {
        let Some(ended) = self.turn_end(side, policy, &view.id, view.state) else {
            return;
        };
        side.gate.note_turn(view.id, ended);
        if let State::Called { until } = view.state {
            writer.miss(&view.id, until.after(policy.late_grace));
        }
        writer.give_back(&view.id);
        side.returned_until = now.after(REASON_TOLD);
        self.record(now, event, Kind::Returned, view.id, ended);
    }

    /// The visit changes something: a soft leave is undone, a missed or lapsed turn's owner waits
    /// at their own place again, a line that was opened to all lets its people through.
    fn revive(&self, now: Micros, found: Found) -> Result<Found, TokenRefusal> {
        let event = Arc::clone(&found.event);
        let policy = event.policy.load();
        {
            let mut writer = event.line.write();
            let mut side = event.side.lock();
            let Some(view) = event.line.find(&found.id) else {
                return Err(TokenRefusal::NotFound);
            };
            if view.leaving {
                // Later than the goodbye that it undoes, by whichever clock that was said.
                let said = side.leaving.said(&found.id).unwrap_or_default();
                let seen = self.clock.tick(now).max(Micros(said.0.saturating_add(1)));
                writer.set_leaving(&found.id, false);
                side.leaving.cancel(&found.id);
                self.record(now, &event, Kind::Seen, found.id, seen);
            }
            let key = TicketKey {
                arrival: view.time,
                id: found.id,
            };
            side.rewind(&key);
            match view.state {
                _ if view.state.is_gone() => {}
                State::Called { until } if until > now => {}
                _ if event.posted.lets_all() && !self.serves_empty() => {
                    let until = now.after(policy.ready_ttl);
                    self.call_until(&mut writer, &mut side, &found.id, until);
                }
                State::Called { until } | State::Missed { until } => {
                    // A process that stood still has not noticed yet what it did not hear meanwhile.
                    self.note_hearing(now);
                    if matches!(view.state, State::Missed { .. })
                        && until <= self.heard_until(now)
                        && self.started.after(policy.late_grace) <= until
                        && !super::tick::was_back(&policy, until, found.published.max(found.polled))
                        && self.hears_all(now, policy.late_grace)
                    {
                        // Nobody can have seen it back in time, nor an earlier life of this node.
                        self.expire(now, &event, &mut writer, &mut side, &key);
                        return Err(TokenRefusal::Gone(Some(Gone::Expired)));
                    }
                    self.note_return(now, &event, &mut writer, &mut side, &view, &policy);
                    // Where a goodbye is to be ended, nobody need know of the turn.
                    self.record(now, &event, Kind::Seen, found.id, self.clock.tick(now));
                }
                _ => {}
            }
        }
        self.schedule.soon(now, &event, self.period_max());
        let told = found.told;
        let mut found = Found::of(event, &found.id, None, now).ok_or(TokenRefusal::NotFound)?;
        found.told = told;
        match found.state {
            State::Left => Err(TokenRefusal::Gone(Some(Gone::Left))),
            State::Expired => Err(TokenRefusal::Gone(Some(Gone::Expired))),
            _ => Ok(found),
        }
    }
}

/// Whether a token is of a later place than the one of this arrival, and was given after the late grace
/// of a turn that is known as missed: another node has removed the ticket by then, and taken it anew.
fn is_over(state: State, arrival: Micros, claims: &Claims<'_>) -> bool {
    let after = |until: Micros| claims.arrival > arrival.max(until);
    matches!(state, State::Missed { until } if after(until))
}
