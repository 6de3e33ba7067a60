//! What a black-box test needs: the real binary as a child process, and a small HTTP client.

pub mod balancer;
pub mod client;
pub mod cluster;
pub mod faults;
pub mod links;
pub mod process;
pub mod redis;
pub mod server;
pub mod stopwatch;
