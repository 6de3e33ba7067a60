//! The room in virtual time: what visitors are told, and when. Stories, one a test.

pub mod house;
mod legacy;
mod operate;
mod order;
mod refusals;
mod turns;
mod visits;
