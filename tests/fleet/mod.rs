//! A fleet in virtual time: several rooms over one store, stories and random days.

mod day;
mod nodes;
mod random;
mod rulings;
mod shares;
mod store;
mod stories;
