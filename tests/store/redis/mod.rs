//! What only the store on Redis has.

mod rules;
mod whole;
