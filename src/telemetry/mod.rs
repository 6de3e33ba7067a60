//! What operators see of a running process.

pub mod logging;
pub mod version;
