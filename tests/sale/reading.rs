//! What a story proves about the moments that the driver cannot see: when a turn was given, and when
//! one may have been taken back. Always as spans that surely hold the moment, so that a checker
//! never raises a false alarm.

use super::plan::SECOND;
use super::story::{Call, Down, End, Run, Seen, Story, What};

/// How late the server may notice that a turn has lapsed, before the driver stops allowing for it:
/// a turn that lapses later is only allowed for later than it should be.
pub const LAPSE_SLACK: u64 = 2 * SECOND;

/// A stretch of time that holds one unseen moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its visitor entered.
    Entered,
    /// It lapsed, or will, untaken.
    Lapses,
    /// The server forgot it in a kill.
    LostInKill,
    /// The server took it back while it should have held.
    Broken,
}

/// A turn that its visitor saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// When it was given: not before what was known when the last answer that said "wait" was asked
    /// for, and before the first that said "ready" was received.
    pub given: Span,
    pub fate: Fate,
    /// Until when it was to be kept, as far as that was told.
    pub until: Option<u64>,
}

impl Turn {
    /// When it may lapse. A machine that was held up may tell of it only after a part of its time.
    fn lapses_after(&self, run: &Run) -> u64 {
        let whole = self.given.from + run.terms.ready_ttl;
        self.until.map_or(whole, |until| until.min(whole))
    }
}

/// One story, read.
#[derive(Debug)]
pub struct Reading<'a> {
    pub story: &'a Story,
    /// When the first attempt to join was sent.
    pub join_sent: u64,
    /// When a join was first acknowledged.
    pub joined: Option<u64>,
    pub turns: Vec<Turn>,
    /// The last moment at which this visitor surely was still in line for a first turn. Nothing when
    /// the join answer said "ready".
    pub waits_until: Option<u64>,
    /// From when on the visitor may have been passed over for a reason of their own: a beacon sent,
    /// a silence in which a turn could come and go.
    pub doubtful_from: Option<u64>,
    /// Whether the visit ended without a turn being seen since the visitor last waited.
    pub ended_waiting: bool,
    /// When turns may have gone back to the bucket, of those that this story alone can tell.
    pub refunds: Vec<Span>,
}

/// Reads one story.
pub fn read<'a>(run: &Run, story: &'a Story) -> Reading<'a> {
    let join_sent = story.seen.first().map_or(0, |seen| seen.sent);
    let mut reading = Reading {
        story,
        join_sent,
        joined: None,
        turns: Vec::new(),
        waits_until: None,
        doubtful_from: None,
        ended_waiting: false,
        refunds: Vec::new(),
    };
    let mut holding = false;
    // The latest moment at which the visitor surely held no turn.
    let mut turnless = join_sent;
    let mut heard = join_sent;
    for (at, seen) in story.seen.iter().enumerate() {
        if matches!(seen.what, What::Joined { .. }) && reading.joined.is_none() {
            reading.joined = Some(seen.received);
        }
        if seen.call == Call::Beacon {
            reading.doubt(seen.sent);
            let back = story
                .seen
                .get(at + 1)
                .map_or(seen.received, |next| next.received);
            reading.refunds.push(Span {
                from: turnless,
                to: back + LAPSE_SLACK,
            });
        }
        match verdict_on_turn(seen) {
            Some(true) => {
                if holding && seen.sent > heard.saturating_add(run.terms.ready_ttl) {
                    // A silence as long as a turn lives: this is another turn, or the first one held
                    // longer than promised, and either way allowed for.
                    reading.close(run, Fate::Lapses);
                    turnless = heard;
                    holding = false;
                }
                if !holding {
                    holding = true;
                    let given = Span {
                        from: turnless,
                        to: seen.received,
                    };
                    reading.turns.push(Turn {
                        given,
                        fate: Fate::Lapses,
                        until: None,
                    });
                }
                if let (What::Told(place), Some(turn)) = (&seen.what, reading.turns.last_mut()) {
                    turn.until = place.within.map(|within| seen.sent + within).or(turn.until);
                }
                if matches!(seen.what, What::Granted { .. })
                    && let Some(turn) = reading.turns.last_mut()
                {
                    turn.fate = Fate::Entered;
                }
                heard = seen.received;
            }
            // Another node may not have heard of the turn yet.
            Some(false) if holding && reading.is_unheard(run, seen) => {}
            Some(false) => {
                if holding {
                    let fate = reading.fate_of_lost_turn(run, seen);
                    reading.close(run, fate);
                    holding = false;
                    turnless = heard;
                } else if seen.sent > heard.saturating_add(run.terms.ready_ttl) {
                    reading.doubt(heard);
                    let from = turnless + run.terms.ready_ttl;
                    reading.refunds.push(Span {
                        from,
                        to: seen.received + LAPSE_SLACK,
                    });
                }
                if !seen.early {
                    turnless = turnless.max(run.known_since(seen.sent));
                    if reading.turns.is_empty() {
                        reading.waits_until = Some(seen.sent);
                    }
                }
                heard = seen.received;
            }
            None => {}
        }
    }
    if holding
        && reading
            .turns
            .last()
            .is_some_and(|turn| turn.fate != Fate::Entered)
    {
        reading.close(run, Fate::Lapses);
    }
    reading.ended_waiting = !holding;
    reading
}

