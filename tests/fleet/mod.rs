//! A fleet in virtual time: several rooms over one store, stories and random days.

mod day;
mod random;
mod store;
mod stories;
mod world;
