//! The figures of a run, as `report.json` holds them.

use serde::Serialize;

use super::machine::Machine;

#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    pub machine: Machine,
    pub plan: &'static str,
    pub visitors: usize,
    pub rounds: usize,
    pub turn_sec: f64,
    /// Throughput of the status path over that of the bare server.
    pub status_vs_bare: f64,
    pub status_vs_position_index_pooled: f64,
    pub status_vs_position_index: f64,
    pub status_vs_best_redis: f64,
    pub status_vs_keys: f64,
    /// Of Tidegate.
    pub redis_commands_per_poll: f64,
    pub bytes_per_visitor: f64,
    /// What our load generator finds over what `wrk` does, where that is installed.
    pub generator_vs_wrk: Option<f64>,
    /// At the limit, closed loop.
    pub limit: Vec<Limit>,
    /// The status path over the bare server, by how many wait.
    pub sizes: Vec<Size>,
    /// Open loop.
    pub paces: Vec<Cell>,
    pub half: Half,
    pub joins: Joins,
    pub beside: Beside,
    pub fleet: Vec<Fleet>,
    pub start: Start,
    pub connections: Connections,
    /// Parts that broke off: their figures are zeros.
    pub failed: Vec<&'static str>,
}

/// A design at its limit: medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    pub design: &'static str,
    pub visitors: usize,
    pub polls_per_sec: f64,
    pub service_us: f64,
    pub redis_us: f64,
    /// Service and Redis: what an operator pays for a poll.
    pub paid_us: f64,
    pub redis_commands_per_poll: f64,
    /// Processor time of the busiest Redis server for a poll.
    pub busiest_redis_us: f64,
    /// Polls a second at which that server has no time left; none for a design that does not ask it.
    pub redis_saturates_at: Option<f64>,
    /// How many times as many polls Tidegate answers; `None` for itself.
    pub tidegate_vs_it: Option<f64>,
    /// How many times as much an operator pays.
    pub paid_vs_tidegate: Option<f64>,
    pub errors: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Size {
    pub visitors: usize,
    /// By answers a second.
    pub vs_bare: f64,
    /// By processor time for an answer.
    pub vs_bare_by_cpu: f64,
    pub polls_per_sec: f64,
    pub service_us: f64,
    pub bytes_per_visitor: f64,
}

/// A design at a given pace.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    pub design: &'static str,
    pub asked_per_sec: f64,
    pub answered_per_sec: f64,
    pub redis_cpu_percent: f64,
    /// Of all Redis servers together while nobody polls.
    pub redis_idle_percent: f64,
    pub redis_commands_per_poll: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub errors: u64,
}

/// Latency at half of the most, open loop.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Half {
    pub asked_per_sec: f64,
    pub tidegate_p99_ms: f64,
    pub tidegate_p999_ms: f64,
    pub bare_p99_ms: f64,
    pub bare_p999_ms: f64,
    pub p99_vs_bare: f64,
    pub p999_vs_bare: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Joins {
    pub memory_per_sec: f64,
    pub memory_vs_bare: f64,
    pub memory_vs_bare_by_cpu: f64,
    pub durable_asked_per_sec: f64,
    pub durable_answered_per_sec: f64,
    pub durable_p50_ms: f64,
    pub durable_p99_ms: f64,
    pub durable_errors: u64,
}

/// Polls at the limit while others join and enter.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Beside {
    pub joins_per_sec: f64,
    pub enters_per_sec: f64,
    pub polls_per_sec: f64,
    /// Polls over those that the processor time left by joins and enters would allow.
    pub cpu_adjusted: f64,
    /// Polls whose handling took longer than 1 ms, of a million.
    pub over_1_ms_per_million: f64,
    /// Times that a thread waited for a lock meanwhile, over all that an answer may need.
    pub lock_waits: f64,
    /// Those of them that took longer than 1 ms.
    pub lock_waits_over_1_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Fleet {
    pub nodes: usize,
    /// Whether measured, or computed from those that were.
    pub measured: bool,
    pub redis_commands_per_sec_idle: f64,
    pub redis_commands_per_sec_polled: f64,
    pub redis_cpu_percent_idle: f64,
    pub redis_cpu_percent_polled: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Start {
    pub visitors: usize,
    pub from_redis_sec: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Connections {
    pub wanted: usize,
    /// Fewer where the system allows a process no more open files.
    pub open: usize,
    pub bytes_each_idle: f64,
    /// Processor time that keeping them costs, percent of a core.
    pub cpu_percent: f64,
}
