//! What clients saw: every call with its answer.

use tidegate::model::{Gone, Micros, TicketId, TicketKey};

/// What a visitor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Join,
    Status,
    Enter,
    Leave,
    Beacon,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A place, with the ticket that the token names.
    Joined { ticket: TicketKey, place: u64 },
    /// Waiting at this place; 0 is "your turn".
    Place { place: u64, degraded: bool },
    /// Inside, it is said.
    Inside,
    /// The place is gone.
    Gone(Option<Gone>),
    /// The token is not known.
    Unknown,
    /// In, with this pass.
    Pass { pass: String, ttl_sec: u64 },
    /// Not your turn (yet).
    NotReady,
    /// The store is away: entering is not possible.
    Unavailable,
    /// Something is full.
    Full,
    /// Said goodbye.
    Bye,
    /// No answer.
    Silence,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Seen {
    pub sent: Micros,
    pub got: Micros,
    /// Which visitor.
    pub who: usize,
    /// Which node; none when none was up.
    pub node: Option<u16>,
    pub call: Call,
    pub answer: Answer,
    /// It lay at the node for a while before it was taken.
    pub held_up: bool,
}

impl Seen {
    /// The ticket that was given.
    pub fn ticket(&self) -> Option<TicketId> {
        match self.answer {
            Answer::Joined { ticket, .. } => Some(ticket.id),
            _ => None,
        }
    }
}
