//! Every integration test, in one binary: it links once.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures and looks about from outside"
)]

mod apart;
mod api;
mod doctor;
mod fuzz;
mod kit;
mod legacy;
mod live;
mod process;
mod room;
mod sale;
mod sim;
mod start;
mod store;
mod tidy;
