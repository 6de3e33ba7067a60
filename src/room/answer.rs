//! What the room answers, before anybody renders it: plain values, no text.

use std::time::Duration;

use crate::model::gate::EnterRequest;
use crate::model::{EventId, EventIdError, Gone, TicketId};

/// A visitor asks for a place.
#[derive(Debug, Clone, Copy)]
pub struct Join<'a> {
    /// The event's name, unchecked.
    pub event: &'a str,
    /// The `Idempotency-Key`, 1–128 printable characters, checked by the caller.
    pub key: Option<&'a str>,
    /// A label, no proof of anything; part of what makes a repeated request "the same".
    pub user: Option<&'a str>,
}

/// A place was given (or found again by its idempotency key).
#[derive(Debug, Clone)]
pub struct Joined {
    /// The signed token, the visitor's proof.
    pub token: String,
    /// Where the visitor stands now.
    pub standing: Standing,
    /// What must be acknowledged by the store for the place to be durable.
    pub commit: Commit,
}

/// A point in a journal lane. Everything up to it is durable once the lane's acknowledged mark has
/// reached `seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub lane: u16,
    /// The record's number in the lane; 0 when there is nothing to wait for.
    pub seq: u64,
}

/// Where a visitor stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Waiting (also while ready), or in.
    pub phase: Phase,
    /// From 1; 0 = called or entered.
    pub position: u64,
    /// Waiting tickets of the event.
    pub total_waiting: u64,
    /// Since the ticket joined.
    pub waited: Duration,
    /// The expected wait.
    pub eta: Eta,
    /// Whether entering will succeed.
    pub ready: bool,
    /// How long a turn is still kept, when `ready`.
    pub enter_within: Option<Duration>,
    /// When to ask again, with jitter.
    pub poll_after: Duration,
    /// Why the wait grew, or may.
    pub reason: Option<WaitReason>,
    /// The store has been away for longer than `stale_after`.
    pub degraded: bool,
}

/// The `status` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In line or called: `waiting`.
    Waiting,
    /// Entered: `ready`.
    Entered,
}

/// An expected wait with its bounds, whole seconds: `low <= likely <= high`. All 0 when ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Eta {
    /// The expected wait.
    pub likely: u64,
    /// If all goes well.
    pub low: u64,
    /// If it does not.
    pub high: u64,
}

/// Why a wait grew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitReason {
    /// Nobody is let in at present.
    Paused,
    /// The pace was lowered a short while ago.
    RateLowered,
    /// Visitors who had missed their turn came back ahead.
    ReturnedAhead,
    /// Too little has been seen to tell.
    Calculating,
}

impl WaitReason {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::RateLowered => "rate_lowered",
            Self::ReturnedAhead => "returned_ahead",
            Self::Calculating => "calculating",
        }
    }
}

/// Why no place was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinRefusal {
    /// No event name at all.
    #[error("event_id is missing")]
    MissingEvent,
    /// Not an event name.
    #[error("event_id: {0}")]
    InvalidEvent(#[from] EventIdError),
    /// The event does not exist and is not created on demand.
    #[error("no such event")]
    EventNotFound,
    /// The event takes nobody (any more).
    #[error("the event is closed")]
    EventClosed,
    /// The same idempotency key came with another body.
    #[error("this idempotency key was used with another body")]
    Conflict,
    /// The line, the journal or the number of events is at its bound.
    #[error("{what} is full")]
    Full {
        /// What is full.
        what: &'static str,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// More joins a second than this node takes.
    #[error("too many joins at once")]
    RateLimited {
        /// When it is worth trying again.
        retry_after: Duration,
    },
}

/// Why a token shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// Unknown, forged, truncated: the same answer for all.
    #[error("unknown token")]
    NotFound,
    /// Was in line and is gone; `None` when it is too old to know how.
    #[error("this place in line is gone")]
    Gone(Option<Gone>),
}

/// What to do about a wish to enter.
#[derive(Debug, Clone)]
pub enum EnterStep {
    /// Ask the store this, and bring the answer to `Room::entered`.
    Ask(Box<EnterRequest>),
    /// Nothing: the turn was given by this node, which is cut off from the store.
    Granted(Admission),
}

/// The visitor is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The pass.
    pub pass: String,
    /// How long it still holds, whole seconds, at least 1.
    pub ttl_sec: u64,
}

/// Why somebody may not enter (yet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnterRefusal {
    /// The token shows nothing.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// Not their turn.
    #[error("it is not your turn")]
    NotReady {
        /// Why.
        reason: NotReady,
        /// When to try again.
        retry_after: Duration,
    },
    /// The store is away and the event holds entries until it is back.
    #[error("entering is not possible at present")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why it is not a ticket's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// Others are ahead.
    Position,
    /// The turn came and lapsed; the visitor is called again at the front.
    MissedTurn,
    /// Nobody is let in at present.
    Paused,
    /// As many are inside as may be.
    Capacity,
}

impl NotReady {
    /// The API's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::MissedTurn => "missed_turn",
            Self::Paused => "paused",
            Self::Capacity => "capacity",
        }
    }
}

/// An event in figures, for operators.
#[derive(Debug, Clone, PartialEq)]
pub struct EventStats {
    /// The event.
    pub event: EventId,
    /// Waiting tickets.
    pub waiting: u64,
    /// Open turns.
    pub ready: u64,
    /// Visitors inside, as of the last word from the gate.
    pub active: u64,
    /// Joined since the start of this node.
    pub joined: u64,
    /// Entered since the start of this node.
    pub entered: u64,
    /// Left or expired since the start of this node.
    pub left: u64,
    /// Turns given a second over the last minute.
    pub calls_per_sec: f64,
    /// Whether the event is paused.
    pub paused: bool,
}

/// What a pass says about its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassClaims {
    /// The event it opens.
    pub event: EventId,
    /// The ticket it came from: its `jti`.
    pub ticket: TicketId,
    /// When it was issued, seconds since 1970.
    pub issued_at: u64,
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
}
