//! A day: visitors, faults, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use rand::RngExt;

use tidegate::model::token::{self, TicketKeys};
use tidegate::model::{Kind, Micros, Policy, PolicyPatch, TicketId, TicketKey};
use tidegate::room::answer::{EnterRefusal, Phase, TokenRefusal};

use super::nodes::{Fleet, STEP, sale};
use super::store::PARTITIONS;

/// Clocks of nodes are this far off at most, in microseconds.
const SKEW: i64 = 20_000;
/// How far two nodes' views are apart at most when nothing is wrong: flush, reading, a little.
const LAG: Duration = Duration::from_millis(100);

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub lost: bool,
    pub slow: bool,
    pub crashes: bool,
    pub cuts: bool,
    /// The store falls back by up to most of a second.
    pub losses: bool,
    /// Now and then no node reaches the store.
    pub outages: bool,
    /// Nodes are away for so long that they go on by themselves; some only do not hear the store.
    pub long: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        lost: false,
        slow: false,
        crashes: false,
        cuts: false,
        losses: false,
        outages: false,
        long: false,
    };

    fn none(self) -> bool {
        !(self.lost || self.slow || self.crashes || self.cuts || self.losses || self.outages)
    }
}

#[derive(Debug)]
struct Visitor {
    key: TicketKey,
    token: String,
    joined: Micros,
    next_poll: Micros,
    last_poll: Micros,
    every: Duration,
    /// The place last shown, and when.
    shown: Option<(u64, Micros)>,
    /// Does not enter when ready.
    shy: bool,
    /// Polls no more from then on.
    silent_from: Option<Micros>,
    /// Said goodbye softly once.
    wavered: bool,
    passes: BTreeSet<String>,
    ready_once: bool,
    over: bool,
    left: bool,
}

pub struct Day {
    fleet: Fleet,
    faults: Faults,
    visitors: Vec<Visitor>,
    keys: TicketKeys,
    broken: Vec<String>,
    arrivals: f64,
    /// Nodes that are down or cut off, until when.
    troubled: BTreeMap<u16, Micros>,
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.fleet.policy;
        write!(
            f,
            "{} nodes, rate {}, burst {}, cap {}, {} visitors, {:?}",
            self.fleet.nodes.len(),
            p.rate,
            p.burst,
            p.max_active,
            self.visitors.len(),
            self.faults
        )
    }
}

