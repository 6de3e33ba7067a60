//! Runs in which nodes go on by themselves while they are cut off from the store. Longer than others:
//! a node does so only when the gate has heard of it for a while.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use tidegate::model::{Outage, Policy};

use super::{KINDS, MORE, Op, Plan, What, fault, patches, some_nodes, some_partitions, visits};
use crate::room::house::policy;
use crate::sim::net::{Set, Trouble};
use crate::sim::world::Setting;

/// From then on the gate may have heard of a node for long enough, in milliseconds.
const SETTLED: u64 = 13_000;

impl Plan {
    pub(super) fn sharing(seed: u64, random: &mut StdRng) -> Self {
        let nodes = [2, 2, 3, 3, 4, 5][random.random_range(0..6)];
        let active = [35_000, 50_000, 80_000][random.random_range(0..3)];
        let policy = some_policy(random, nodes);
        let off = [0, 5_000, 20_000, 200_000][random.random_range(0..4)];
        let clocks = (0..nodes).map(|_| {
            let fast = random.random_range(-200..=200);
            (random.random_range(-off..=off), fast)
        });
        let clocks = clocks.collect();
        let setting = Setting {
            nodes,
            partitions: [1, 2, 4][random.random_range(0..3)],
            latency: [0, 0, 2, 12][random.random_range(0..4)],
            journal: 100_000,
            clocks,
            seed,
            policy,
        };
        let mut ops = visits(random, &setting, active, 160);
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(SETTLED..active - 3_000);
            ops.push(Op {
                at,
                what: cut(random, &setting, active - at),
            });
        }
        if random.random_bool(0.5) {
            for _ in 0..random.random_range(1..4) {
                let kind = random.random_range(0..KINDS + MORE);
                let at = random.random_range(500..active);
                let what = fault(random, kind, &setting, active - at);
                ops.push(Op { at, what });
            }
        }
        if random.random_bool(0.3) {
            patches(random, &setting, &mut ops, active);
        }
        ops.sort_by_key(|op| op.at);
        Self {
            seed,
            setting,
            ops,
            active,
            pauses: random.random_bool(0.5),
        }
    }
}

fn some_policy(random: &mut StdRng, nodes: u16) -> Policy {
    let seconds = Duration::from_secs;
    let mut of = |choice: [u32; 4]| choice[random.random_range(0..4)];
    Policy {
        rate: f64::from(of([2, 4, 8, 15])),
        // What has not a turn for each node is held.
        burst: of([2, 4, 10, 25]).max(u32::from(nodes) - 1),
        max_active: 0,
        ready_ttl: seconds(u64::from(of([3, 10, 60, 60]))),
        late_grace: seconds(10),
        heartbeat_ttl: seconds(9),
        pass_ttl: seconds(u64::from(of([4, 30, 120, 120]))),
        leave_grace: seconds(4),
        max_waiting: 1_000,
        outage: Outage::Share,
        ..policy()
    }
}

/// Some nodes, or all, lose the store for a while.
fn cut(random: &mut StdRng, setting: &Setting, left: u64) -> What {
    let trouble = match random.random_range(0..8) {
        0..3 => Trouble::Cut,
        3..5 => Trouble::Refused,
        5..7 => Trouble::OneWay,
        // It has stopped, and does afterwards what it was asked.
        _ => Trouble::Late,
    };
    let lasts = match random.random_range(0..4) {
        0 => random.random_range(100..6_000),
        1 => random.random_range(6_000..15_000),
        _ => random.random_range(12_000..50_000),
    };
    What::Trouble {
        trouble,
        nodes: some_nodes(random, setting.nodes),
        partitions: if random.random_bool(0.85) {
            Set::ALL
        } else {
            some_partitions(random, setting.partitions)
        },
        per_mille: 1000,
        lasts: lasts.min(left),
    }
}