/// Whether an answer says "your turn" or "wait"; nothing when it says neither.
fn verdict_on_turn(seen: &Seen) -> Option<bool> {
    match &seen.what {
        What::Joined { place, .. } | What::Told(place) => Some(place.ready || place.entered),
        What::Granted { .. } => Some(true),
        What::NotReady { .. } => Some(false),
        _ => None,
    }
}

impl Reading<'_> {
    fn doubt(&mut self, from: u64) {
        let earlier = self.doubtful_from.is_none_or(|known| from < known);
        if earlier {
            self.doubtful_from = Some(from);
        }
    }

    /// Whether the turn seen last may not have reached every node when `seen` was asked for.
    fn is_unheard(&self, run: &Run, seen: &Seen) -> bool {
        self.turns
            .last()
            .is_some_and(|turn| seen.sent < run.heard_by(turn.given.to) && run.terms.lag > 0)
    }

    /// Why a turn that was seen is gone, now that `seen` says "wait".
    fn fate_of_lost_turn(&self, run: &Run, seen: &Seen) -> Fate {
        let Some(turn) = self.turns.last() else {
            return Fate::Broken;
        };
        if seen.received >= turn.lapses_after(run) {
            Fate::Lapses
        } else if run.down_between(turn.given.from, seen.received) {
            Fate::LostInKill
        } else {
            Fate::Broken
        }
    }

    /// Ends the current turn untaken: when it may go back to the bucket.
    fn close(&mut self, run: &Run, fate: Fate) {
        let Some(turn) = self.turns.last_mut() else {
            return;
        };
        turn.fate = fate;
        let given = turn.given;
        let to = lapsed_by(run, given.to);
        // A turn that lives through a kill may be forgotten in it, which gives it back too.
        let held = fate == Fate::Lapses && !run.down_between(given.from, to);
        let from = if held {
            turn.lapses_after(run)
        } else {
            given.from
        };
        self.refunds.push(Span { from, to });
    }
}

/// When a turn given at `given` has surely lapsed. A server that was down meanwhile may give it its
/// whole life again; a store that was away hears of a lapse when it is back.
pub fn lapsed_by(run: &Run, given: u64) -> u64 {
    let ttl = run.terms.ready_ttl;
    after(run, given, ttl, |down| match down {
        Down::Server => Some(ttl),
        Down::Node | Down::Stopped | Down::Frozen | Down::Spare => None,
        Down::Store { .. } => Some(0),
    })
}

/// When a visitor last heard at `heard` is surely taken for gone: while somebody's sightings cannot
/// be heard, and for a whole time to live after that, nobody is.
pub fn expired_by(run: &Run, heard: u64) -> u64 {
    let ttl = run.terms.heartbeat_ttl;
    after(run, heard, ttl, |_| Some(ttl))
}

/// So long after a moment, and so long after each outage that lies in that time.
fn after(run: &Run, from: u64, ttl: u64, again: impl Fn(Down) -> Option<u64>) -> u64 {
    let mut by = from + ttl + LAPSE_SLACK;
    for outage in &run.outages {
        if outage.killed <= by
            && from <= outage.ready
            && let Some(again) = again(outage.what)
        {
            by = by.max(outage.ready + again + LAPSE_SLACK);
        }
    }
    by
}

/// When a visitor who went away waiting may have been given a turn nobody saw: after those ahead,
/// before those behind, and not after they were taken for gone. Nothing when they did not go away
/// waiting, or cannot have been called.
pub fn unseen_turn(run: &Run, gone: &Reading, event: &[Reading]) -> Option<Span> {
    // Who still waits when the sale is closed was never called.
    if !gone.ended_waiting || gone.story.end == End::Waits {
        return None;
    }
    let joined = gone.joined?;
    let last = gone.story.seen.last()?;
    let turnless = gone
        .story
        .seen
        .iter()
        .rev()
        .find(|seen| verdict_on_turn(seen) == Some(false) && !seen.early);
    let mut from = turnless.map_or(gone.join_sent, |seen| run.known_since(seen.sent));
    // A ticket that was removed by its owner is not called after that.
    let left = matches!(last.what, What::Left);
    let mut to = if left {
        last.received
    } else {
        expired_by(run, last.received)
    };
    for other in event {
        let Some(turn) = other.turns.first() else {
            continue;
        };
        if other.join_sent > joined {
            to = to.min(turn.given.to);
        }
        if other.joined.is_some_and(|at| at < gone.join_sent) && other.doubtful_from.is_none() {
            from = from.max(turn.given.from);
        }
    }
    // Called while others were, or not at all: an empty span only says that the turn, if there was
    // one, fell between two answers.
    (from <= to).then_some(Span { from, to })
}

/// Reads every story of every event.
pub fn read_all(run: &Run) -> Vec<Vec<Reading<'_>>> {
    let events = run.by_event();
    events
        .iter()
        .map(|stories| stories.iter().map(|story| read(run, story)).collect())
        .collect()
}
