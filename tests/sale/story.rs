//! What one visitor saw: each call with the moments of sending and receiving, and what came back.

use super::plan::Kind;

/// Which call a visitor made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Join,
    Status,
    Enter,
    Beacon,
    Leave,
}

/// A place as an answer told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub position: u64,
    pub ready: bool,
    /// Whether `status` was `ready`: this visitor has entered.
    pub entered: bool,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The join was accepted.
    Joined { token: String, place: Place },
    /// A status was told.
    Told(Place),
    /// Entry was granted with this reservation.
    Granted { reservation: String },
    /// Entry was refused: not this visitor's turn.
    NotReady { reason: String },
    /// Left for good.
    Left,
    /// Left by the beacon.
    LeftSoftly,
    /// 404 with this code.
    Gone { code: String },
    /// No answer.
    Failed { error: String },
    /// An answer that the API does not have for this call.
    Odd { status: u16, text: String },
}

/// One call and its outcome, in microseconds after the start of the run.
#[derive(Debug, Clone)]
pub struct Seen {
    pub call: Call,
    pub sent: u64,
    pub received: u64,
    /// Sent before the advised `poll_after_ms` was over: such a poll may be answered with the very
    /// bytes of the one before, so it tells nothing about the moment it was sent.
    pub early: bool,
    pub what: What,
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Entered,
    Left,
    ClosedTab,
    /// Answered 404 while still wanting in.
    Lost,
    /// Out of patience, without an end.
    Unfinished,
}

/// One visit from first to last.
#[derive(Debug, Clone)]
pub struct Story {
    pub event: usize,
    pub visitor: usize,
    pub kind: Kind,
    pub seen: Vec<Seen>,
    pub end: End,
    /// A status asked after the end: of closed tabs, of those who left, of those inside.
    pub epilogue: Vec<Seen>,
}

/// A span during which the server was down: from the kill until it was ready again.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub killed: u64,
    pub ready: u64,
}

impl Outage {
    /// Whether the span from `from` to `to` touches the outage.
    pub fn touches(&self, from: u64, to: u64) -> bool {
        from <= self.ready && self.killed <= to
    }
}

/// Everything that was seen in one run.
pub struct Run {
    pub terms: super::plan::Terms,
    pub stories: Vec<Story>,
    pub outages: Vec<Outage>,
}

impl Run {
    /// Whether the server was down at some moment between `from` and `to`.
    pub fn down_between(&self, from: u64, to: u64) -> bool {
        self.outages.iter().any(|outage| outage.touches(from, to))
    }

    /// The stories of each event.
    pub fn by_event(&self) -> Vec<Vec<&Story>> {
        let events = self
            .stories
            .iter()
            .map(|story| story.event + 1)
            .max()
            .unwrap_or(0);
        let mut by_event = vec![Vec::new(); events];
        for story in &self.stories {
            by_event[story.event].push(story);
        }
        by_event
    }
}
