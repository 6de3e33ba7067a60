//! What happens in a run, as plain data: a setting and a list of operations. One seed draws all of
//! it; whoever takes operations out has another, smaller run that replays as exactly.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use tidegate::model::{Outage, Policy, PolicyPatch};

use super::net::{Set, Trouble};
use super::visitor::{Habit, Visit};
use super::world::Setting;
use crate::room::house::policy;

mod sharing;

/// New visitors and faults come for so long where nothing is shared, in milliseconds.
const ACTIVE: u64 = 12_000;

/// One operation.
#[derive(Debug, Clone)]
pub struct Op {
    /// When, in milliseconds.
    pub at: u64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Visit(Visit),
    Trouble {
        trouble: Trouble,
        nodes: Set,
        partitions: Set,
        per_mille: u32,
        lasts: u64,
    },
    /// A failover: what was written in the last so many milliseconds is gone, nothing is taken for a
    /// while, and nodes notice up to so much later.
    Lose {
        partitions: Set,
        back: u64,
        down: u64,
        noticed: u64,
    },
    /// All is gone.
    Wipe {
        down: u64,
    },
    /// Feeds forget all but their newest batches.
    Trim {
        partitions: Set,
        kept: usize,
    },
    /// A node dies, and comes back so much later, with what the store holds or without.
    Crash {
        node: u16,
        back: u64,
        empty: bool,
    },
    /// A node is stopped in good order, and comes back so much later.
    Drain {
        node: u16,
        back: u64,
    },
    /// A node's wall clock jumps by so many microseconds.
    Jump {
        node: u16,
        by: i64,
    },
    /// A node takes no step for a while, and then all that it has missed at once.
    Freeze {
        node: u16,
        lasts: u64,
    },
    /// The clock of the store jumps by so many microseconds.
    StoreJump {
        by: i64,
    },
    /// An operator changes the policy.
    Patch(PolicyPatch),
}

impl What {
    /// The kind of fault, by its name; `None` for what is no fault.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Visit(_) | Self::Patch(_) => return None,
            Self::Trouble { trouble, .. } => match trouble {
                Trouble::Unanswered => "applied, not answered",
                Trouble::Unheard => "not applied, not answered",
                Trouble::Cut => "cut off, hanging",
                Trouble::Refused => "cut off, refused",
                Trouble::OneWay => "applied, never answered",
                Trouble::Slow => "slow",
                Trouble::Late => "applied long after",
                Trouble::Twice => "written twice",
                Trouble::Shuffled => "feeds out of order",
                Trouble::Deaf => "feeds not readable",
                Trouble::Blind => "rulings not readable",
                Trouble::Belated => "request taken long after",
            },
            Self::Lose { .. } => "failover, tail lost",
            Self::Wipe { .. } => "store wiped",
            Self::Trim { .. } => "feeds trimmed",
            Self::Crash { .. } => "node crashed",
            Self::Drain { .. } => "node drained",
            Self::Jump { .. } => "clock jumped",
            Self::Freeze { .. } => "node frozen",
            Self::StoreJump { .. } => "clock of the store jumped",
        })
    }
}

/// A whole run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub setting: Setting,
    pub ops: Vec<Op>,
    /// New visitors and faults come for so long, in milliseconds.
    pub active: u64,
    /// Everybody is held for a while once all is healed, so that views can be compared.
    pub pauses: bool,
}

/// Faults that one seed knows, each with how many of it come.
struct Swarm {
    faults: Vec<(usize, u32)>,
}

/// Kinds of faults that swarms are made of: troubles, and others.
const KINDS: usize = Trouble::EACH.len() + 7;
/// Kinds that come on top of a swarm: belated requests, frozen nodes, the clock of the store.
const MORE: usize = 3;

impl Swarm {
    fn draw(random: &mut StdRng) -> Self {
        // One in six runs is calm.
        if random.random_bool(0.16) {
            return Self { faults: Vec::new() };
        }
        let share = [0.1, 0.25, 0.5][random.random_range(0..3)];
        let mut faults = Vec::new();
        for kind in 0..KINDS {
            if random.random_bool(share) {
                faults.push((kind, random.random_range(1..5)));
            }
        }
        Self { faults }
    }
}

