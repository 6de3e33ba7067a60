//! Tidegate: a waiting room in one binary.
//!
//! Read `http → room → journal → store` and you have read a request. Imports point one way:
//! `main → app, doctor → everything`; `http → room, model, clock, telemetry`; `room → journal's lane,
//! model`; `journal → store (the trait), model, clock, telemetry`; `legacy → store (the trait),
//! model, clock`; `store → model, telemetry`; `sync → clock, telemetry`; `model`, `clock` and `telemetry` import
//! nothing of ours; all may take atomics and locks from `sync`. `tests/tidy` holds this true.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// Whether a deliberate mistake is to be made here: never, and at no cost, in builds without the
/// feature `mutants`.
#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is($crate::mutants::Mutant::$name)
    };
}
#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod http;
pub mod journal;
pub mod legacy;
pub mod model;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod room;
pub mod store;
mod sync;
pub mod telemetry;
