//! Moving a running sale over from the Redis-only gateway that Tidegate replaces.
//!
//! What that gateway keeps, for an event `e` and a waiting token `t`, which is a random UUID:
//!
//! | key | holds |
//! |---|---|
//! | `position_index:{e}` | ZSET: tokens by the second in which they joined; nobody is ever taken out |
//! | `queue:event:e` | the same, but who left or entered is taken out |
//! | `queue:waiting:t` | JSON for 30 minutes: `event_id`, `joined_at`, and `status`: `waiting`, or `ready` once entered |
//! | `heartbeat:t` | is there while `t` was polled for within five minutes |
//!
//! [`source`] reads all of it from every master, [`sale`] says what each token is, [`writer`] writes
//! the difference to the store as ordinary records. Doing it again is harmless: records merge.

mod sale;
mod source;
mod tally;
mod writer;

pub use sale::Sale;
pub use source::{Source, SourceError};
pub use tally::Tally;
pub use writer::Writer;
