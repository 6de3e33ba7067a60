//! A gate and nodes that go on by themselves when they do not hear it: whatever is lost or late on
//! the way, the pace holds and nobody is called by two.

use std::collections::BTreeMap;

use proptest::prelude::*;

use tidegate::model::gate::{AdvanceRequest, GatePolicy, Home, Presence, SettleRequest, Turn};
use tidegate::model::{Micros, NodeId, TicketId};
use tidegate::store::gate::{Change, Gate};

use super::kit::{POLICY, SECOND, START, event, id};

const NODES: u16 = 3;
const RATE: f64 = 9.0;
/// A node begins so long after its last word.
const BEGINS_AFTER: u64 = 5 * SECOND;
const LIMIT: u64 = 40 * SECOND;
/// Tickets that the gate may call between two words of a node.
const AHEAD: u128 = 60;

fn policy() -> GatePolicy {
    GatePolicy {
        rate: RATE,
        burst: 9,
        ready_ttl: 10_000 * SECOND,
        nodes: NODES,
        share_limit: LIMIT,
        ..POLICY
    }
}

/// What happens to a node's questions for some time.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fair,
    /// They do not arrive.
    Cut,
    /// They arrive, and the answers do not.
    Deaf,
    /// They arrive so many microseconds late, and the answers do not.
    Late(u64),
}

#[derive(Debug, Default)]
struct Node {
    serial: u64,
    version: u64,
    contact: bool,
    said_at: u64,
    heard_at: u64,
    clock: Option<(u64, u64)>,
    horizon: u128,
    /// Its own bucket, in turns, and when it was filled.
    out: Option<(f64, u64)>,
    gave: Vec<Turn>,
}

struct World {
    now: u64,
    gate: Gate,
    nodes: Vec<Node>,
    /// Questions on their way.
    late: Vec<(u64, AdvanceRequest)>,
    called: BTreeMap<TicketId, String>,
    /// All up to this were called.
    front: u128,
    excess: f64,
    last: u64,
}

impl World {
    fn new() -> Self {
        Self {
            now: START,
            gate: Gate::default(),
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            late: Vec::new(),
            called: BTreeMap::new(),
            front: 0,
            excess: 0.0,
            last: START,
        }
    }

    fn give(&mut self, ticket: TicketId, by: String) -> Result<(), TestCaseError> {
        let at = (self.now - START) as f64 / 1e6;
        let by = format!("{by} at {at:.2}");
        if let Some(other) = self.called.insert(ticket, by.clone()) {
            prop_assert!(false, "{ticket} was called by {other} and by {by}");
        }
        while self.called.contains_key(&id(self.front + 1)) {
            self.front += 1;
        }
        let paid = RATE * (self.now - self.last) as f64 / 1e6;
        self.excess = (self.excess - paid).max(0.0) + 1.0;
        self.last = self.now;
        let burst = f64::from(policy().burst);
        prop_assert!(self.excess <= burst + 1e-3, "{} ahead, {by}", self.excess);
        Ok(())
    }

    fn at_gate(
        &mut self,
        request: &AdvanceRequest,
    ) -> Result<tidegate::model::gate::Advanced, TestCaseError> {
        let mut changes = Vec::new();
        let answer = self.gate.advance(Micros(self.now), request, &mut changes);
        for change in changes {
            if let Change::Called(ticket, Some(_)) = change {
                self.give(ticket, format!("the gate, asked by {}", request.node.0))?;
            }
        }
        Ok(answer)
    }

    /// The first whom nobody has called, as a node that hears of everything knows; the others know
    /// less, and that is for the horizon to make good.
    fn next(&self, own: Option<u16>, after: u128, count: usize) -> Vec<u128> {
        (after.max(self.front) + 1..)
            .filter(|number| own.is_none_or(|node| number % u128::from(NODES) == u128::from(node)))
            .filter(|number| !self.called.contains_key(&id(*number)))
            .take(count)
            .collect()
    }

