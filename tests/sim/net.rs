//! What lies between nodes and the store: how long a call takes, whether it arrives, whether its
//! answer comes back.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A set of small numbers: nodes, or partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Set(pub u32);

impl Set {
    pub const ALL: Self = Self(u32::MAX);

    pub fn one(number: u16) -> Self {
        Self(1 << number)
    }

    pub fn has(self, number: u16) -> bool {
        self.0 & 1 << number != 0
    }
}

/// What may be wrong between nodes and the store for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Applied, and the answer lost.
    Unanswered,
    /// Not applied, and no answer.
    Unheard,
    /// Nothing arrives, and callers wait for it in vain.
    Cut,
    /// Nothing arrives, and callers are told so at once.
    Refused,
    /// All is applied and never answered.
    OneWay,
    /// Arrives late, is answered late, within what callers wait for.
    Slow,
    /// Applied many seconds after its caller gave up.
    Late,
    /// Written twice.
    Twice,
    /// Readings of feeds come in another order, and some of it twice.
    Shuffled,
    /// Feeds cannot be read, and all else goes on.
    Deaf,
    /// What operators rule cannot be read, and all else goes on.
    Blind,
    /// What visitors ask a node is taken many seconds after they gave up.
    Belated,
}

impl Trouble {
    /// Those of which swarms are made.
    pub const EACH: [Self; 11] = [
        Self::Unanswered,
        Self::Unheard,
        Self::Cut,
        Self::Refused,
        Self::OneWay,
        Self::Slow,
        Self::Late,
        Self::Twice,
        Self::Shuffled,
        Self::Deaf,
        Self::Blind,
    ];
}

/// One trouble in force.
#[derive(Debug, Clone, Copy)]
pub struct Active {
    pub trouble: Trouble,
    pub nodes: Set,
    pub partitions: Set,
    /// How many calls of a thousand it strikes.
    pub per_mille: u32,
    /// Until when, in milliseconds.
    pub until: u64,
}

/// What becomes of one call. Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Takes so long to arrive; `None`: never does.
    pub there: Option<u64>,
    /// The answer takes so long; `None`: never comes.
    pub back: Option<u64>,
    /// Its caller is told that it failed after this long.
    pub patience: u64,
    pub writes: bool,
    pub twice: bool,
    pub shuffled: bool,
}

/// What callers wait for an answer before the client library gives up, in milliseconds.
const PATIENCE: u64 = 1_500;

pub struct Net {
    random: StdRng,
    pub active: Vec<Active>,
    /// A call takes up to this long each way, in milliseconds.
    pub latency: u64,
    /// Calls that a trouble struck, by trouble.
    pub struck: BTreeMap<Trouble, u64>,
}

impl Net {
    pub fn new(seed: u64, latency: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            active: Vec::new(),
            latency,
            struck: BTreeMap::new(),
        }
    }

    /// Ends what is over.
    pub fn heal(&mut self, now: u64) {
        self.active.retain(|active| active.until > now);
    }

    /// Whether a node cannot read what operators rule.
    pub fn is_blind(&mut self, now: u64, node: u16) -> bool {
        let blind = self.active.iter().any(|active| {
            active.trouble == Trouble::Blind && active.until > now && active.nodes.has(node)
        });
        if blind {
            *self.struck.entry(Trouble::Blind).or_default() += 1;
        }
        blind
    }

    /// By how much a visitor's request to a node is belated, if it is, in milliseconds.
    pub fn belated(&mut self, now: u64, node: u16) -> Option<u64> {
        for at in 0..self.active.len() {
            let active = self.active[at];
            let near = active.trouble == Trouble::Belated && active.until > now;
            if near
                && active.nodes.has(node)
                && self.random.random_range(0..1000) < active.per_mille
            {
                *self.struck.entry(Trouble::Belated).or_default() += 1;
                return Some(self.random.random_range(3_000..20_000));
            }
        }
        None
    }

    /// Whether a node hears nothing of a partition.
    pub fn is_cut(&self, now: u64, node: u16, partition: u16) -> bool {
        self.active.iter().any(|active| {
            let severed = matches!(
                active.trouble,
                Trouble::Cut | Trouble::Refused | Trouble::OneWay | Trouble::Deaf
            );
            severed
                && active.until > now
                && active.nodes.has(node)
                && active.partitions.has(partition)
        })
    }

    /// What becomes of a call; `reads` is whether it changes nothing.
    pub fn fate(&mut self, now: u64, node: u16, partition: u16, reads: bool) -> Fate {
        let (mut there, mut back) = (0, 0);
        if self.latency > 0 {
            there = self.random.random_range(0..=self.latency) / 2;
            back = self.random.random_range(0..=self.latency);
        }
        let mut fate = Fate {
            there: Some(there),
            back: Some(back),
            patience: PATIENCE,
            writes: !reads,
            twice: false,
            shuffled: false,
        };
        for at in 0..self.active.len() {
            let Active {
                trouble,
                nodes,
                partitions,
                per_mille,
                until,
            } = self.active[at];
            let concerned = match trouble {
                Trouble::Shuffled | Trouble::Deaf => reads,
                Trouble::Blind | Trouble::Belated => false,
                Trouble::Unanswered | Trouble::Unheard | Trouble::Late | Trouble::Twice => !reads,
                _ => true,
            };
            let near = until > now && nodes.has(node) && partitions.has(partition);
            if !(concerned && near) || self.random.random_range(0..1000) >= per_mille {
                continue;
            }
            *self.struck.entry(trouble).or_default() += 1;
            match trouble {
                Trouble::Unanswered | Trouble::OneWay => fate.back = None,
                Trouble::Unheard | Trouble::Cut | Trouble::Deaf => fate.there = None,
                Trouble::Refused => (fate.there, fate.patience) = (None, 2),
                Trouble::Slow => {
                    let millis = self.random.random_range(20..900);
                    fate.there = fate.there.map(|there| there + millis / 3);
                    fate.back = fate.back.map(|back| back + millis);
                }
                Trouble::Late => {
                    let millis = self.random.random_range(2_000..20_000);
                    fate.there = fate.there.map(|there| there + millis);
                    fate.back = None;
                }
                Trouble::Twice => fate.twice = true,
                Trouble::Shuffled => fate.shuffled = true,
                Trouble::Blind | Trouble::Belated => {}
            }
        }
        fate
    }

    /// A number below `end`, for whatever else is left to chance.
    pub fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end.max(1))
    }
}
