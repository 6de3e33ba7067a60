//! The API over real sockets: every call, field, code and error, and everything a hostile client
//! may send. The room behind is the real one, in manual time.

mod admin;
pub mod client;
mod connections;
mod contract;
mod cors;
pub mod desk;
mod errors;
mod hostile;
mod memory;
mod random;
mod schema;
mod site;
mod twins;
mod visitor;
