//! What befalls the fleet and when, all drawn from one seed.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::super::faults::{
    Fault, all_frozen, all_killed, connections_cut, master_frozen, master_killed, master_paused,
    node_cut, node_frozen, node_killed, node_stopped, replica_killed, slots_move, wiped,
};
use crate::kit::cluster::Cluster;
use crate::kit::links::{Links, Way};
use crate::kit::server::Server;
use crate::live::nodes::Fleet;
use crate::sale::Sale;

/// Every so many rounds two things happen at once.
const PAIR_EVERY: usize = 4;
/// Between two rounds, in milliseconds.
const REST_MS: RangeInclusive<u64> = 1_500..=3_000;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    NodeKilled,
    NodeStopped,
    NodeFrozen,
    NodeCut,
    NodeDeaf,
    NodeSlow,
    MasterKilled,
    MasterFrozen,
    MasterPaused,
    ReplicaKilled,
    AllKilled,
    AllFrozen,
    Wiped,
    ConnectionsCut,
    SlotsMove,
}

use Kind::*;

const KINDS: [Kind; 15] = [
    NodeKilled,
    NodeStopped,
    NodeFrozen,
    NodeCut,
    NodeDeaf,
    NodeSlow,
    MasterKilled,
    MasterFrozen,
    MasterPaused,
    ReplicaKilled,
    AllKilled,
    AllFrozen,
    Wiped,
    ConnectionsCut,
    SlotsMove,
];

/// What may happen together: the first to nodes, the second to servers. A node that is killed while
/// nothing can be written takes more along than its last moment, so it is killed beside nothing but
/// a replica.
const PAIRS: [(Kind, Kind); 10] = [
    (NodeKilled, ReplicaKilled),
    (NodeStopped, ConnectionsCut),
    (NodeStopped, MasterPaused),
    (NodeStopped, SlotsMove),
    (NodeFrozen, ReplicaKilled),
    (NodeFrozen, ConnectionsCut),
    (NodeFrozen, MasterFrozen),
    (NodeFrozen, SlotsMove),
    (NodeCut, ReplicaKilled),
    (NodeCut, ConnectionsCut),
];

impl Kind {
    fn is_of_nodes(self) -> bool {
        self <= NodeSlow
    }

    /// How long it may last, in seconds.
    fn lasts(self) -> RangeInclusive<u64> {
        match self {
            NodeKilled => 2..=6,
            NodeStopped | ReplicaKilled => 2..=4,
            NodeFrozen => 5..=12,
            NodeCut | NodeDeaf => 6..=12,
            NodeSlow => 4..=7,
            MasterKilled | MasterPaused => 1..=3,
            MasterFrozen => 3..=9,
            AllKilled => 2..=6,
            AllFrozen => 3..=8,
            Wiped => 0..=0,
            ConnectionsCut => 3..=5,
            SlotsMove => 1..=1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NodeKilled => "kill -9 of a node",
            NodeStopped => "SIGTERM of a node",
            NodeFrozen => "SIGSTOP of a node",
            NodeCut => "node cut from Redis",
            NodeDeaf => "node without answers",
            NodeSlow => "node 150 ms from Redis",
            MasterKilled => "kill -9 of a master",
            MasterFrozen => "SIGSTOP of a master",
            MasterPaused => "CLIENT PAUSE of masters",
            ReplicaKilled => "kill -9 of a replica",
            AllKilled => "kill -9 of all Redis",
            AllFrozen => "SIGSTOP of all Redis",
            Wiped => "FLUSHALL",
            ConnectionsCut => "CLIENT KILL storm",
            SlotsMove => "slots move",
        })
    }
}

/// One of them, to one of those it can happen to.
#[derive(Debug, Clone, Copy)]
pub struct Planned {
    pub kind: Kind,
    which: usize,
    seconds: u64,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {} s)", self.kind, self.which, self.seconds)
    }
}

/// What happens at the same time, after a rest.
pub struct Round {
    pub rest: Duration,
    pub faults: Vec<Planned>,
}

