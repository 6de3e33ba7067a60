//! The vocabulary everybody shares: ids, tickets, records, policies, tokens. No I/O, no async.

pub mod ids;
pub mod nearest;
pub mod policy;
pub mod ticket;

pub use ids::{EventId, NodeId, TicketId};
pub use policy::{Policy, PolicyPatch};
pub use ticket::{Micros, TicketKey};