impl Day {
    pub fn new(seed: u64, faults: Faults, policy: Policy) -> Self {
        let size = 2 + (seed % 4) as u16;
        let arrivals = policy.rate * [0.5, 1.5, 3.0][seed as usize % 3];
        let mut fleet = Fleet::new(size, policy, seed);
        for number in 0..size {
            let skew = fleet.random.random_range(-SKEW..=SKEW);
            fleet.start(number, skew);
        }
        if faults.lost {
            fleet.lost_per_mille = 50;
        }
        let key = vec![("k1".to_owned(), [7; 32])];
        Self {
            fleet,
            faults,
            visitors: Vec::new(),
            keys: TicketKeys::new("k1", &key).unwrap(),
            broken: Vec::new(),
            arrivals,
            troubled: BTreeMap::new(),
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.fleet.now.after(time);
        while self.fleet.now < end && self.broken.is_empty() {
            self.fleet.pass(STEP);
            self.trouble();
            let mean = self.arrivals * STEP.as_secs_f64();
            while self.fleet.random.random_bool(mean / (1.0 + mean)) {
                self.arrive();
            }
            for n in 0..self.visitors.len() {
                if !self.visitors[n].over && self.visitors[n].next_poll <= self.fleet.now {
                    self.visit(n);
                }
            }
        }
        self.rest();
    }

    fn any_node(&mut self) -> u16 {
        loop {
            let number = self.fleet.random.random_range(0..self.fleet.nodes.len());
            if self.fleet.nodes[number].is_some() {
                return number as u16;
            }
        }
    }

    fn trouble(&mut self) {
        let now = self.fleet.now;
        let over: Vec<_> = self
            .troubled
            .iter()
            .filter(|(_, until)| **until <= now)
            .collect();
        for number in over
            .into_iter()
            .map(|(number, _)| *number)
            .collect::<Vec<_>>()
        {
            self.troubled.remove(&number);
            match &mut self.fleet.nodes[usize::from(number)] {
                Some(node) => {
                    node.cut = false;
                    node.deaf = false;
                    node.delay = Duration::ZERO;
                }
                None => {
                    let skew = self.fleet.random.random_range(-SKEW..=SKEW);
                    self.fleet.start(number, skew);
                }
            }
        }
        if self.faults.outages && self.troubled.is_empty() && self.fleet.random.random_bool(0.003) {
            let longest = if self.faults.long { 40_000 } else { 7_000 };
            let millis = self.fleet.random.random_range(100..longest);
            for number in 0..self.fleet.nodes.len() as u16 {
                self.fleet.node_mut(number).cut = true;
                let until = now.after(Duration::from_millis(millis));
                self.troubled.insert(number, until);
            }
        }
        if self.faults.losses && self.fleet.random.random_bool(0.002) {
            let micros = self.fleet.random.random_range(0..800_000);
            self.fleet.store.lose_after(Micros(now.0 - micros));
        }
        let kinds = [self.faults.slow, self.faults.crashes, self.faults.cuts];
        // Every few seconds, and never all nodes at once.
        if !self.fleet.random.random_bool(0.004)
            || self.troubled.len() + 1 >= self.fleet.nodes.len()
        {
            return;
        }
        let kind = self.fleet.random.random_range(0..3);
        let number = self.any_node();
        if !kinds[kind] || self.troubled.contains_key(&number) {
            return;
        }
        let longest = if self.faults.long { 40_000 } else { 9_000 };
        let millis = self.fleet.random.random_range(100..longest);
        self.troubled
            .insert(number, now.after(Duration::from_millis(millis)));
        let delay = Duration::from_millis(self.fleet.random.random_range(50..900));
        match kind {
            0 => self.fleet.node_mut(number).delay = delay,
            1 => self.fleet.nodes[usize::from(number)] = None,
            _ if self.faults.long && self.fleet.random.random_bool(0.3) => {
                self.fleet.node_mut(number).deaf = true;
            }
            _ => self.fleet.node_mut(number).cut = true,
        }
    }

    fn arrive(&mut self) {
        let number = self.any_node();
        let name = format!("visitor {}", self.visitors.len());
        let joined = self.fleet.join_with(number, "sale", Some(&name));
        let mut buffer = token::buffer();
        let claims = self
            .keys
            .verify(&joined.token, &mut buffer)
            .expect("our own");
        let now = self.fleet.now;
        let every = Duration::from_millis(self.fleet.random.random_range(300..2_500));
        let silent = self.fleet.random.random_bool(0.05);
        let silent_after = Duration::from_millis(self.fleet.random.random_range(0..9_000));
        self.visitors.push(Visitor {
            key: TicketKey {
                arrival: claims.arrival,
                id: claims.id,
            },
            token: joined.token.clone(),
            joined: now,
            next_poll: if joined.standing.ready {
                now
            } else {
                now.after(every)
            },
            last_poll: now,
            every,
            shown: Some((joined.standing.position, now)),
            shy: self.fleet.random.random_bool(0.1),
            silent_from: silent.then(|| now.after(silent_after)),
            wavered: false,
            passes: BTreeSet::new(),
            ready_once: joined.standing.ready,
            over: false,
            left: false,
        });
    }

    fn wrong(&mut self, n: usize, number: u16, what: &str) {
        let visitor = &self.visitors[n];
        let since = |at: Micros| at.since(super::super::room::house::START).as_secs_f64();
        self.broken.push(format!(
            "{what}\n  at {:.3} on node {number}: visitor {n}, {:?}, joined {:.3}, last poll {:.3}, shown {:?}",
            since(self.fleet.now),
            visitor.key,
            since(visitor.joined),
            since(visitor.last_poll),
            visitor.shown.map(|(place, at)| (place, since(at))),
        ));
        let story = self.fleet.store.story(&visitor.key.id);
        if let Some(broken) = self.broken.last_mut() {
            *broken = format!("{broken}\n  {story}");
        }
    }

    fn visit(&mut self, n: usize) {
        let now = self.fleet.now;
        if self.visitors[n].silent_from.is_some_and(|from| from <= now) {
            self.visitors[n].over = true;
            return;
        }
        let number = self.any_node();
        let token = self.visitors[n].token.clone();
        self.visitors[n].next_poll = now.after(self.visitors[n].every);
        match self.fleet.status(number, &token) {
            Ok(standing) => {
                self.visitors[n].last_poll = now;
                if standing.phase == Phase::Entered {
                    if !self.fleet.granted.contains_key(&self.visitors[n].key.id) {
                        self.wrong(n, number, "I2: entered, it is said, and never did");
                    }
                    self.visitors[n].over = true;
                } else if standing.ready {
                    self.visitors[n].ready_once = true;
                    self.visitors[n].shown = None;
                    self.maybe_enter(n, number);
                } else {
                    self.waits(n, number, standing.position);
                }
            }
            Err(refused) => self.refused(n, number, refused),
        }
    }

    fn waits(&mut self, n: usize, number: u16, position: u64) {
        let now = self.fleet.now;
        let visitor = &self.visitors[n];
        let rose = visitor
            .shown
            .is_some_and(|(place, at)| position > place && place > 0 && now.since(at) > LAG);
        // After a fault a recovery is declared: answers of nodes that were apart differ.
        if rose
            && (self.faults.none()
                || self.faults.lost
                    && !self.faults.slow
                    && !self.faults.crashes
                    && !self.faults.losses
                    && !self.faults.outages)
        {
            self.wrong(n, number, &format!("I5: the place rose to {position}"));
        }
        self.visitors[n].shown = Some((position, now));
        let whim = self.fleet.random.random_range(0..1_000);
        let (node, token) = (self.fleet.node(number), self.visitors[n].token.clone());
        if whim < 15 {
            node.room.leave(node.now(now), &token);
            self.visitors[n].over = true;
            self.visitors[n].left = true;
        } else if whim < 40 {
            // A page refreshed: the beacon, and a poll elsewhere within the grace.
            node.room.leave_softly(node.now(now), &token);
            self.visitors[n].wavered = true;
            let back = self.fleet.random.random_range(50..1_000);
            self.visitors[n].next_poll = now.after(Duration::from_millis(back));
        }
    }

    fn maybe_enter(&mut self, n: usize, number: u16) {
        let now = self.fleet.now;
        if self.visitors[n].shy {
            self.visitors[n].over = true;
            return;
        }
        let number = if self.fleet.random.random_bool(0.5) {
            self.any_node()
        } else {
            number
        };
        let token = self.visitors[n].token.clone();
        self.visitors[n].last_poll = now;
        match self.fleet.enter(number, &token) {
            Ok(admission) => {
                self.visitors[n].passes.insert(admission.pass);
                if self.visitors[n].passes.len() > 1 {
                    self.wrong(n, number, "I2: two passes");
                }
                // One more try now and then: the same pass.
                self.visitors[n].over = self.fleet.random.random_bool(0.8);
                self.visitors[n].next_poll = now.after(Duration::from_millis(200));
            }
            Err(EnterRefusal::Unavailable { .. } | EnterRefusal::NotReady { .. }) => {
                self.visitors[n].next_poll = now.after(Duration::from_millis(300));
            }
            Err(EnterRefusal::Token(_)) => self.visitors[n].over = true,
            Err(other) => self.wrong(n, number, &format!("enter: {other}")),
        }
    }

    fn refused(&mut self, n: usize, number: u16, refused: TokenRefusal) {
        let visitor = &self.visitors[n];
        let policy = &self.fleet.policy;
        let silent = self.fleet.now.since(visitor.last_poll);
        self.visitors[n].over = true;
        let visitor = &self.visitors[n];
        // A beacon is ended after its grace; a missed turn after the late grace.
        let goodbye = visitor.wavered && silent >= policy.leave_grace - LAG;
        let missed = visitor.ready_once && silent >= policy.late_grace;
        if visitor.left || goodbye || missed || silent >= policy.heartbeat_ttl {
            return;
        }
        self.wrong(n, number, &format!("I1: {refused}"));
    }

    /// The end of the day: all is healed, nobody comes or goes.
    fn rest(&mut self) {
        self.fleet.lost_per_mille = 0;
        for number in self.troubled.keys().copied().collect::<Vec<_>>() {
            self.troubled.insert(number, Micros(0));
        }
        self.faults = Faults { ..self.faults };
        let faults = std::mem::replace(&mut self.faults, Faults::NONE);
        self.trouble();
        let patch: PolicyPatch = serde_json::from_str(r#"{"paused": true}"#).unwrap();
        for node in self.fleet.nodes.iter().flatten() {
            let now = node.now(self.fleet.now);
            node.room
                .set_patch(now, &sale(), Some(patch.clone()))
                .unwrap();
        }
        self.fleet.pass(Duration::from_secs(2));
        // What a goodbye or a silence ended just now is still on its way to the others.
        let (mut quiet, mut steps) = (0, 0);
        while quiet < 3 && steps < 200 {
            self.fleet.pass(STEP);
            let mut nodes = self.fleet.nodes.iter().flatten();
            quiet = if nodes.all(|n| n.journal.depth() == 0) {
                quiet + 1
            } else {
                0
            };
            steps += 1;
        }
        self.faults = faults;
    }

    /// What must hold of the whole day.
    pub fn check(&self) -> Result<(), String> {
        if let Some(broken) = self.broken.first() {
            return Err(broken.clone());
        }
        self.check_once()?;
        self.check_pace()?;
        if self.faults.long && !self.faults.losses {
            self.check_calls()?;
        }
        if self.faults.none() {
            self.check_order()?;
            self.check_use()?;
        }
        self.check_agreement()
    }

    fn check_once(&self) -> Result<(), String> {
        let twice = self.fleet.granted.iter().find(|(_, times)| times.len() > 1);
        twice.map_or(Ok(()), |(id, times)| {
            Err(format!("I2: {id} entered at {times:?}"))
        })
    }

    /// No turn is given to who has one, by whomever.
    fn check_calls(&self) -> Result<(), String> {
        let mut open: BTreeMap<TicketId, Micros> = BTreeMap::new();
        for (at, _, id, given) in &self.fleet.store.turns {
            let before = open.remove(id);
            if *given {
                open.insert(*id, *at);
            }
            if let Some(before) = before.filter(|_| *given) {
                let story = self.fleet.store.story(id);
                return Err(format!(
                    "I2: {id} was called at {before:?} and {at:?}\n  {story}"
                ));
            }
        }
        Ok(())
    }

    /// Turns given minus turns given back, in any window.
    fn check_pace(&self) -> Result<(), String> {
        let (rate, burst) = (self.fleet.policy.rate, f64::from(self.fleet.policy.burst));
        let (mut excess, mut last) = (0.0f64, super::super::room::house::START);
        for (at, _, id, given) in &self.fleet.store.turns {
            excess = (excess - rate * at.since(last).as_secs_f64()).max(0.0);
            last = *at;
            excess = if *given {
                excess + 1.0
            } else {
                (excess - 1.0).max(0.0)
            };
            if excess > burst + 1e-3 {
                return Err(format!(
                    "I3: {excess} turns ahead of the pace with {id} at {at:?}"
                ));
            }
        }
        Ok(())
    }

    /// Nobody is called while somebody who came clearly earlier waits.
    fn check_order(&self) -> Result<(), String> {
        let mut first_call: BTreeMap<TicketId, Micros> = BTreeMap::new();
        for (at, _, id, given) in &self.fleet.store.turns {
            if *given {
                first_call.entry(*id).or_insert(*at);
            }
        }
        let slack = Duration::from_micros(2 * SKEW as u64) + LAG;
        for late in &self.visitors {
            let Some(called) = first_call.get(&late.key.id) else {
                continue;
            };
            // Ready in the join's own answer: nobody waited then.
            let earlier = self.visitors.iter().filter(|early| {
                early.key.arrival.after(slack) < late.key.arrival
                    && early.silent_from.is_none()
                    && !early.wavered
                    && !early.left
                    && !early.ready_once
            });
            for early in earlier {
                if first_call.get(&early.key.id).is_none_or(|at| at > called) {
                    return Err(format!(
                        "I4: {:?} was called before {:?}",
                        late.key, early.key
                    ));
                }
            }
        }
        Ok(())
    }

    /// While people wait, the rate is used.
    fn check_use(&self) -> Result<(), String> {
        let policy = &self.fleet.policy;
        // Steps of this world are too long for some.
        let too_fine = f64::from(policy.burst) < policy.rate * 5.0 * STEP.as_secs_f64();
        if policy.max_active > 0 || self.arrivals < policy.rate * 1.2 || too_fine {
            return Ok(());
        }
        let start = super::super::room::house::START.after(Duration::from_secs(4));
        let end = start.after(Duration::from_secs(16));
        let turns = self.fleet.store.turns.iter();
        let given = turns
            .filter(|(at, _, _, given)| *given && *at > start && *at <= end)
            .count();
        let wanted = policy.rate * 16.0 * 0.95 - 1.0;
        if (given as f64) < wanted {
            return Err(format!(
                "I10: {given} turns in 16 seconds, of at least {wanted:.0}"
            ));
        }
        Ok(())
    }

    /// All nodes and the store hold the same.
    fn check_agreement(&self) -> Result<(), String> {
        let store = self.fleet.store.line(&sale());
        for node in self.fleet.nodes.iter().flatten() {
            let mut live = Vec::new();
            for partition in 0..PARTITIONS {
                node.room.dump(partition, |_, records| {
                    let mut of: BTreeMap<TicketId, Micros> = BTreeMap::new();
                    for record in records.iter().filter(|record| record.kind == Kind::Joined) {
                        let at = of.entry(record.id).or_insert(record.at);
                        *at = (*at).min(record.at);
                    }
                    live.extend(
                        of.into_iter()
                            .map(|(id, arrival)| TicketKey { arrival, id }),
                    );
                });
            }
            live.sort_unstable();
            if live != store {
                let (node_only, store_only): (Vec<_>, Vec<_>) = (
                    live.iter().filter(|key| !store.contains(key)).collect(),
                    store.iter().filter(|key| !live.contains(key)).collect(),
                );
                let first = node_only.iter().chain(&store_only).next().map(|key| key.id);
                let story = first
                    .map(|id| self.fleet.store.story(&id))
                    .unwrap_or_default();
                return Err(format!(
                    "I6: node {} has {node_only:?}, the store has {store_only:?}\n  {story}",
                    node.id.0
                ));
            }
        }
        for visitor in &self.visitors {
            let ranks = self.fleet.places(&visitor.token);
            // Whether a missed turn's owner is back is remembered by no store, and a poll tells.
            let called = || {
                self.fleet
                    .store
                    .turns
                    .iter()
                    .any(|turn| turn.2 == visitor.key.id)
            };
            let apart = ranks.iter().any(|rank| *rank != ranks[0]);
            if apart && (self.faults.none() || !called()) && !self.faults.crashes {
                let story = self.fleet.store.story(&visitor.key.id);
                return Err(format!(
                    "I6: {:?} has ranks {ranks:?}\n  {story}",
                    visitor.key
                ));
            }
        }
        Ok(())
    }
}