/// As many rounds as one wants: every kind comes as often as any other, in no order.
pub fn rounds(seed: u64) -> impl Iterator<Item = Round> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut kinds, mut pairs) = (Vec::new(), Vec::new());
    (1..).map(move |n: usize| {
        let drawn = if n.is_multiple_of(PAIR_EVERY) {
            let (a, b) = next(&mut pairs, &PAIRS, &mut rng);
            vec![a, b]
        } else {
            vec![next(&mut kinds, &KINDS, &mut rng)]
        };
        let planned = drawn.into_iter().map(|kind| Planned {
            kind,
            which: rng.random_range(0..3),
            seconds: rng.random_range(kind.lasts()),
        });
        let faults = planned.collect();
        Round {
            rest: Duration::from_millis(rng.random_range(REST_MS)),
            faults,
        }
    })
}

/// The next one out of a bag, which is filled again when it is empty.
fn next<T: Copy>(bag: &mut Vec<T>, all: &[T], rng: &mut StdRng) -> T {
    if bag.is_empty() {
        bag.extend_from_slice(all);
        bag.shuffle(rng);
    }
    bag.pop().expect("it was filled")
}

impl Round {
    /// Has it happen: to nodes and to servers at the same time.
    pub async fn happen(&self, fleet: &mut Fleet, sale: &Sale) -> Vec<Fault> {
        let Fleet {
            nodes,
            links,
            cluster,
            ..
        } = fleet;
        let links = links.as_ref().expect("the fleet has links");
        let (of_nodes, of_servers): (Vec<&Planned>, Vec<&Planned>) = self
            .faults
            .iter()
            .partition(|fault| fault.kind.is_of_nodes());
        let befallen_nodes = async {
            let mut faults = Vec::new();
            for planned in of_nodes {
                faults.push(planned.befall_node(nodes, links, sale).await);
            }
            faults
        };
        let befallen_servers = async {
            let mut faults = Vec::new();
            for planned in of_servers {
                faults.push(planned.befall_servers(cluster, sale).await);
            }
            faults
        };
        let (mut faults, others) = tokio::join!(befallen_nodes, befallen_servers);
        faults.extend(others);
        faults
    }

    /// What it is called in a table.
    pub fn name(&self) -> String {
        let names = self.faults.iter().map(|fault| fault.kind.to_string());
        names.collect::<Vec<_>>().join(" + ")
    }
}

impl Planned {
    async fn befall_node(&self, nodes: &mut [Server], links: &Links, sale: &Sale) -> Fault {
        let Self { which, seconds, .. } = *self;
        let way = match self.kind {
            NodeKilled => return node_killed::happen(nodes, sale, which, seconds).await,
            NodeStopped => return node_stopped::happen(nodes, sale, which, seconds).await,
            NodeFrozen => return node_frozen::happen(nodes, sale, which, seconds).await,
            NodeDeaf => Way::Deaf,
            NodeSlow => Way::Slow,
            _ => Way::Cut,
        };
        node_cut::happen(links, nodes.len(), way, sale, which, seconds).await
    }

    async fn befall_servers(&self, cluster: &mut Cluster, sale: &Sale) -> Fault {
        let Self { which, seconds, .. } = *self;
        match self.kind {
            MasterKilled => master_killed::happen(cluster, sale, which, seconds).await,
            MasterFrozen => master_frozen::happen(cluster, sale, which, seconds).await,
            MasterPaused => master_paused::happen(cluster, sale, seconds).await,
            ReplicaKilled => replica_killed::happen(cluster, sale, which, seconds).await,
            AllKilled => all_killed::happen(cluster, sale, seconds).await,
            AllFrozen => all_frozen::happen(cluster, sale, seconds).await,
            ConnectionsCut => connections_cut::happen(cluster, sale, seconds).await,
            SlotsMove => slots_move::happen(cluster, sale, seconds).await,
            _ => wiped::happen(cluster, sale).await,
        }
    }
}

#[test]
fn a_seed_draws_the_same_again_and_all_kinds() {
    let told = |seed| -> Vec<String> {
        let told = rounds(seed).take(20).flat_map(|round| round.faults);
        told.map(|fault| fault.to_string()).collect()
    };
    assert_eq!(told(1), told(1));
    assert_ne!(told(1), told(2));
    let drawn: Vec<_> = rounds(1).take(20).flat_map(|round| round.faults).collect();
    let missing = |kind: &&Kind| !drawn.iter().any(|fault| fault.kind == **kind);
    assert_eq!(KINDS.iter().find(missing), None);
}
