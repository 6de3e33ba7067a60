//! What only the store on Redis has.

mod failover;
mod rules;
mod whole;
