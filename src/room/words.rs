//! Words about turns: in whatever order they come, and joins and removals between them, every node
//! ends in the same state.
//!
//! 1. A turn is named by its end on the store's clock, to the microsecond. Whoever tells of a turn
//!    names it as it was named to them, whatever their own clock says.
//! 2. Of a ticket's turns the latest counts, and of that the furthest that it was heard to come:
//!    called, missed, back.
//! 3. It counts for the place that it was given to: one that was given before the ticket left is not
//!    a turn of the place that it has since. That follows from the turn's end, the newest removal and
//!    the arrival, which all nodes come to know, and is asked whenever one of these changes.
//! 4. A word about a place that is not known yet is kept until it is.

use std::time::Duration;

use ahash::AHashMap;

use super::Room;
use super::event::Event;
use super::leave::reason;
use super::line::{LineWriter, Removed, State, View};
use super::side::Side;
use super::tick::REASON_TOLD;
use crate::model::{Gone, Kind, Micros, Policy, Record, TicketId, TicketKey, micros};

/// How many words that came early are kept.
const EARLY_MAX: usize = 65_536;
/// Two readings of the end of one turn are no further apart: one out of a lease is told on the clock of
/// the node that gave it.
const SAME: Duration = Duration::from_millis(200);
/// What a turn may be given before the join that it is for, by clocks that differ by no more than is
/// allowed, and by what the store's clock differs from those.
const SLACK: Duration = Duration::from_millis(200);

/// Words that came before the joins they are about: feeds of different partitions do not wait for
/// each other. Bounded; one that does not fit is heard again from the gate's next answer.
#[derive(Debug, Default)]
pub(super) struct Early(AHashMap<TicketId, Record>);

impl Early {
    /// Keeps the word that says most of a ticket.
    pub fn keep(&mut self, word: Record) {
        if self.0.len() < EARLY_MAX || self.0.contains_key(&word.id) {
            let kept = self.0.entry(word.id).or_insert(word);
            if says_more(&word, kept) {
                *kept = word;
            }
        }
    }

    /// What was kept about a ticket.
    fn take(&mut self, id: &TicketId) -> Option<Record> {
        self.0.remove(id)
    }

    /// Forgets words about tickets that cannot be in line any more.
    pub fn prune(&mut self, now: Micros, remembered: Duration) {
        self.0.retain(|_, word| word.at.after(remembered) > now);
    }
}

/// Whether a word about a ticket's turn is of a later turn than another, or says that it came further.
fn says_more(word: &Record, than: &Record) -> bool {
    is_later(word, than) || word.at.after(SAME) >= than.at && word.kind as u8 > than.kind as u8
}

fn is_later(word: &Record, than: &Record) -> bool {
    word.at > than.at.after(SAME)
}

impl Room {
    /// Merges a word about a turn. Answers whether it called somebody.
    pub(super) fn merge_turn(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        word: &Record,
    ) -> bool {
        let Record { kind, id, at: end } = *word;
        let Some(view) = event.line.find(&id) else {
            side.early.keep(*word);
            return false;
        };
        let policy = event.policy.load();
        let until = self.by_our_clock(end);
        let known = self.turn_word(side, &policy, &id, view.state);
        let removed = newest_removal(writer, &view);
        let is_anothers =
            known.is_none() && !self.is_of_this_life(now, removed, &view, end, &policy);
        if is_anothers {
            if view.state != State::Entered {
                self.let_go(now, event, side, word, removed, &policy);
            }
            return false;
        }
        let is_news = known.is_none_or(|known| is_later(word, &known));
        let said = known.filter(|_| !is_news);
        if said.is_some_and(|said| !says_more(word, &said)) {
            return false;
        }
        side.gate
            .note_turn(id, said.map_or(end, |said| end.max(said.at)));
        if is_news {
            side.gate.given_back.retain(|given| *given != id);
            writer.call(&id, until);
        }
        if kind != Kind::Called {
            writer.miss(&id, until.after(policy.late_grace));
        }
        if kind == Kind::Returned {
            writer.give_back(&id);
            side.returned_until = now.after(REASON_TOLD);
        }
        let called = is_news && kind == Kind::Called;
        if called && let Some((promised, real)) = side.kept(now, &id) {
            self.promises.note(promised, real);
        }
        called
    }

    /// A place has become known: what was heard of its turn before counts now.
    pub(super) fn catch_up(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        key: &TicketKey,
    ) {
        side.rewind(key);
        if let Some(word) = side.early.take(&key.id) {
            self.merge_turn(now, event, writer, side, &word);
        }
    }

