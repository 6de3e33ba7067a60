//! What is written down: one record per change of a ticket, and batches of them.
//!
//! Every record is a ticket id and one moment. Applying a record twice, late, or in another order
//! ends in the same state, so resending after a timeout and replaying a feed need no thought.

use serde::{Deserialize, Serialize};

use super::ids::{EventId, NodeId, TicketId};
use super::ticket::Micros;

/// What happened to a ticket. The numbers are the wire form and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
#[repr(u8)]
pub enum Kind {
    /// Joined the line; the moment is its arrival.
    Joined = 1,
    /// Was polled for; the moment is the poll.
    Seen = 2,
    /// Its turn came; the moment is when the turn lapses.
    Called = 3,
    /// Its turn lapsed untaken and was given to the next; the moment is the turn's end.
    Missed = 4,
    /// Missed its turn and came back; the moment is that turn's end: it says which one.
    Returned = 5,
    /// Said good-bye softly (an unload beacon); undone by a later `Seen`.
    Leaving = 6,
    /// Left the line; the moment is the removal.
    Left = 7,
    /// Was not polled for on any node for the heartbeat time; the moment is the removal.
    Expired = 8,
    /// Entered; the moment is the removal from the line.
    Entered = 9,
}

impl Kind {
    /// How the ticket went, when this record removes it from the line.
    pub const fn gone(self) -> Option<Gone> {
        match self {
            Self::Left => Some(Gone::Left),
            Self::Expired => Some(Gone::Expired),
            Self::Entered => Some(Gone::Entered),
            _ => None,
        }
    }

    /// Whether it is a word about a turn: its moment is one of the store's clock.
    pub const fn is_of_turn(self) -> bool {
        matches!(self, Self::Called | Self::Missed | Self::Returned)
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for Kind {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Joined,
            2 => Self::Seen,
            3 => Self::Called,
            4 => Self::Missed,
            5 => Self::Returned,
            6 => Self::Leaving,
            7 => Self::Left,
            8 => Self::Expired,
            9 => Self::Entered,
            other => return Err(format!("record kind {other} is unknown to this version")),
        })
    }
}

/// How a ticket went from the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Gone {
    /// The visitor left.
    Left,
    /// Nobody polled for it any more.
    Expired,
    /// The visitor went in.
    Entered,
}

impl Gone {
    /// The record that says so.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Left => Kind::Left,
            Self::Expired => Kind::Expired,
            Self::Entered => Kind::Entered,
        }
    }
}

/// One change of one ticket. 29 bytes in its wire form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// What happened.
    pub kind: Kind,
    /// To which ticket.
    pub id: TicketId,
    /// The moment that goes with it; each [`Kind`] says which.
    pub at: Micros,
}

impl Record {
    /// Whether it says nothing about an event that was forgotten with all that happened until then:
    /// a later removal may be of a ticket that joined since.
    pub fn is_void(&self, until: Micros) -> bool {
        (self.kind == Kind::Joined || self.kind.gone().is_some()) && self.at <= until
    }
}

/// Records of one partition that travel, are stored and are acknowledged together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Who wrote it.
    pub node: NodeId,
    /// Which life of that node: the second it started.
    pub epoch: u32,
    /// The node's own count of batches on this partition, from 1.
    pub seq: u64,
    /// Until when all that the node saw is told, by its clock: when this was cut, or less while
    /// something else of it is on its way.
    pub clock: Micros,
    /// The records, in order within each event.
    pub events: Vec<(EventId, Vec<Record>)>,
}

impl Batch {
    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.events.iter().map(|(_, records)| records.len()).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
