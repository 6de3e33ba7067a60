//! A visitor goes, for good or perhaps only to refresh the page.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, Tally};
use super::line::{LineWriter, Reason, State, View};
use super::side::Side;
use super::tick::HEARING;
use super::{Room, join};
use crate::model::token::{self, Claims};
use crate::model::{EventId, Gone, Kind, Micros, Record, TicketKey};

/// The line's word for how a ticket went.
pub(super) const fn reason(why: Gone) -> Reason {
    match why {
        Gone::Left => Reason::Left,
        Gone::Expired => Reason::Expired,
        Gone::Entered => Reason::Entered,
    }
}

impl Room {
    /// Removes the ticket. Also fine for one that nobody knows: the removal is remembered, so that
    /// no node puts it back.
    pub fn leave(&self, now: Micros, token: &str) {
        let mut buffer = token::buffer();
        let Some(claims) = self.believe(token, &mut buffer) else {
            return;
        };
        let Some(event) = self.event_of(now, &claims) else {
            return;
        };
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        let known = event.line.find(&claims.id);
        let is_over = |view: &View| view.state.is_gone() && claims.arrival <= view.time;
        if known.as_ref().is_some_and(is_over) {
            return;
        }
        let key = TicketKey {
            arrival: claims.arrival,
            id: claims.id,
        };
        self.remove(now, &event, &mut writer, &mut side, &key, Gone::Left);
    }

    /// Marks the ticket as leaving; a poll within the grace undoes it. Answers the grace.
    pub fn leave_softly(&self, now: Micros, token: &str) -> Duration {
        let mut buffer = token::buffer();
        let known = self.claims(token, &mut buffer).and_then(|claims| {
            let event = self.event(claims.event)?;
            event
                .line
                .find(&claims.id)
                .filter(|view| !view.state.is_gone())?;
            Some((event, claims.id))
        });
        let Some((event, id)) = known else {
            return self.settings.load().defaults.leave_grace;
        };
        let grace = event.policy.load().leave_grace;
        let mut writer = event.line.write();
        let far = self.waits_far(now, &event, event.line.find(&id));
        if writer.set_leaving(&id, true) {
            let until = now.after(grace);
            let mut side = event.side.lock();
            let said = self.clock.tick(now);
            side.leaving.start(id, said, until);
            if far {
                self.record_patiently(now, &event, Kind::Leaving, id, said);
            } else {
                self.record(now, &event, Kind::Leaving, id, said);
            }
            let due = side.gate.due;
            drop(side);
            if due > until {
                self.schedule.at(until, &event);
            }
        }
        grace
    }

    /// The event a believed token is for, made anew if it was dropped for being empty.
    fn event_of(&self, now: Micros, claims: &Claims<'_>) -> Option<Arc<Event>> {
        if self.is_void(claims) {
            return None;
        }
        match self.event(claims.event) {
            Some(event) => Some(event),
            None => {
                let name = EventId::new(claims.event).ok()?;
                self.event_or_make(now, &name, true)
                    .map_err(|join::TooMany| ())
                    .ok()
            }
        }
    }

    /// Removes a ticket from the line and from everything beside it, and gives its turn back.
    pub(super) fn remove(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        key: &TicketKey,
        why: Gone,
    ) {
        // A removal is later than the arrival it removes, whatever the clocks say.
        let at = self.clock.tick(now).max(key.arrival);
        self.remove_at(now, event, writer, side, key, (at, why));
    }

    /// Removes a live ticket as of a moment; the gate's, of one that entered.
    pub(super) fn remove_at(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        key: &TicketKey,
        (at, why): (Micros, Gone),
    ) {
        let before = event.line.find(&key.id);
        // Who entered is told of at once: should the gate forget it, the other nodes must not.
        let patient = self.waits_far(now, event, before);
        self.strike(now, event, writer, side, &key.id, (at, why));
        if patient {
            self.record_patiently(now, event, why.kind(), key.id, at);
        } else {
            self.record(now, event, why.kind(), key.id, at);
        }
        self.uncovered(now, event, before.map(|view| view.time), &key.id);
        if why == Gone::Entered {
            // A turn of the lease is counted as given until the gate answers a question that says so:
            // the next answer may be older than this entry.
            Tally::add(&event.tally.entered);
            return;
        }
        Tally::add(&event.tally.left);
        side.departures = side.departures.saturating_add(1);
        if before.is_some_and(|view| matches!(view.state, State::Called { .. })) {
            side.gate.give_back(key.id);
        }
    }

    /// Whether a ticket waits far from its turn.
    fn waits_far(&self, now: Micros, event: &Event, view: Option<View>) -> bool {
        let place = view
            .filter(|view| view.state == State::Waiting)
            .and_then(|view| event.line.place(&view));
        place.is_some_and(|place| self.is_far(now, &event.policy.load(), place))
    }

    /// Removes a ticket that nobody polled for in time.
    pub(super) fn expire(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        key: &TicketKey,
    ) {
        self.remove(now, event, writer, side, key, Gone::Expired);
    }

    /// A node has started anew: no store told it who is leaving, so that it would tell nobody of
    /// those who come back to it, nor who is back after a missed turn, whom nobody counts.
    pub(super) fn tell_newcomer(&self, now: Micros) {
        self.put_off_leaves(now);
        for event in self.events.all() {
            let writer = event.line.write();
            let side = event.side.lock();
            for Record { kind, id, at } in side.leaving.to_end() {
                self.record(now, &event, kind, id, at);
            }
            for key in writer.returned() {
                if let Some(ended) = side.gate.turns.get(&key.id) {
                    self.record(now, &event, Kind::Returned, key.id, *ended);
                }
            }
        }
    }

    /// Goodbyes are told once more, and who came back meanwhile is to be heard of.
    pub fn put_off_leaves(&self, now: Micros) {
        for event in self.events.all() {
            event.side.lock().leaving.put_off(now.after(HEARING));
        }
    }

    /// Removes what left softly and did not come back.
    pub(super) fn end_soft_leaves(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
    ) {
        // In a fleet nobody may come back unheard: the grace counts while all nodes are heard, and is
        // over when all that was said in it was heard.
        if !self.is_alone() && !self.hears_all(now, event.policy.load().leave_grace) {
            return;
        }
        while let Some(id) = side.leaving.pop(self.heard_until(now)) {
            let Some(view) = event.line.find(&id) else {
                continue;
            };
            if view.leaving && !view.state.is_gone() {
                let key = TicketKey {
                    arrival: view.time,
                    id,
                };
                self.remove(now, event, writer, side, &key, Gone::Left);
            }
        }
    }
}
