//! What a node keeps of an event to go on without the store: what it told the gate, and what it gave.
//!
//! The rules are those of [`super::share`]; this is the memory they need, one value an event.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;

use crate::model::gate::{Advanced, Presence, SILENT_AFTER};
use crate::model::{Micros, TicketId, TicketKey};

/// A word that was acknowledged so long ago is not lost by a failover any more: the store loses less
/// than ten seconds, and an answer takes at most two.
const PROVEN_AFTER: Duration = Duration::from_secs(12);
/// What a gate did before it heard a word is known here when the view is this much later: the answer,
/// turns given out of leases until those end, a little for the feed.
const KNOWN_AFTER: Duration = Duration::from_secs(6);
/// From the moment at which the share is withheld to that at which it is given, besides the clocks.
const MARGIN: Duration = Duration::from_secs(2);
/// Words that are kept: far more than are sent in the time above.
const WORDS_MAX: usize = 1_024;
/// One event's. Part of the side, under its lock.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The gate answered the last question.
    pub contact: bool,
    /// The gate may count on this node to go on by itself, or on an earlier life of it, or on what it
    /// said of itself before a failover.
    pub present: bool,
    /// What was given since the last word that the gate heard is to be told before the next.
    pub out: Option<Out>,
    /// Turns given here and open, until when on the store's clock: only here may their owners enter.
    pub turns: AHashMap<TicketId, Micros>,
    /// Turns that a gate may have been told of: no longer ours to let in by.
    pub handed: AHashMap<TicketId, Micros>,
    /// Who entered here, and when as gates have it.
    pub entries: AHashMap<TicketId, Micros>,
    /// What the last answer said of the store's clock, and when it came.
    clock: Option<(Micros, Micros)>,
    /// When the last word was sent, and the last of those that were heard.
    said_at: Micros,
    heard_at: Micros,
    /// Words that may still matter, oldest first.
    words: VecDeque<Word>,
    /// Told to a gate lately: when, and the moment of the oldest entry of it.
    told: Option<(Micros, Micros)>,
}

#[derive(Debug, Clone, Copy)]
struct Word {
    sent_at: Micros,
    horizon: Micros,
    heard: bool,
}

/// A share that is out: a bucket of its own, that begins empty.
#[derive(Debug)]
pub(super) struct Out {
    pub since: Micros,
    pub until: Micros,
    /// Tickets that arrived until then may be the gate's.
    pub after: Micros,
    /// Until when arrivals were taken to be so the last time.
    doubted: Micros,
    /// What was walked past.
    pub cursor: TicketKey,
    pub called: u32,
    pub entered: u32,
    level: i64,
    filled_at: Micros,
}

impl Out {
    /// Fills the bucket at `rate` turns a second up to `saved` micro-turns; answers how many turns
    /// there are.
    pub fn fill(&mut self, now: Micros, rate: f64, saved: i64) -> usize {
        let gained = (rate * now.since(self.filled_at).as_micros() as f64) as i64;
        self.level = self.level.saturating_add(gained).min(saved);
        self.filled_at = now.max(self.filled_at);
        (self.level.max(0) / 1_000_000) as usize
    }

    /// Notes until when arrivals may be the gate's; who no longer may be was walked past.
    pub fn doubt(&mut self, until: Micros) {
        if until < self.doubted {
            self.cursor = self.cursor.min(last_of(until));
        }
        self.doubted = until;
    }

    pub fn pay(&mut self, turns: usize) {
        self.level -= turns as i64 * 1_000_000;
    }
}

impl Shares {
    /// Of a node's earlier life gates are told that it is over.
    pub fn new(fleet: u16) -> Self {
        Self {
            present: fleet > 1,
            ..Self::default()
        }
    }

    /// When a word was last sent.
    pub fn said_at(&self) -> Micros {
        self.said_at
    }

    /// The word to send with a question at `now`, if the node is here: not before the store's clock
    /// is known.
    pub fn here(&mut self, now: Micros, horizon: Micros) -> Presence {
        let Some((theirs, ours)) = self.clock else {
            return Presence::Quiet;
        };
        let sent_at = theirs.after(now.since(ours));
        (self.said_at, self.present) = (now, true);
        if self.words.len() >= WORDS_MAX {
            self.words.clear();
        }
        self.words.push_back(Word {
            sent_at: now,
            horizon,
            heard: false,
        });
        // Those before the last that is proven do not matter.
        let proven = self.proven().unwrap_or(0);
        self.words.drain(..proven);
        Presence::Here { sent_at, horizon }
    }

