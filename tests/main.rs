//! Every integration test, in one binary: it links once.

mod kit;
mod process;
mod room;
mod sale;
mod tidy;
