//! What only the store on Redis has.

mod desk;
mod failover;
mod rules;
mod whole;
