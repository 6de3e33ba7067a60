//! What can be said of a ticket: its state, and the word that holds it.

use crate::model::Micros;

use super::time::Epoch;

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In line, counted in everybody's place behind it.
    Waiting,
    /// Its turn has come and lasts until `until` (rounded up to a tenth of a second).
    Called {
        /// When the turn lapses.
        until: Micros,
    },
    /// Its turn lapsed; it may still come back until `until` (rounded up to a tenth of a second).
    Missed {
        /// When the late grace ends.
        until: Micros,
    },
    /// It came back in its late grace: it waits at its own place again, where those who are `Waiting` do
    /// not count it.
    Returned,
    /// Removed: nobody polled for it in time.
    Expired,
    /// Removed: the visitor left.
    Left,
    /// Removed: the visitor entered.
    Entered,
}

impl State {
    /// Whether the ticket has been removed (and is only remembered).
    pub const fn is_gone(self) -> bool {
        matches!(self, Self::Expired | Self::Left | Self::Entered)
    }

    /// Whether the ticket waits for its turn.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Waiting | Self::Returned)
    }
}

/// Why a ticket is removed. Who entered is inside for good; of the others the newest removal is kept,
/// of two of the same microsecond the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Nobody polled for it in time.
    Expired,
    /// The visitor left.
    Left,
    /// The visitor entered.
    Entered,
}

/// The states as numbered in a [`Word`]; the removed ones in the order of [`Reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Kind {
    /// No ticket, or one that is just being put in line.
    Free,
    Waiting,
    Called,
    Missed,
    Returned,
    Expired,
    Left,
    Entered,
}

/// Every kind, by number.
const KINDS: [Kind; 8] = [
    Kind::Free,
    Kind::Waiting,
    Kind::Called,
    Kind::Missed,
    Kind::Returned,
    Kind::Expired,
    Kind::Left,
    Kind::Entered,
];

impl Kind {
    /// Whether a ticket of this kind has been removed.
    pub(super) const fn is_gone(self) -> bool {
        matches!(self, Self::Expired | Self::Left | Self::Entered)
    }
}

impl From<Reason> for Kind {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Expired => Self::Expired,
            Reason::Left => Self::Left,
            Reason::Entered => Self::Entered,
        }
    }
}

/// An entry's state in one atomic word: kind (8 bits), flags (24 bits), and 32 bits that are the
/// position of a waiting ticket or the deadline, in ticks, of one that was called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// The visitor said goodbye and may think better of it.
    const LEAVING: u64 = 1 << 32;
    /// The writer keeps a `History` for this entry.
    const HISTORY: u64 = 1 << 33;

    /// A word without flags.
    pub(super) const fn new(kind: Kind, low: u32) -> Self {
        Self((kind as u64) << 56 | low as u64)
    }

    pub(super) const fn kind(self) -> Kind {
        KINDS[(self.0 >> 56) as usize & 7]
    }

    /// Position or deadline.
    pub(super) const fn low(self) -> u32 {
        self.0 as u32
    }

    pub(super) const fn is_leaving(self) -> bool {
        self.0 & Self::LEAVING != 0
    }

    pub(super) const fn has_history(self) -> bool {
        self.0 & Self::HISTORY != 0
    }

    /// The same flags, another kind and number.
    pub(super) const fn with(self, kind: Kind, low: u32) -> Self {
        Self(self.0 & (Self::LEAVING | Self::HISTORY) | Self::new(kind, low).0)
    }

    pub(super) const fn with_low(self, low: u32) -> Self {
        self.with(self.kind(), low)
    }

    pub(super) const fn with_leaving(self, leaving: bool) -> Self {
        Self(if leaving {
            self.0 | Self::LEAVING
        } else {
            self.0 & !Self::LEAVING
        })
    }

    pub(super) const fn with_history(self, history: bool) -> Self {
        Self(if history {
            self.0 | Self::HISTORY
        } else {
            self.0 & !Self::HISTORY
        })
    }

    /// The public name of this word's state; `None` for [`Kind::Free`].
    pub(super) fn state(self, epoch: Epoch) -> Option<State> {
        Some(match self.kind() {
            Kind::Free => return None,
            Kind::Waiting => State::Waiting,
            Kind::Called => State::Called {
                until: epoch.time(self.low()),
            },
            Kind::Missed => State::Missed {
                until: epoch.time(self.low()),
            },
            Kind::Returned => State::Returned,
            Kind::Expired => State::Expired,
            Kind::Left => State::Left,
            Kind::Entered => State::Entered,
        })
    }
}
