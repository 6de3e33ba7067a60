//! What one visitor saw: each call with the moments of sending and receiving, and what came back.

use super::plan::{Kind, SECOND};

/// What the server acknowledged this long before a kill may be gone with its memory: its journal is
/// written every few milliseconds, on a busy machine a little later.
pub const JOURNAL_GRACE: u64 = SECOND / 4;

/// No machine is held up for longer, or its runs mean nothing.
const HELD_UP_MAX: u64 = 60 * SECOND;

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
    /// How much longer the turn is kept, if that was told.
    pub within: Option<u64>,
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
    /// Which node answered, where that is known.
    pub node: Option<usize>,
    pub what: What,
}

impl Seen {
    /// Whether this says that it is the visitor's turn.
    pub fn is_ready(&self) -> bool {
        matches!(&self.what, What::Joined { place, .. } | What::Told(place) if place.ready)
    }
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Entered,
    Left,
    ClosedTab,
    /// Answered 404 while still wanting in.
    Lost,
    /// Still in line when the sale was closed.
    Waits,
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

impl Story {
    /// The token that the join was answered with, if it was.
    pub fn token(&self) -> Option<&str> {
        self.seen.iter().find_map(|seen| match &seen.what {
            What::Joined { token, .. } => Some(token.as_str()),
            _ => None,
        })
    }
}

/// What was down, and so what may be told for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// All that answers: calls fail, and what memory had not written yet is forgotten.
    Server,
    /// One node of a fleet: the others answer, without what it had not told them yet.
    Node,
    /// One node of a fleet that was asked to stop: it has told all it knew.
    Stopped,
    /// One node of a fleet, held up: the others hear of what it knew when it goes on, and it of theirs.
    Frozen,
    /// Something that nobody should miss: nothing may be told for it.
    Spare,
    /// The store, or a part of it: entering may be refused, and nothing else. It may forget what it
    /// acknowledged less than this long before, and with that the passes of those inside.
    Store { forgets: u64 },
}

/// A span during which something was down: from the kill until all was well again.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    pub killed: u64,
    pub ready: u64,
    pub what: Down,
}

impl Outage {
    /// Whether the span from `from` to `to` touches the outage.
    pub fn touches(&self, from: u64, to: u64) -> bool {
        from <= self.ready && self.killed <= to
    }

    /// Whether such an answer is no fault of the server.
    pub fn excuses(&self, seen: &Seen) -> bool {
        let refused = matches!(seen.what, What::Odd { status: 503, .. });
        let excused = match self.what {
            Down::Server => refused || matches!(seen.what, What::Failed { .. }),
            Down::Node | Down::Stopped | Down::Frozen | Down::Spare => false,
            Down::Store { .. } => refused && seen.call == Call::Enter,
        };
        excused && self.touches(seen.sent, seen.received)
    }

    /// When answers may have been given that rest on what memory forgot.
    fn unfounded(&self) -> Option<(u64, u64)> {
        let from = self.killed.saturating_sub(JOURNAL_GRACE);
        match self.what {
            Down::Server => Some((from, self.ready)),
            Down::Node => Some((from, self.killed)),
            _ => None,
        }
    }

    /// Whether what was told at `told` may rest on what memory forgot.
    pub fn forgets(&self, told: u64) -> bool {
        self.unfounded()
            .is_some_and(|(from, to)| from <= told && told <= to)
    }

    /// Whether the pass of who entered at `entered` may be lost.
    pub fn loses_pass(&self, entered: u64) -> bool {
        match self.what {
            Down::Store { forgets } => {
                forgets > 0
                    && self.killed.saturating_sub(forgets) <= entered
                    && entered <= self.ready
            }
            _ => false,
        }
    }

    /// The span in which it does not count how much of the rate is used: nobody is called, or others
    /// have to leave a part of the rate to a node that they do not hear.
    pub fn idle(&self) -> (u64, u64) {
        match self.what {
            Down::Spare => (self.killed, self.killed),
            _ => (self.killed, self.ready),
        }
    }
}

/// A timer that came late: nothing was done here meanwhile, nor, by all likelihood, by the nodes, which
/// share the machine.
#[derive(Debug, Clone, Copy)]
pub struct Late {
    pub due: u64,
    pub by: u64,
}

/// Everything that was seen in one run.
pub struct Run {
    pub terms: super::plan::Terms,
    pub stories: Vec<Story>,
    pub outages: Vec<Outage>,
    /// In the order of their moments.
    pub late: Vec<Late>,
    /// When all events were paused for good; never, if that is the greatest number.
    pub closed: u64,
}

impl Run {
    /// When all nodes have surely heard of what one of them knew at `told`. Nodes hear of each other
    /// through the store, so of what came while it was down they hear when it is back; and three
    /// processes in a row have to come to it: the node, the store, the other node.
    pub fn heard_by(&self, told: u64) -> u64 {
        let by = told.saturating_add(self.terms.lag);
        let mut by = by + 3 * self.held_up(told, by);
        // In the order of their moments, since hearing late of one may reach into the next.
        for outage in &self.outages {
            let apart = matches!(outage.what, Down::Store { .. } | Down::Frozen);
            if apart && outage.touches(told, by) {
                by = by.max(outage.ready.saturating_add(self.terms.lag));
            }
        }
        by
    }

    /// Since when an answer to what was asked at `asked` may be: all that any node knew before, the one
    /// that answered had heard of (see [`Self::heard_by`]). One that hung answers late from what it knew.
    pub fn known_since(&self, asked: u64) -> u64 {
        let lag = self.terms.lag;
        let mut since = asked.saturating_sub(lag);
        since = since.saturating_sub(3 * self.held_up(since, asked));
        for outage in self.outages.iter().rev() {
            let apart = matches!(outage.what, Down::Store { .. } | Down::Frozen);
            if apart && lag > 0 && outage.killed <= asked && since <= outage.ready + lag {
                since = since.min(outage.killed.saturating_sub(lag));
            }
        }
        since
    }

    /// How late a timer was at most, of those that may have held up what one node tells another.
    fn held_up(&self, told: u64, by: u64) -> u64 {
        if self.terms.lag == 0 {
            return 0;
        }
        let begun = self.late.partition_point(|late| late.due <= by);
        let late = self.late[..begun].iter().rev();
        let late = late.take_while(|late| told <= late.due + HELD_UP_MAX + SECOND);
        let late = late.filter(|late| told <= late.due + late.by + SECOND);
        late.map(|late| late.by).max().unwrap_or(0)
    }

    /// Whether all that answers was down at some moment between `from` and `to`.
    pub fn down_between(&self, from: u64, to: u64) -> bool {
        let servers = self.outages.iter().filter(|o| o.what == Down::Server);
        servers.into_iter().any(|outage| outage.touches(from, to))
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