    /// Merges a removal into the line. The turn goes with the place that it was given to, which may be
    /// a later one.
    pub(super) fn strike(
        &self,
        now: Micros,
        event: &Event,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        id: &TicketId,
        (at, why): (Micros, Gone),
    ) -> Removed {
        let policy = event.policy.load();
        let before = event.line.find(id);
        let turn = before.and_then(|view| self.turn_word(side, &policy, id, view.state));
        let removed = writer.remove(id, at, reason(why));
        let Some(view) = event.line.find(id) else {
            return removed;
        };
        let newest = newest_removal(writer, &view);
        if let Some(turn) = turn
            && !self.is_of_this_life(now, newest, &view, turn.at, &policy)
        {
            writer.recall(id);
            side.gate.turns.remove(id);
            if view.state != State::Entered {
                self.let_go(now, event, side, &turn, newest, &policy);
            }
        }
        if view.state.is_gone() {
            side.forget(id);
        }
        if view.state == State::Entered {
            side.early.take(id);
        }
        removed
    }

    /// A word about a turn that is not of the place which the ticket has, if it has one: of one that is
    /// open, one node gives it back. An arrival that is not known yet may make it count.
    fn let_go(
        &self,
        now: Micros,
        event: &Event,
        side: &mut Side,
        word: &Record,
        removed: Option<Micros>,
        policy: &Policy,
    ) {
        let is_open = word.kind == Kind::Called && self.by_our_clock(word.at) > now;
        if is_open && self.is_home(now, event.home_key) {
            side.gate.give_back(word.id);
        }
        if removed
            .is_some_and(|removed| given(word.at, policy) >= removed.min(self.to_store_clock(now)))
        {
            side.early.keep(*word);
        }
    }

    /// Calls a ticket of which no gate has told, until a moment of our clock. Answers the turn's name.
    pub(super) fn call_until(
        &self,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
        id: &TicketId,
        until: Micros,
    ) -> Micros {
        let end = self.to_store_clock(until);
        writer.call(id, until);
        side.gate.note_turn(*id, end);
        end
    }

    /// What is known of the turn of a ticket in this state, as a word.
    fn turn_word(
        &self,
        side: &Side,
        policy: &Policy,
        id: &TicketId,
        state: State,
    ) -> Option<Record> {
        let kind = match state {
            State::Called { .. } => Kind::Called,
            State::Missed { .. } => Kind::Missed,
            State::Returned => Kind::Returned,
            _ => return None,
        };
        let at = self.turn_end(side, policy, id, state).unwrap_or_default();
        Some(Record { kind, id: *id, at })
    }

    /// When the turn of a ticket in this state ends or ended, on the store's clock: its name.
    pub(super) fn turn_end(
        &self,
        side: &Side,
        policy: &Policy,
        id: &TicketId,
        state: State,
    ) -> Option<Micros> {
        let ended = match state {
            State::Called { until } => Some(until),
            State::Missed { until } => {
                Some(Micros(until.0.saturating_sub(micros(policy.late_grace))))
            }
            State::Returned => None,
            _ => return None,
        };
        let name = side.gate.turns.get(id).copied();
        name.or_else(|| ended.map(|ended| self.to_store_clock(ended)))
    }

    /// Whether a turn that ends at `end` was given to a ticket since it joined, and not before it left,
    /// when it was `removed`, and joined again: then it is that of another place. Clocks differ, so some
    /// of that is forgiven.
    fn is_of_this_life(
        &self,
        now: Micros,
        removed: Option<Micros>,
        view: &View,
        end: Micros,
        policy: &Policy,
    ) -> bool {
        if view.state.is_gone() {
            return false;
        }
        let Some(removed) = removed else {
            return true;
        };
        let arrival = view.time;
        let away = arrival.since(removed) / 2;
        let given = given(end, policy).after(away.min(SLACK + self.identity.skew_max));
        // Its arrival may be stamped by a clock that is ahead of the store's, however far.
        given >= arrival.min(self.to_store_clock(now))
    }
}

/// When a turn that ends then was given, on the store's clock, as all nodes have it.
fn given(end: Micros, policy: &Policy) -> Micros {
    Micros(end.0.saturating_sub(micros(policy.ready_ttl)))
}

/// The newest removal that is known of a ticket, gone or back since.
fn newest_removal(writer: &LineWriter<'_>, view: &View) -> Option<Micros> {
    if view.state.is_gone() {
        Some(view.time)
    } else {
        writer.removed(&view.id)
    }
}

#[cfg(test)]
mod tests;
