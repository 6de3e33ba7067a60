//! The room in virtual time: what visitors are told, and when. Stories, one a test.

mod house;
mod order;
mod operate;
mod refusals;
mod turns;
mod visits;
