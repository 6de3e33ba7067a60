//! What `make fuzz` runs for hours and this binary runs over the corpus that those hours left: the
//! smallest inputs that together reach everything, and every input that ever broke something.

mod answers;
pub mod codec;
pub mod config;
pub mod http;
pub mod operations;
pub mod token;

#[cfg(test)]
mod replay;