    fn ask(&mut self, number: u16, weather: Weather) -> Result<(), TestCaseError> {
        let front = self.next(None, 0, 1)[0];
        let candidates = self.next(None, 0, 40);
        let now = self.now;
        let node = &mut self.nodes[usize::from(number)];
        node.serial += 1;
        let tells = node.contact && node.out.is_none() && !node.gave.is_empty();
        let presence = match node.clock {
            Some((theirs, ours)) if node.contact => {
                node.horizon = node.horizon.max(front + AHEAD);
                node.said_at = now;
                Presence::Here {
                    sent_at: Micros(theirs + (now - ours)),
                    horizon: Micros(node.horizon as u64),
                }
            }
            _ => Presence::Quiet,
        };
        let request = AdvanceRequest {
            event: event("e"),
            node: NodeId(number),
            serial: node.serial,
            policy: policy(),
            version: node.version,
            homes: candidates
                .iter()
                .map(|number| Home {
                    node: NodeId((number % u128::from(NODES)) as u16),
                    arrival: Micros(*number as u64),
                })
                .collect(),
            candidates: candidates.into_iter().map(id).collect(),
            presence,
            given_back: vec![],
            claims: vec![],
            lease_held: 0,
            lease_wanted: 0,
        };
        match weather {
            Weather::Cut => self.nodes[usize::from(number)].contact = false,
            Weather::Late(by) => {
                self.late.push((now + by, request));
                self.nodes[usize::from(number)].contact = false;
            }
            Weather::Deaf => {
                self.at_gate(&request)?;
                self.nodes[usize::from(number)].contact = false;
            }
            Weather::Fair => {
                if tells {
                    let called = std::mem::take(&mut self.nodes[usize::from(number)].gave);
                    let told = SettleRequest {
                        event: event("e"),
                        node: NodeId(number),
                        policy: policy(),
                        version: request.version,
                        called,
                        entered: vec![],
                        shared: true,
                    };
                    self.gate.settle(Micros(now), &told, &mut Vec::new());
                }
                let answer = self.at_gate(&request)?;
                let node = &mut self.nodes[usize::from(number)];
                (node.contact, node.out) = (true, None);
                node.version = answer.version;
                node.clock = Some((answer.now.0, now));
                if answer.heard {
                    node.heard_at = now;
                }
            }
        }
        Ok(())
    }

    fn share(&mut self, number: u16) -> Result<(), TestCaseError> {
        let now = self.now;
        let node = &mut self.nodes[usize::from(number)];
        if node.contact || node.heard_at == 0 || now < node.said_at + BEGINS_AFTER {
            return Ok(());
        }
        if now >= node.heard_at + LIMIT {
            node.out = None;
            return Ok(());
        }
        let (mut level, filled_at) = node.out.unwrap_or((0.0, now));
        let saved = policy().share_saved(NODES) as f64 / 1e6;
        let each = RATE / f64::from(NODES);
        level = (level + each * (now - filled_at) as f64 / 1e6).min(saved);
        node.out = Some((level.fract(), now));
        let after = node.horizon;
        for ticket in self.next(Some(number), after, level as usize) {
            let until = Micros(now + policy().ready_ttl);
            self.give(id(ticket), format!("node {number}"))?;
            self.nodes[usize::from(number)].gave.push(Turn {
                id: id(ticket),
                until,
            });
        }
        Ok(())
    }

    fn pass(&mut self, weather: &[Weather]) -> Result<(), TestCaseError> {
        let now = self.now;
        let all = self.late.drain(..);
        let (due, rest): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= now);
        self.late = rest;
        for (_, request) in due {
            self.at_gate(&request)?;
        }
        for number in 0..NODES {
            self.share(number)?;
            self.ask(number, weather[usize::from(number)])?;
        }
        Ok(())
    }
}

fn weathers() -> impl Strategy<Value = Vec<(u64, Vec<Weather>)>> {
    let one = prop_oneof![
        4 => Just(Weather::Fair),
        2 => Just(Weather::Cut),
        1 => Just(Weather::Deaf),
        1 => (0..25 * SECOND).prop_map(Weather::Late),
    ];
    let all = prop::collection::vec(one, usize::from(NODES));
    prop::collection::vec((1..30_u64, all), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nodes_that_come_and_go_keep_the_pace_and_call_nobody_twice(weathers in weathers()) {
        let mut world = World::new();
        for (seconds, weather) in weathers {
            let end = world.now + seconds * SECOND;
            while world.now < end {
                world.now += 230_000;
                world.pass(&weather)?;
            }
        }
        // With all well again, the whole rate is given.
        for _ in 0..40 {
            world.now += 230_000;
            world.pass(&[Weather::Fair; 3])?;
        }
        let before = world.called.len();
        for _ in 0..100 {
            world.now += 230_000;
            world.pass(&[Weather::Fair; 3])?;
        }
        let given = world.called.len() - before;
        let paid = RATE * 23.0;
        prop_assert!((given as f64 - paid).abs() <= 10.0, "{given} turns of {paid}");
    }
}
