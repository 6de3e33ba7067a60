//! Every integration test, in one binary: it links once.

#![allow(
    clippy::disallowed_methods,
    reason = "a test measures and looks about from outside"
)]

mod apart;
mod api;
mod kit;
mod live;
mod process;
mod room;
mod sale;
mod sim;
mod store;
mod tidy;
