//! Going on without the store: a node that is cut off calls and lets in by itself, at its share of
//! the rate, the tickets that are at home there.
//!
//! Why nobody is called by two and the pace holds, step by step:
//!
//! 1. With its questions the node says that it is here, until which arrival (the horizon) the gate
//!    may call the tickets at home at this node, and when that was sent. The gate does not hear a
//!    word that comes late, and withholds the node's part of rate and burst from two seconds after
//!    the sending of the last one it heard.
//! 2. After a question without an answer the node says no such word until it gets one, so the last
//!    word ages, at the gate and here.
//! 3. It begins when its share has been withheld for long, with an empty bucket of its own, and only
//!    if the gate is known to have heard it so long ago that no failover can forget it.
//! 4. It calls only tickets after every horizon that may be in force, which the gate does not call.
//!    Turns out of leases are given to such tickets by no other node (`Advanced::kept_after`).
//! 5. It ends before the gate takes it for dead, or with the first answer it gets: then it tells what
//!    it gave, and only with that behind it that it is here again.
//!
//! The tickets up to the horizon wait until the store is back, and are first then.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Room;
use super::answer::{Admission, EnterRefusal};
use super::eta::Measured;
use super::event::Event;
use super::line::{LineWriter, State};
use super::shares::Given;
use super::side::Side;
use super::status::Found;
use super::tick::Asking;
use crate::model::gate::{SettleRequest, Turn};
use crate::model::token::{self, KeyMark};
use crate::model::{EventId, Gone, Micros, Policy, TicketId, TicketKey};

/// Tickets looked at in one step, and of those who came back after a missed turn.
const WALKED_MAX: usize = 4_096;
pub(super) const RETURNED_MAX: usize = 256;
/// Turns and entries that a node keeps to tell the gate of; it gives no more.
const KEPT_MAX: usize = 1_000_000;
/// Tickets of one message to the gate.
const TOLD_AT_ONCE: usize = 4_096;
/// Nobody repeats a join after longer.
const REPEATED_WITHIN: Duration = Duration::from_secs(60);
/// When somebody whose ticket is at home elsewhere, or on its way, may try again.
const SOON: Duration = Duration::from_secs(1);

