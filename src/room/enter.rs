//! A visitor whose turn it is goes in.

use std::time::Duration;

use super::Room;
use super::answer::{
    Admission, EnterRefusal, EnterStep, NotReady, PassClaims, Phase, TokenRefusal,
};
use super::line::{State, View};
use super::status::Found;
use crate::model::gate::{EnterRequest, Entry, GatePolicy};
use crate::model::token::{self, KeyMark};
use crate::model::{EventId, Gone, Micros, Order, Policy, TicketId, TicketKey, micros};

/// When to try again when the gate has to catch up or the store is away.
const SOON: Duration = Duration::from_secs(1);

impl Room {
    /// What the gate needs to know of a policy.
    pub(super) fn gate_policy(&self, policy: &Policy, now: Micros) -> GatePolicy {
        GatePolicy {
            rate: policy.rate,
            burst: policy.burst,
            max_active: policy.max_active,
            paused: policy.paused || !super::Event::is_open(policy, now),
            ready_ttl: micros(policy.ready_ttl),
            late_grace: micros(policy.late_grace),
            ticket_ttl: micros(policy.ticket_ttl),
            pass_ttl: micros(policy.pass_ttl),
            nodes: self.sharing_nodes(policy),
            share_limit: micros(self.identity.share_limit),
        }
    }

    /// What the store must be asked so that the token's owner may enter.
    ///
    /// # Errors
    /// The token shows nothing, or it is not its turn.
    pub fn enter(&self, now: Micros, token: &str) -> Result<EnterStep, EnterRefusal> {
        let found = self.look(now, token)?;
        if let Some(shared) = self.enter_shared(now, &found, token) {
            return shared.map(EnterStep::Granted);
        }
        let standing = self.standing(now, &found);
        let event = &found.event;
        let policy = event.policy.load();
        if !standing.ready
            && standing.phase == Phase::Waiting
            && !self.may_be_called(&found, &policy)
            && !self.serves_empty()
        {
            if self.may_be_called_elsewhere(now, event, &found.id) {
                return Err(EnterRefusal::Unavailable { retry_after: SOON });
            }
            let reason = match found.state {
                State::Returned => NotReady::MissedTurn,
                _ if policy.paused => NotReady::Paused,
                _ if standing.position == 1 && event.side.lock().gate.at_capacity => {
                    NotReady::Capacity
                }
                _ => NotReady::Position,
            };
            return Err(EnterRefusal::NotReady {
                reason,
                retry_after: standing.poll_after,
            });
        }
        let mut buffer = token::buffer();
        let claims = self.claims(token, &mut buffer);
        let (node, claim) = {
            let side = event.side.lock();
            let own = side.gate.leased.get(&found.id).copied();
            match (own, side.gate.lent.get(&found.id)) {
                (None, Some(&(lender, turn))) => (lender, Some(turn)),
                _ => (self.identity.node, own),
            }
        };
        Ok(EnterStep::Ask(Box::new(EnterRequest {
            event: event.id.clone(),
            node,
            policy: self.gate_policy(&policy, now),
            id: found.id,
            claim: claim.map(|turn| self.claim_of(found.id, &turn)),
            free: policy.order == Order::Passthrough,
            arrival: claims.map_or(found.time, |claims| claims.arrival),
            key: KeyMark::in_token(token),
            known: (found.state == State::Entered).then_some(found.time),
        })))
    }

    /// The store's answer to what [`Room::enter`] asked.
    ///
    /// # Errors
    /// The turn had lapsed, or the store knows of none: the ticket is in line again.
    pub fn entered(
        &self,
        now: Micros,
        request: &EnterRequest,
        entry: Entry,
    ) -> Result<Admission, EnterRefusal> {
        let (at, store_now) = match entry {
            Entry::Granted { at, now } | Entry::Again { at, now } => (at, now),
            Entry::NotCalled
                if self.event(request.event.as_str()).is_some_and(|event| {
                    self.may_be_called_elsewhere(now, &event, &request.id)
                }) =>
            {
                return Err(EnterRefusal::Unavailable { retry_after: SOON });
            }
            Entry::Missed | Entry::NotCalled => {
                let reason = if self.to_the_front(now, request) {
                    NotReady::MissedTurn
                } else {
                    NotReady::Position
                };
                return Err(EnterRefusal::NotReady {
                    reason,
                    retry_after: SOON,
                });
            }
        };
        self.note_entered(now, request, at);
        let of = (&request.event, request.id, request.key);
        self.admission(of, &request.policy, at, store_now)
    }

    /// What an entry at a moment is answered with, `now` on the same clock.
    pub(super) fn admission(
        &self,
        (event, id, key): (&EventId, TicketId, Option<KeyMark>),
        policy: &GatePolicy,
        at: Micros,
        now: Micros,
    ) -> Result<Admission, EnterRefusal> {
        let until = policy.pass_until(at);
        let holds = (until > now).then_some((at, until));
        let pass = holds.and_then(|held| self.pass_keys.sign(event, id, key, held));
        let over = EnterRefusal::Token(TokenRefusal::Gone(Some(Gone::Entered)));
        Ok(Admission {
            pass: pass.ok_or(over)?,
            ttl_sec: until.since(now).as_secs().max(1),
        })
    }

    /// The store did not answer an enter in time; the visitor may ask again without harm.
    pub fn enter_failed(&self, _now: Micros, _request: &EnterRequest) -> EnterRefusal {
        EnterRefusal::Unavailable { retry_after: SOON }
    }

    /// The line forgets the ticket.
    fn note_entered(&self, now: Micros, request: &EnterRequest, at: Micros) {
        let Some(event) = self.event(request.event.as_str()) else {
            return;
        };
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        let Some(view) = event.line.find(&request.id) else {
            return;
        };
        if view.state != State::Entered {
            let key = TicketKey {
                arrival: view.time,
                id: request.id,
            };
            let entered = (at, Gone::Entered);
            self.remove_at(now, &event, &mut writer, &mut side, &key, entered);
        }
    }

    /// In a fleet, a turn given at another node may not have been heard of yet: for those so near
    /// the front that they may have one, the gate is asked.
    fn may_be_called(&self, found: &Found, policy: &Policy) -> bool {
        let near = f64::from(policy.burst) + policy.rate * self.identity.lag_max.as_secs_f64();
        !self.is_alone()
            && matches!(found.state, State::Waiting | State::Returned)
            && found.place.is_some_and(|place| place as f64 <= near)
    }

    /// The node believed in a turn that the gate has not: the ticket is called again first. Answers
    /// whether it did believe.
    fn to_the_front(&self, now: Micros, request: &EnterRequest) -> bool {
        let Some(event) = self.event(request.event.as_str()) else {
            return false;
        };
        {
            let mut writer = event.line.write();
            let mut side = event.side.lock();
            let called = |view: &View| matches!(view.state, State::Called { .. });
            let Some(view) = event.line.find(&request.id).filter(called) else {
                return false;
            };
            let policy = event.policy.load();
            self.note_return(now, &event, &mut writer, &mut side, &view, &policy);
            side.gate.leased.remove(&request.id);
            side.gate.lent.remove(&request.id);
        }
        self.schedule.at(now, &event);
        true
    }

    /// What a pass says; `None` for one that has ended or was never ours.
    pub fn pass_claims(&self, now: Micros, pass: &str) -> Option<PassClaims> {
        let claims = self.pass_keys.verify(pass)?;
        let holds = claims.exp > now.0 / 1_000_000;
        holds.then_some(PassClaims {
            ticket: claims.ticket()?,
            event: claims.aud,
            issued_at: claims.iat,
            expires_at: claims.exp,
        })
    }
}