impl Plan {
    /// The run of a seed.
    pub fn of(seed: u64) -> Self {
        // What came to plans later is drawn apart, so that the plans of other seeds stay as they are.
        let mut more = StdRng::seed_from_u64(seed ^ 0x7368_6172);
        if more.random_bool(0.33) {
            return Self::sharing(seed, &mut more);
        }
        let mut random = StdRng::seed_from_u64(seed ^ 0x7469_6465);
        let nodes = [1, 2, 2, 3, 3, 3, 4, 5, 7][random.random_range(0..9)];
        let partitions = [1, 2, 2, 4][random.random_range(0..4)];
        let swarm = Swarm::draw(&mut random);
        let policy = some_policy(&mut random);
        let off = [0, 5_000, 20_000, 200_000][random.random_range(0..4)];
        let clocks = (0..nodes).map(|_| {
            let fast = random.random_range(-200..=200);
            (random.random_range(-off..=off), fast)
        });
        let clocks = clocks.collect();
        let setting = Setting {
            nodes,
            partitions,
            latency: [0, 0, 2, 12][random.random_range(0..4)],
            journal: if random.random_bool(0.1) { 40 } else { 100_000 },
            clocks,
            seed,
            policy,
        };
        let mut ops = visits(&mut random, &setting, ACTIVE, 110);
        for (kind, count) in &swarm.faults {
            for _ in 0..*count {
                let at = random.random_range(500..ACTIVE);
                let what = fault(&mut random, *kind, &setting, ACTIVE - at);
                ops.push(Op { at, what });
            }
        }
        patches(&mut random, &setting, &mut ops, ACTIVE);
        if !swarm.faults.is_empty() && more.random_bool(0.3) {
            for _ in 0..more.random_range(1..4) {
                let kind = KINDS + more.random_range(0..MORE);
                let at = more.random_range(500..ACTIVE);
                let what = fault(&mut more, kind, &setting, ACTIVE - at);
                ops.push(Op { at, what });
            }
        }
        ops.sort_by_key(|op| op.at);
        Self {
            seed,
            setting,
            ops,
            active: ACTIVE,
            pauses: random.random_bool(0.5),
        }
    }

    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        !self.ops.iter().any(|op| op.what.fault().is_some())
    }

    /// Whether a node is to stand still at times.
    pub fn freezes(&self) -> bool {
        let mut ops = self.ops.iter();
        ops.any(|op| matches!(op.what, What::Freeze { .. }))
    }

    /// Whether nodes go on by themselves when they are cut off.
    pub fn shares(&self) -> bool {
        self.setting.policy.outage == Outage::Share
    }
}

fn some_policy(random: &mut StdRng) -> Policy {
    let seconds = Duration::from_secs;
    let mut of = |choice: [u32; 4]| choice[random.random_range(0..4)];
    Policy {
        rate: f64::from(of([4, 10, 25, 60])),
        burst: of([1, 3, 10, 40]),
        max_active: of([0, 0, 0, 12]),
        ready_ttl: seconds(3),
        late_grace: seconds(10),
        heartbeat_ttl: seconds(9),
        pass_ttl: seconds(4),
        leave_grace: seconds(u64::from(of([2, 4, 4, 6]))),
        max_waiting: of([1_000, 1_000, 1_000, 30]),
        outage: Outage::Hold,
        ..policy()
    }
}

/// Who comes, when, and what they are like.
fn visits(random: &mut StdRng, setting: &Setting, active: u64, most: usize) -> Vec<Op> {
    let rate = setting.policy.rate;
    let load = [0.3, 0.8, 1.5, 3.0][random.random_range(0..4)];
    let count = (rate * load * active as f64 / 1000.0) as usize;
    let count = count.clamp(3, most);
    let burst = random
        .random_bool(0.5)
        .then(|| random.random_range(300..active));
    let odd = [0.0, 0.2, 0.6][random.random_range(0..3)];
    let mut ops = Vec::new();
    for who in 0..count {
        let at = match burst {
            Some(at) if random.random_bool(0.5) => at + random.random_range(0..200),
            _ => random.random_range(300..active),
        };
        let mut key = who;
        // Some come with a key that somebody has used before them.
        if who > 0 && random.random_bool(odd * 0.1) {
            key = random.random_range(0..who);
        }
        let habit = if random.random_bool(odd) {
            Habit::draw(random)
        } else {
            Habit::Waits
        };
        let visit = Visit {
            who,
            key,
            every: random.random_range(300..2_500),
            salt: random.random(),
            twice: random.random_bool(odd * 0.3),
            durable: random.random_bool(odd * 0.3),
            done: random
                .random_bool(0.3)
                .then(|| random.random_range(50..2_500)),
            habit,
        };
        let what = What::Visit(visit);
        ops.push(Op { at, what });
    }
    ops
}

