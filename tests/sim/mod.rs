//! A whole fleet on one thread, in virtual time, from one seed: the nodes' own engines over one
//! simulated store, visitors, an operator, and everything that may go wrong between them.

mod check;
mod clockwork;
mod fleet;
mod heard;
mod history;
mod leases;
mod ledger;
mod link;
mod lost;
#[cfg(feature = "mutants")]
mod mutants;
mod net;
mod once;
mod plan;
mod rulings;
mod run;
mod seeds;
mod server;
mod shares;
mod shrink;
mod stories;
mod told;
mod untold;
mod visitor;
mod words;
mod world;
