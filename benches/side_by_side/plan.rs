//! How much is measured: everything, or what fits into three minutes.

use std::time::Duration;

/// The sizes of a run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub name: &'static str,
    /// Visitors who wait while designs are compared.
    pub visitors: usize,
    /// Those of the old `KEYS` design: with more, one poll takes seconds.
    pub keys_visitors: usize,
    /// Other sizes at which the status path is compared with the bare server.
    pub other_sizes: Vec<usize>,
    /// Turns of each contestant in a comparison.
    pub rounds: usize,
    pub turn: Duration,
    /// Polls a second of the open-loop table.
    pub paces: Vec<f64>,
    /// How long each cell of it lasts.
    pub cell: Duration,
    /// Sizes of the fleet whose cost for Redis is measured.
    pub fleets: Vec<usize>,
    /// Connections that are opened and left alone.
    pub idle_connections: usize,
}

impl Plan {
    /// The whole comparison.
    pub fn full() -> Self {
        Self {
            name: "full",
            visitors: 1_000_000,
            keys_visitors: 10_000,
            other_sizes: vec![1_000, 10_000_000],
            rounds: 9,
            turn: Duration::from_secs(2),
            paces: vec![1e3, 5e3, 1e4, 2e4, 3e4],
            cell: Duration::from_secs(4),
            fleets: vec![1, 2, 4],
            idle_connections: 100_000,
        }
    }

    /// The short form.
    pub fn quick() -> Self {
        Self {
            name: "quick",
            visitors: 200_000,
            keys_visitors: 10_000,
            other_sizes: vec![1_000],
            rounds: 5,
            turn: Duration::from_millis(600),
            paces: vec![1e3, 1e4, 3e4],
            cell: Duration::from_secs(1),
            fleets: vec![1, 2],
            idle_connections: 10_000,
        }
    }
}