fn some_nodes(random: &mut StdRng, nodes: u16) -> Set {
    match random.random_range(0..4) {
        0 => Set::ALL,
        1 | 2 => Set::one(random.random_range(0..nodes)),
        _ => Set(random.random()),
    }
}

fn some_partitions(random: &mut StdRng, partitions: u16) -> Set {
    match random.random_range(0..3) {
        0 => Set::one(random.random_range(0..partitions)),
        _ => Set::ALL,
    }
}

/// A fault of a kind, over within `left` milliseconds.
fn fault(random: &mut StdRng, kind: usize, setting: &Setting, left: u64) -> What {
    let (nodes, partitions) = (setting.nodes, setting.partitions);
    let node = random.random_range(0..nodes);
    if let Some(trouble) = Trouble::EACH.get(kind) {
        let whole = matches!(
            trouble,
            Trouble::Cut | Trouble::Refused | Trouble::OneWay | Trouble::Shuffled | Trouble::Deaf
        );
        let per_mille = if whole {
            1000
        } else {
            [20, 100, 400][random.random_range(0..3)]
        };
        return What::Trouble {
            trouble: *trouble,
            nodes: some_nodes(random, nodes),
            partitions: some_partitions(random, partitions),
            per_mille,
            lasts: random.random_range(50..7_000).min(left),
        };
    }
    let back = [200, 1_500, 5_000][random.random_range(0..3)];
    match kind - Trouble::EACH.len() {
        0 => What::Lose {
            partitions: some_partitions(random, partitions),
            back: random.random_range(1..3_000),
            down: random.random_range(0..3_000).min(left),
            noticed: [0, 100, 2_000][random.random_range(0..3)],
        },
        1 => What::Wipe {
            down: random.random_range(0..2_000).min(left),
        },
        2 => What::Trim {
            partitions: some_partitions(random, partitions),
            kept: random.random_range(1..5),
        },
        3 => What::Crash {
            node,
            back,
            empty: random.random_bool(0.3),
        },
        4 => What::Drain { node, back },
        5 => What::Jump {
            node,
            by: match random.random_range(0..3) {
                0 => random.random_range(-30_000_000..30_000_000),
                _ => random.random_range(-400_000..400_000),
            },
        },
        6 => What::Crash {
            node,
            back: 20_000,
            empty: false,
        },
        7 => What::Trouble {
            trouble: Trouble::Belated,
            nodes: some_nodes(random, nodes),
            partitions: Set::ALL,
            per_mille: [50, 200, 1000][random.random_range(0..3)],
            lasts: random.random_range(50..7_000).min(left),
        },
        8 => What::Freeze {
            node,
            lasts: [700, 4_000, 15_000][random.random_range(0..3)].min(left),
        },
        _ => What::StoreJump {
            by: match random.random_range(0..3) {
                0 => random.random_range(-5_000_000..20_000_000),
                _ => random.random_range(-400_000..400_000),
            },
        },
    }
}

/// What an operator does meanwhile.
fn patches(random: &mut StdRng, setting: &Setting, ops: &mut Vec<Op>, active: u64) {
    if !random.random_bool(0.25) {
        return;
    }
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(1_000..active);
        let mut patch = PolicyPatch::default();
        match random.random_range(0..4) {
            0 => patch.paused = Some(random.random_bool(0.5)),
            1 => patch.rate = Some(setting.policy.rate * [0.5, 2.0][random.random_range(0..2)]),
            2 => patch.burst = Some(random.random_range(1..30)),
            _ => patch.max_active = Some(random.random_range(4..20)),
        }
        let what = What::Patch(patch);
        ops.push(Op { at, what });
    }
}
