//! The write-behind: what memory has and the store has not acknowledged yet.
//!
//! The [`lane::Journal`] is filled by the room inside the same critical section as each change, so
//! record order, memory order and clock order are one. The [`flush::Flusher`] cuts batches from it and
//! carries them to the store.

pub mod flush;
pub mod follow;
pub mod health;
pub mod lane;
mod tail;
mod void;
