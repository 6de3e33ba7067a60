//! The vocabulary everybody shares: ids, tickets, records, policies, tokens. No I/O, no async.

mod base64url;
pub mod beat;
pub mod codec;
pub mod gate;
pub mod hlc;
pub mod home;
pub mod ids;
pub mod legacy;
pub mod nearest;
pub mod pass;
pub mod policy;
pub mod record;
pub mod ruling;
pub mod ticket;
pub mod token;

pub use beat::Beat;
pub use hlc::Hlc;
pub use ids::{EventId, EventIdError, NodeId, TicketId};
pub use legacy::LegacyToken;
pub use policy::{Order, Outage, Policy, PolicyPatch};
pub use record::{Batch, Gone, Kind, Record};
pub use ruling::{Change, Ruled, Ruling, Rulings};
pub use ticket::{Micros, TicketKey, micros};
