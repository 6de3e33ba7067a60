//! What operators see of a running node.

pub mod logging;
pub mod metrics;
pub mod version;
