//! Configuration: what was written, then what it means.
//!
//! [`Sources`] names the places (a file, the environment, `--set`); reading them gives a tree of
//! values that remember where they came from; one conversion turns the tree into a typed
//! [`Config`] or into *all* [`Mistakes`] together. Only this module reads the environment and
//! settings files. [`Watch`] does the same again while the process runs.

mod fields;
mod mistake;
mod reader;
mod relations;
mod resolve;
mod schema;
mod secret;
mod show;
mod sources;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod watch;

pub use mistake::{Given, Mistake, Mistakes, Origin, Why};
pub use schema::{known_keys, known_tables};
pub use secret::Secret;
pub use sources::{Sources, environment};
pub use types::{
    Ack, Admin, Config, Cors, Events, Fleet, Fsync, Journal, KeySet, Limits, Log, Origins, Polling,
    Redis, RedisMode, RedisUrl, Server, Store, StoreKind, StoreStart,
};
pub use watch::{Watch, WatchError};
