//! Every integration test, in one binary: it links once.

mod kit;
mod process;
mod sale;
mod tidy;
