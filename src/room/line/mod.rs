//! The line of one event: who is in it, and where.
//!
//! Two structures answer a poll, and both are read without a lock while one writer changes them:
//!
//! - *who*: [`index`] finds a ticket's entry in the [`arena`], five words that say when it joined,
//!   where it stands and when it was last seen;
//! - *where*: [`order`] keeps the waiting tickets in [`segment`]s, bitmaps over slots in key order
//!   under a [`directory`] of counts. The entry remembers its slot, so a place is two counters and
//!   one cache line of bits; [`reshape`] moves tickets to new segments when a late one finds no gap.
//!
//! Changes go through [`LineWriter`]. Joins and removals merge: applied twice, late or in another
//! order they end in the same state ([`history`] keeps what that takes beyond the entry). The
//! [`wheel`] finds those whose time is over.
//!
//! The clock is always an argument.

mod arena;
mod batch;
mod directory;
mod history;
mod index;
mod numbers;
mod order;
mod reader;
mod reshape;
mod segment;
mod spine;
mod state;
mod sweep;
mod time;
mod turns;
mod walk;
mod wheel;
mod writer;

#[cfg(test)]
mod tests;

pub use batch::Joins;
pub use reader::{Counts, Line, Look, View};
pub use state::{Reason, State};
pub use sweep::{Due, Lapse, Swept};
pub use writer::{Entry, Joined, LineWriter, Removed};
