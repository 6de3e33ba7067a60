//! A line to measure, and who is in it.

use std::time::Duration;

use tidegate::model::{Micros, TicketId, TicketKey};
use tidegate::room::line::{Line, Reason, View};

/// Microseconds from one arrival to the next.
pub const STEP: u64 = 10;

/// A well mixed number (the finaliser of SplitMix64): ids without an array of them.
pub fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

pub fn key(n: u64) -> TicketKey {
    let id = TicketId::from_u128(u128::from(mix(n)) << 64 | u128::from(n));
    TicketKey {
        arrival: Micros(n * STEP),
        id,
    }
}

/// A line, and the numbers of those who wait in it.
pub struct Crowd {
    pub line: Line,
    pub live: Vec<u64>,
    pub next: u64,
    seed: u64,
}

impl Crowd {
    /// A line of `size`, joined one by one.
    pub fn new(size: u64) -> Self {
        let line = Line::new(Micros(0), 1);
        let (live, next, seed) = (Vec::with_capacity(size as usize * 2), 0, 1);
        let mut crowd = Self {
            line,
            live,
            next,
            seed,
        };
        (0..size).for_each(|_| crowd.join());
        crowd
    }

    pub fn join(&mut self) {
        let key = key(self.next);
        self.line.write().join(&key.id, key.arrival, key.arrival);
        self.live.push(self.next);
        self.next += 1;
    }

    pub fn random(&mut self, below: usize) -> usize {
        self.seed = mix(self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        ((u128::from(self.seed) * below as u128) >> 64) as usize
    }

    /// Somebody new whose arrival is between those of two who wait.
    pub fn straggler(&mut self) -> TicketKey {
        let at = self.random(self.live.len());
        self.next += 1;
        TicketKey {
            arrival: Micros(self.live[at] * STEP + 1),
            id: key(self.next).id,
        }
    }

    /// Takes somebody out of the list of the live.
    pub fn pick(&mut self) -> TicketId {
        let at = self.random(self.live.len());
        key(self.live.swap_remove(at)).id
    }

    pub fn remove(&mut self, id: &TicketId) {
        self.line
            .write()
            .remove(id, Micros(self.next * STEP), Reason::Left);
    }

    /// In a small line the gone must not outnumber the live.
    pub fn forget(&mut self) {
        if self.live.len() < 100_000 {
            let now = Micros(self.next * STEP + 1_000_000);
            let (heartbeat, memory) = (Duration::from_secs(1 << 20), Duration::ZERO);
            self.line
                .write()
                .sweep(now, heartbeat, memory, false, usize::MAX, &mut Vec::new());
        }
    }

    pub fn views(&mut self) -> Vec<View> {
        let views = |_| {
            let at = self.random(self.live.len());
            self.line.find(&key(self.live[at]).id).unwrap()
        };
        (0..1 << 17).map(views).collect()
    }
}

/// How many bytes of resident memory a visitor takes in `lines` lines of `size`; of empty lines, how
/// many a line takes. To be asked once in a process: memory that was freed is used again.
pub fn weigh(lines: u64, size: u64) -> f64 {
    let before = resident_bytes();
    let fill = |_| {
        let line = Line::new(Micros(0), 1);
        for n in 0..size {
            let key = key(n);
            line.write().join(&key.id, key.arrival, key.arrival);
        }
        line
    };
    let lines: Vec<_> = (0..lines).map(fill).collect();
    (resident_bytes() - before) / (lines.len() as u64 * size.max(1)) as f64
}

/// Resident memory of this process, from the kernel's page counts.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(f64::NAN)
        * 4096.0
}
