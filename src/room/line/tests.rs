//! The line against a naive model.