    /// The word that the node will not go on by itself; it does not from now on.
    pub fn gone(&mut self) -> Presence {
        self.words.clear();
        Presence::Gone
    }

    /// A question made at `since` was answered. A node that says nothing for longer than `limit` is
    /// forgotten by gates.
    pub fn answered(
        &mut self,
        now: Micros,
        since: Micros,
        presence: Presence,
        limit: Duration,
        answer: &Advanced,
    ) {
        self.clock = Some((answer.now, now));
        self.contact = true;
        if matches!(presence, Presence::Here { .. }) && answer.heard {
            if since.since(self.heard_at) > limit {
                // What was kept for this node was given away meanwhile: a new beginning.
                self.words.retain(|word| word.sent_at == since);
            }
            self.heard_at = since;
            if let Some(word) = self.words.iter_mut().rfind(|word| word.sent_at == since) {
                word.heard = true;
            }
        }
    }

    /// The last word that no failover takes back.
    fn proven(&self) -> Option<usize> {
        let old = |word: &Word| word.sent_at.after(PROVEN_AFTER) <= self.heard_at;
        self.words.iter().rposition(|word| word.heard && old(word))
    }

    /// Since when no word was heard, were the share to begin at `now`; `None` if it may not. With it
    /// the moment until which arrivals may be the gate's: the latest of all horizons that may be in
    /// force or may come into force again.
    pub fn may_begin(
        &self,
        now: Micros,
        view_of: Micros,
        skew: Duration,
    ) -> Option<(Micros, Micros)> {
        let mut withheld = Duration::from_micros(SILENT_AFTER) + MARGIN + 2 * skew;
        if mutant!(ShareAtOnce) {
            withheld = Duration::ZERO;
        }
        if self.contact || self.out.is_some() || now < self.said_at.after(withheld) {
            return None;
        }
        let proven = self.proven()?;
        if view_of < self.words[proven].sent_at.after(KNOWN_AFTER) {
            return None;
        }
        let horizons = self.words.range(proven..).map(|word| word.horizon);
        Some((self.heard_at, horizons.max()?))
    }

    /// Begins with an empty bucket.
    pub fn begin(&mut self, now: Micros, until: Micros, after: Micros) {
        self.out = Some(Out {
            since: now,
            until,
            after,
            doubted: after,
            cursor: last_of(after),
            called: 0,
            entered: 0,
            level: 0,
            filled_at: now,
        });
    }

    /// A ticket has come to stand where the walk was already.
    pub fn rewind(&mut self, key: &TicketKey) {
        if let Some(out) = &mut self.out {
            let before = Micros(key.arrival.0.saturating_sub(1)).max(out.after);
            out.cursor = out.cursor.min(last_of(before));
        }
    }

    /// Whether a ticket's turn or entry is this node's own matter.
    pub fn concerns(&self, id: &TicketId) -> bool {
        self.turns.contains_key(id) || self.handed.contains_key(id) || self.entries.contains_key(id)
    }

    /// A turn given here is over, used or not.
    pub fn end_turn(&mut self, id: &TicketId) -> bool {
        self.turns.remove(id).is_some()
    }

    /// Whether there is something to tell the gate as soon as it answers.
    pub fn has_untold(&self) -> bool {
        let given = self.turns.len() + self.handed.len() + self.entries.len();
        self.out.is_none() && given > 0
    }

    /// Whether there is something to tell the gate now. What is told is not ours any more.
    pub fn hand_over(&mut self) -> bool {
        if !self.has_untold() {
            return false;
        }
        self.handed.extend(self.turns.drain());
        true
    }

    /// The gate was told, and answered.
    pub fn told(&mut self, now: Micros) {
        self.handed.clear();
        if let Some(oldest) = self.entries.values().copied().min() {
            self.told = Some((now, oldest));
        }
        self.entries.clear();
    }

    /// The oldest entry that the gate was told of since `since`, which it may have forgotten.
    pub fn told_since(&self, since: Micros) -> Option<Micros> {
        self.told
            .filter(|(at, _)| *at >= since)
            .map(|(_, oldest)| oldest)
    }
}

/// The greatest key of an arrival.
const fn last_of(arrival: Micros) -> TicketKey {
    TicketKey {
        arrival,
        id: TicketId::from_bytes([0xff; 16]),
    }
}