impl Room {
    /// Begins, goes on, or ends. Answers how many were called.
    pub(super) fn share(
        &self,
        now: Micros,
        event: &Event,
        policy: &Policy,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
    ) -> usize {
        let nodes = self.sharing_nodes(policy);
        let open = nodes > 0 && !policy.paused && Event::is_open(policy, now);
        if let Some(out) = &side.shares.out
            && (now >= out.until || nodes == 0)
        {
            self.end_share(now, event, side, "its time is over");
        }
        if !open {
            return 0;
        }
        let view_of = Micros(
            now.0
                .saturating_sub(crate::model::micros(self.feed_lag(now))),
        );
        let skew = self.identity.skew_max;
        if let Some((since, after)) = side.shares.may_begin(now, view_of, skew) {
            let until = since.after(self.identity.share_limit);
            if now >= until {
                return 0;
            }
            side.shares.begin(now, until, after);
            // Turns put aside are not given any more, and those that were are claimed later.
            side.gate.lease = 0;
            self.sharing.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                event = %event.id,
                rate = policy.rate / f64::from(nodes),
                for_sec = until.since(now).as_secs(),
                "the event goes on without the store, at this node's share of the rate"
            );
        }
        self.call_shared(now, policy, writer, side)
    }

    fn call_shared(
        &self,
        now: Micros,
        policy: &Policy,
        writer: &mut LineWriter<'_>,
        side: &mut Side,
    ) -> usize {
        let nodes = self.sharing_nodes(policy);
        let shares = &mut side.shares;
        let kept = shares.turns.len() + shares.handed.len() + shares.entries.len();
        let Some(out) = &mut shares.out else {
            return 0;
        };
        let gate_policy = self.gate_policy(policy, now);
        let parts = if mutant!(ShareUndivided) { 1 } else { nodes };
        let rate = policy.rate / f64::from(parts.max(1));
        let saved = gate_policy.share_saved(nodes);
        let turns = out
            .fill(now, rate, saved)
            .min(KEPT_MAX.saturating_sub(kept));
        if turns == 0 {
            return 0;
        }
        let doubted = self.doubted_until(now, out.after);
        out.doubt(doubted);
        let (cursor, since) = (out.cursor, out.since);
        let mut next: Vec<TicketKey> = Vec::new();
        let ours = |key: &TicketKey| {
            let may_be = key.arrival <= doubted || is_anew(writer, &key.id, since);
            let is_the_gates = may_be && !mutant!(HorizonIgnored);
            !is_the_gates && (self.home_of(&key.id) == self.identity.node || mutant!(HomeIgnored))
        };
        let returned = writer.returned().take(RETURNED_MAX);
        next.extend(returned.filter(ours));
        next.truncate(turns);
        let cursor = writer.walk(cursor, WALKED_MAX, |key| {
            if next.len() < turns && ours(&key) {
                next.push(key);
                return true;
            }
            next.len() < turns
        });
        let until = now.after(policy.ready_ttl);
        next.sort_unstable();
        for key in &next {
            let of_store = self.call_until(writer, side, &key.id, until);
            side.shares.turns.insert(key.id, Given { until, of_store });
            if let Some((promised, real)) = side.kept(now, &key.id) {
                self.promises.note(promised, real);
            }
        }
        let called = next.len();
        if let Some(out) = &mut side.shares.out {
            out.pay(called);
            out.cursor = cursor;
            out.called = out.called.saturating_add(called as u32);
        }
        if called > 0 {
            let measured = side.measured.get_or_insert_with(|| Measured::new(now));
            measured.note(now, called as u32, 0, true);
        }
        called
    }

    /// Until when arrivals are not for this node to call, the gate's being those until `after`. A join
    /// with a key may repeat an earlier one that some other node took and could not tell of yet, which
    /// is the ticket's: it may be one of the gate's.
    fn doubted_until(&self, now: Micros, after: Micros) -> Micros {
        if self.has_heard_until(now) >= after {
            after
        } else {
            after.after(REPEATED_WITHIN)
        }
    }

    pub(super) fn end_share(&self, now: Micros, event: &Event, side: &mut Side, why: &str) {
        let Some(out) = side.shares.out.take() else {
            return;
        };
        self.sharing.fetch_sub(1, Ordering::Relaxed);
        tracing::info!(
            event = %event.id,
            called = out.called,
            entered = out.entered,
            seconds = now.since(out.since).as_secs(),
            why,
            "the event went on without the store"
        );
    }

    /// The gate answered: whatever was going on without it ends.
    pub(super) fn share_answered(&self, now: Micros, event: &Event, side: &mut Side) {
        self.end_share(now, event, side, "the store answers again");
    }

    /// The open turns of an event that this node gave without the store.
    pub fn shared_turns(&self, event: &EventId) -> Vec<Turn> {
        let turns = |event: Arc<Event>| {
            let side = event.side.lock();
            let turns = side.shares.turns.iter();
            let turn = |(&id, given): (&TicketId, &Given)| Turn {
                id,
                until: given.until,
            };
            turns.map(turn).collect()
        };
        self.event(event.as_str()).map(turns).unwrap_or_default()
    }

    /// Entries that were given without the store and that no gate was told of yet.
    pub fn untold_entries(&self) -> usize {
        let events = self.events.all();
        let untold = events
            .iter()
            .map(|event| event.side.lock().shares.entries.len());
        untold.sum()
    }

    /// Events that go on without the store at present.
    pub fn sharing(&self) -> usize {
        self.sharing.load(Ordering::Relaxed)
    }

    /// What comes of entering when the ticket's turn was given here; `None` when it was not.
    pub(super) fn enter_shared(
        &self,
        now: Micros,
        found: &Found,
        token: &str,
    ) -> Option<Result<Admission, EnterRefusal>> {
        let event = &found.event;
        if !event.side.lock().shares.concerns(&found.id) {
            return None;
        }
        let mut writer = event.line.write();
        let mut side = event.side.lock();
        let shares = &mut side.shares;
        let policy = self.gate_policy(&event.policy.load(), now);
        let admitted = |at: Micros| {
            let of = (&event.id, found.id, KeyMark::in_token(token));
            Some(self.admission(of, &policy, at, self.to_store_clock(now)))
        };
        if let Some(&at) = shares.entries.get(&found.id) {
            return admitted(at);
        }
        let later = Some(Err(EnterRefusal::Unavailable { retry_after: SOON }));
        if shares.handed.contains_key(&found.id) {
            return later;
        }
        let view = event.line.find(&found.id)?;
        let out = shares.out.as_mut().filter(|out| now < out.until);
        let (true, Some(out)) = (shares.turns.contains_key(&found.id), out) else {
            return shares
                .turns
                .contains_key(&found.id)
                .then_some(later)
                .flatten();
        };
        if !matches!(view.state, State::Called { until } if until > now) {
            return later;
        }
        out.entered = out.entered.saturating_add(1);
        let mut buffer = token::buffer();
        let claims = self.claims(token, &mut buffer);
        let arrival = claims.map_or(view.time, |claims| claims.arrival);
        let turn = shares.turns.get(&found.id).map(|given| given.of_store);
        let at = policy.entry_at(self.to_store_clock(now), arrival, turn);
        shares.entries.insert(found.id, at);
        let key = TicketKey {
            arrival: view.time,
            id: found.id,
        };
        let entered = (at, Gone::Entered);
        self.remove_at(now, event, &mut writer, &mut side, &key, entered);
        admitted(at)
    }

    /// Whether somebody who is not called here may have been by the node their ticket is at home at,
    /// which cannot be asked.
    pub(super) fn may_be_called_elsewhere(
        &self,
        now: Micros,
        event: &Event,
        id: &TicketId,
    ) -> bool {
        let home = self.home_of(id);
        if home == self.identity.node || self.sharing_nodes(&event.policy.load()) == 0 {
            return false;
        }
        let waiting = event
            .line
            .find(id)
            .filter(|view| view.state == State::Waiting);
        let is_away = |arrival: Micros| {
            let side = event.side.lock();
            let mut kept = side.gate.kept.iter();
            kept.any(|kept| kept.away && kept.node == home && arrival > kept.after)
        };
        waiting.is_some_and(|view| {
            self.is_degraded() || !self.peers.is_heard(now, home) || is_away(view.time)
        })
    }

    /// What to tell the gate of turns and entries that were given here, in messages of bounded size.
    pub(super) fn shares_to_tell(&self, asking: &Asking) -> Vec<SettleRequest> {
        if !asking.tells || mutant!(ShareUntold) {
            return Vec::new();
        }
        let event = &asking.event;
        let (mut turns, entries): (Vec<Turn>, Vec<(TicketId, Micros)>) = {
            let side = event.side.lock();
            let turn = |(&id, given): (&TicketId, &Given)| Turn {
                id,
                until: self.same_turn(given.until, Some(given.of_store)),
            };
            let entries = side.shares.entries.iter();
            (
                side.shares.handed.iter().map(turn).collect(),
                entries.map(|(id, at)| (*id, *at)).collect(),
            )
        };
        let mut messages = Vec::new();
        let message = |called, entered: &[(TicketId, Micros)]| SettleRequest {
            event: event.id.clone(),
            node: self.identity.node,
            policy: asking.request.policy,
            version: asking.request.version,
            called,
            entered: entered.to_vec(),
            shared: true,
        };
        for entered in entries.chunks(TOLD_AT_ONCE) {
            messages.push(message(Vec::new(), entered));
        }
        while !turns.is_empty() {
            let rest = turns.split_off(turns.len().min(TOLD_AT_ONCE));
            messages.push(message(turns, &[]));
            turns = rest;
        }
        messages
    }
}

/// Whether a ticket left so lately before a share began, or during it, that others may not have heard
/// of it: it has joined anew, and the gate may call it at the place that it left.
fn is_anew(writer: &LineWriter<'_>, id: &TicketId, since: Micros) -> bool {
    let removed = writer.removed(id);
    removed.is_some_and(|removed| removed.after(REPEATED_WITHIN) >= since)
}
