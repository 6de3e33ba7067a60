//! Contestants take turns: A B C A B C …, so that whatever else the machine does meets all alike; what
//! counts is the median over the rounds, and ratios within each round.

use std::net::SocketAddr;
use std::time::Duration;

use super::load::{Load, Outcome, Pace};
use super::machine::{Cores, cpu_time};

/// Who is measured.
pub struct Contestant<'a> {
    pub name: &'static str,
    pub address: SocketAddr,
    /// The processes of the service.
    pub service: Vec<u32>,
    /// Those of the Redis it asks, if any.
    pub redis: Vec<u32>,
    pub request: &'a (dyn Fn(u64, &mut Vec<u8>) + Sync),
    /// What that Redis does of its own accord, as a share of a core: nobody's poll.
    pub redis_idle: f64,
    /// Requests at a time in a closed loop.
    pub connections: usize,
}

/// One turn of one contestant.
#[derive(Debug, Clone)]
pub struct Turn {
    pub outcome: Outcome,
    pub service_cpu: Duration,
    /// Of all Redis servers.
    pub redis_cpu: Duration,
    /// What they would have used anyway.
    pub redis_idle: Duration,
    /// Of the Redis server that had most to do.
    pub busiest_redis: Duration,
}

impl Turn {
    /// Processor time of the service for each answer, microseconds.
    pub fn service_us(&self) -> f64 {
        self.service_cpu.as_secs_f64() * 1e6 / self.outcome.answered.max(1) as f64
    }

    /// Processor time of Redis for each answer, microseconds, without what it uses anyway.
    pub fn redis_us(&self) -> f64 {
        let beyond = self.redis_cpu.saturating_sub(self.redis_idle);
        beyond.as_secs_f64() * 1e6 / self.outcome.answered.max(1) as f64
    }

    /// Processor time of the busiest Redis server for each answer, microseconds.
    pub fn busiest_us(&self) -> f64 {
        self.busiest_redis.as_secs_f64() * 1e6 / self.outcome.answered.max(1) as f64
    }

    /// What an operator pays for an answer, microseconds.
    pub fn paid_us(&self) -> f64 {
        self.service_us() + self.redis_us()
    }
}

impl Contestant<'_> {
    /// One turn. `from` numbers its first request.
    pub fn turn(&self, cores: &Cores, pace: Pace, lasts: Duration, from: u64) -> Turn {
        let each = || self.redis.iter().map(|pid| cpu_time(&[*pid]));
        let (service, redis) = (cpu_time(&self.service), each().collect::<Vec<_>>());
        let load = Load {
            address: self.address,
            request: self.request,
            from,
            pace,
            connections: match pace {
                Pace::Closed => self.connections,
                // So many that hardly a request waits for a free one.
                Pace::Open(_) => 512,
            },
            threads: cores.generators,
            lasts,
        };
        let outcome = load.run();
        self.settle();
        let service_cpu = cpu_time(&self.service) - service;
        let redis: Vec<_> = each().zip(redis).map(|(now, then)| now - then).collect();
        Turn {
            outcome,
            service_cpu,
            redis_cpu: redis.iter().sum(),
            redis_idle: lasts.mul_f64(self.redis_idle),
            busiest_redis: redis.into_iter().max().unwrap_or_default(),
        }
    }
}

impl Contestant<'_> {
    /// Waits until what was asked for and not waited for is done, so that it burdens no other's turn.
    fn settle(&self) {
        settle(&[self.service.as_slice(), &self.redis].concat(), 1);
    }
}

/// Waits until these processes have hardly anything to do, at so many looks in a row; 2 minutes at
/// most.
pub fn settle(pids: &[u32], quiet_looks: usize) {
    const LOOK: Duration = Duration::from_millis(30);
    let mut quiet = 0;
    for _ in 0..4_000 {
        let before = cpu_time(pids);
        std::thread::sleep(LOOK);
        let idle = cpu_time(pids) - before < LOOK / 10;
        quiet = if idle { quiet + 1 } else { 0 };
        if quiet == quiet_looks {
            return;
        }
    }
}

/// All turns of all contestants: `[contestant][round]`.
pub fn rounds(
    contestants: &[Contestant<'_>],
    cores: &Cores,
    pace: Pace,
    lasts: Duration,
    rounds: usize,
) -> Vec<Vec<Turn>> {
    let mut turns = vec![Vec::new(); contestants.len()];
    // Longer than any turn has requests: no visitor polls in one turn and again in the next.
    let mut from = 0;
    for contestant in contestants {
        // Wakes what sleeps; does not count.
        contestant.turn(cores, Pace::Closed, lasts / 4, from);
    }
    for _ in 0..rounds {
        for (contestant, turns) in contestants.iter().zip(&mut turns) {
            from += 3_000_017;
            turns.push(contestant.turn(cores, pace, lasts, from));
        }
    }
    turns
}

/// The median of `of` over the turns.
pub fn median(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    middle(turns.iter().map(of).collect())
}

/// The median over the rounds of `of(a) / of(b)`.
pub fn ratio(a: &[Turn], b: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    middle(a.iter().zip(b).map(|(a, b)| of(a) / of(b)).collect())
}

/// The middle value.
pub fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
