//! Several rooms over one store, in virtual time, on one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use tidegate::journal::follow::{Next, READ_MAX, Reader};
use tidegate::journal::lane::{Journal, Limits};
use tidegate::model::gate::{AdvanceRequest, Entry};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{Change, EventId, Kind, Micros, NodeId, Policy, Record, TicketId, TicketKey};
use tidegate::room::answer::{
    Admission, EnterRefusal, EnterStep, Join, Joined, Standing, TokenRefusal,
};
use tidegate::room::{Identity, Room};
use tidegate::store::Stored;

use super::store::{PARTITIONS, SimStore};
use crate::room::house::{START, event, settings};

pub const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
/// By then all nodes that reach the store have looked at the rulings.
const SPREAD: Duration = Duration::from_millis(1500);

pub struct Node {
    pub id: NodeId,
    pub room: Arc<Room>,
    pub journal: Arc<Journal>,
    readers: Vec<Reader>,
    generation: u64,
    spoken: Micros,
    /// Its clock is this far from the store's, in microseconds.
    pub skew: i64,
    /// The store cannot be reached from here.
    pub cut: bool,
    /// The store hears this node, and its answers do not come.
    pub deaf: bool,
    /// Turns it gave without the store.
    shared: BTreeSet<TicketId>,
    /// What is written on a feed is seen this much later.
    pub delay: Duration,
    failing_since: Option<Micros>,
    /// It cannot read the rulings.
    pub blind: bool,
    /// The rulings it knows, and when it last looked.
    revision: u64,
    looked: Micros,
    /// Until when events were forgotten that it has seen to.
    erased: BTreeMap<EventId, Micros>,
    /// What is to be erased, when, and after which records.
    erasing: Vec<(EventId, Micros, Micros, Vec<u64>)>,
}

pub struct Fleet {
    pub store: SimStore,
    /// `None` while a node is down.
    pub nodes: Vec<Option<Node>>,
    pub now: Micros,
    pub policy: Policy,
    pub random: StdRng,
    /// Of the store's answers to nodes, this share in a thousand is lost after it was done.
    pub lost_per_mille: u32,
    /// The store has stopped: what it is asked waits, and is done when it goes on.
    pub stopped: bool,
    waiting: Vec<AdvanceRequest>,
    /// Passes granted, by ticket.
    pub granted: BTreeMap<TicketId, Vec<Micros>>,
    /// Passes given without the store.
    passes: BTreeMap<TicketId, BTreeSet<String>>,
}

impl Node {
    pub fn now(&self, world: Micros) -> Micros {
        Micros(world.0.saturating_add_signed(self.skew))
    }
}

impl Fleet {
    pub fn new(size: u16, policy: Policy, seed: u64) -> Self {
        let mut fleet = Self {
            store: SimStore::new(START),
            nodes: (0..size).map(|_| None).collect(),
            now: START,
            policy,
            random: StdRng::seed_from_u64(seed),
            lost_per_mille: 0,
            stopped: false,
            waiting: Vec::new(),
            granted: BTreeMap::new(),
            passes: BTreeMap::new(),
        };
        for node in 0..size {
            fleet.start(node, 0);
        }
        fleet
    }

    /// Starts a node: loads what the store holds, and follows from there.
    pub fn start(&mut self, number: u16, skew: i64) {
        let limits = Limits {
            records_max: 1_000_000,
            batch_records: 64,
            batch_bytes: 1 << 20,
            flush_interval: STEP,
            patient_interval: 20 * STEP,
            tail_records: 100_000,
        };
        let now = Micros(self.now.0.saturating_add_signed(skew));
        let epoch = (now.0 / 1_000_000) as u32;
        let journal = Arc::new(Journal::new(PARTITIONS, NodeId(number), epoch, limits));
        let key = vec![("k1".to_owned(), [7; 32])];
        let keys = (
            TicketKeys::new("k1", &key).unwrap(),
            PassKeys::new("k1", &key).unwrap(),
        );
        let identity = Identity {
            node: NodeId(number),
            fleet: self.nodes.len() as u16,
            epoch,
            events_max: 100,
            skew_max: SECOND,
            lag_max: Duration::from_millis(500),
            share_limit: Duration::from_secs(300),
        };
        let room = Room::new(
            now,
            identity,
            settings(self.policy.clone()),
            keys,
            Arc::clone(&journal),
        );
        room.take_rulings(now, &self.store.rulings);
        let mut readers = Vec::new();
        for partition in 0..PARTITIONS {
            readers.push(Reader::new(now, self.store.feed_end(partition)));
            for (event, tickets) in self.store.load(partition) {
                for ticket in tickets {
                    match ticket {
                        Stored::Live { id, arrival } => {
                            room.restore_live(now, &event, &[TicketKey { arrival, id }]);
                        }
                        Stored::Removed { id, at, why } => {
                            room.restore_removed(now, &event, &[(id, at, why)]);
                        }
                    }
                }
            }
        }
        for gate in self.store.gates() {
            room.restore_gate(now, &gate);
        }
        room.set_loaded(true);
        self.nodes[usize::from(number)] = Some(Node {
            id: NodeId(number),
            room: Arc::new(room),
            journal,
            readers,
            generation: self.store.generation,
            spoken: Micros(0),
            skew,
            cut: false,
            deaf: false,
            shared: BTreeSet::new(),
            delay: Duration::ZERO,
            failing_since: None,
            blind: false,
            revision: self.store.rulings.revision,
            looked: Micros(0),
            erased: BTreeMap::new(),
            erasing: Vec::new(),
        });
    }

    /// Moves time on.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = self.now.after(STEP).min(end);
            self.step();
        }
    }

    fn step(&mut self) {
        self.store.now = self.now;
        if !self.stopped {
            for request in std::mem::take(&mut self.waiting) {
                self.store.advance(&request);
            }
        }
        for number in 0..self.nodes.len() {
            let Some(mut node) = self.nodes[number].take() else {
                continue;
            };
            self.drive(&mut node);
            self.nodes[number] = Some(node);
        }
    }

    fn drive(&mut self, node: &mut Node) {
        let now = node.now(self.now);
        let away = node.cut || node.deaf || self.stopped;
        if away {
            let since = *node.failing_since.get_or_insert(now);
            if now.since(since) > 5 * SECOND {
                node.room.set_degraded(true);
            }
        } else {
            node.failing_since = None;
            node.room.set_degraded(false);
            if node.generation != self.store.generation {
                node.generation = self.store.generation;
                for reader in &mut node.readers {
                    reader.rewind();
                }
                node.journal.write_again();
                if self.store.wiped {
                    node.journal.write_all();
                    node.room.doubt_all_of_gates(now);
                }
                node.room.doubt_gates(now);
            }
            self.look(node, now);
            self.flush(node, now);
            self.follow(node, now);
        }
        let known = node.readers.iter().map(Reader::known_until).min().unwrap();
        node.room.set_feed_lag(now, now.since(known));
        let mut asking = Vec::new();
        node.room.tick(now, &mut asking);
        for ask in asking {
            if self.stopped && !node.cut {
                self.waiting.push(ask.request.clone());
            }
            let answer = (!node.cut && !self.stopped).then(|| {
                for request in node.room.settlement(now, &ask) {
                    self.store.settle(&request);
                }
                self.store.advance(&ask.request)
            });
            let heard = answer.filter(|_| !node.deaf && !self.is_lost());
            node.room.advanced(now, ask, heard);
        }
        self.note_shared(node);
    }

    /// Writes down which turns a node gave, or took back, without the store.
    fn note_shared(&mut self, node: &mut Node) {
        let open = node.room.shared_turns(&sale());
        let open: BTreeSet<_> = open.into_iter().map(|turn| turn.id).collect();
        for id in open.difference(&node.shared) {
            self.store.turns.push((self.now, sale(), *id, true));
        }
        node.shared = open;
    }

    /// Follows the rulings, as `app::rulings` does.
    fn look(&mut self, node: &mut Node, now: Micros) {
        if node.blind || now.since(node.looked) < SECOND {
            return;
        }
        node.looked = now;
        if node.revision != self.store.rulings.revision {
            node.revision = self.store.rulings.revision;
            let lost = node.room.take_rulings(now, &self.store.rulings);
            if !lost.is_empty() {
                self.store.rule(|rulings| rulings.restore(lost));
            }
        }
        node.room.note_rulings(now);
        for (event, until) in node.room.forgotten() {
            if node.erased.get(&event).is_none_or(|erased| *erased < until) {
                node.erased.insert(event.clone(), until);
                let due = now.after(SPREAD);
                node.erasing.push((event, until, due, node.journal.ends()));
            }
        }
        let store = &mut self.store;
        node.erasing.retain(|(event, until, due, ends)| {
            let ready = *due <= now && node.journal.has_acknowledged(ends);
            if ready {
                store.erase(event, *until);
            }
            !ready
        });
    }

    /// An operator's change at a node that reaches the store; answers how many tickets were forgotten.
    pub fn rule(&mut self, number: u16, event: &EventId, change: &Change) -> u64 {
        let node = self.node(number);
        let (room, now) = (Arc::clone(&node.room), node.now(self.now));
        assert!(!node.cut);
        let keep = Duration::from_secs(6 * 3600);
        let at = room.stamp(now);
        let ruled = self
            .store
            .rule(|rulings| rulings.rule(event, change, at, keep));
        room.take_ruling(now, event, &ruled.ruling)
    }

    pub fn forget(&mut self, number: u16, event: &EventId) -> u64 {
        let node = self.node(number);
        let until = node.room.forgetting(node.now(self.now), event);
        self.rule(number, event, &Change::Forget { until })
    }

    fn is_lost(&mut self) -> bool {
        self.random.random_range(0..1000) < self.lost_per_mille
    }

    fn flush(&mut self, node: &mut Node, now: Micros) {
        for lane in 0..PARTITIONS {
            if node.journal.take_lost(lane) {
                let mut events = Vec::new();
                node.room
                    .dump(lane, |event, records| events.push((event.clone(), records)));
                let batch = node.journal.outside(lane, now, events);
                self.store.append(lane, batch);
            }
            let again = node.journal.unacknowledged(lane);
            let batch = again.or_else(|| node.journal.cut(lane, now, now, false));
            if let Some(batch) = batch {
                node.spoken = now;
                self.store.append(lane, batch);
                if !self.is_lost() {
                    node.journal.acknowledge(lane);
                }
            }
        }
        if now.since(node.spoken) >= SECOND {
            node.spoken = now;
            let lane = node.journal.own_lane();
            let beacon = node.journal.outside(lane, now, Vec::new());
            self.store.append(lane, beacon);
        }
    }

    fn follow(&mut self, node: &mut Node, now: Micros) {
        let hidden = Micros(self.now.0 - node.delay.as_micros() as u64);
        for (partition, reader) in (0..).zip(&mut node.readers) {
            // Behind a delay, what is known is as old as the delay.
            let asked = Micros(now.0 - node.delay.as_micros() as u64);
            let feed = self
                .store
                .follow(partition, reader.position(), READ_MAX, hidden);
            for (_, batch) in &feed.batches {
                node.room.apply(now, batch);
            }
            if reader.take(asked, &feed, READ_MAX) == Next::Reload {
                reader.reset(now, self.store.feed_end(partition));
                for (event, tickets) in self.store.load(partition) {
                    let records: Vec<_> = tickets.into_iter().map(record).collect();
                    node.room.reload(now, &event, &records);
                }
                for gate in self.store.gates() {
                    node.room.restore_gate(now, &gate);
                }
            }
        }
    }

    // What visitors do.

    pub fn node(&self, number: u16) -> &Node {
        self.nodes[usize::from(number)].as_ref().expect("it is up")
    }

    pub fn node_mut(&mut self, number: u16) -> &mut Node {
        self.nodes[usize::from(number)].as_mut().expect("it is up")
    }

    pub fn join(&self, number: u16, name: &str) -> Joined {
        self.join_with(number, name, None)
    }

    pub fn join_with(&self, number: u16, name: &str, key: Option<&str>) -> Joined {
        let node = self.node(number);
        let ask = Join {
            event: name,
            key,
            user: None,
        };
        node.room.join(node.now(self.now), &ask).unwrap()
    }

    pub fn status(&self, number: u16, token: &str) -> Result<Standing, TokenRefusal> {
        let node = self.node(number);
        let now = node.now(self.now);
        node.room
            .look(now, token)
            .map(|found| node.room.standing(now, &found))
    }

    pub fn place(&self, number: u16, token: &str) -> u64 {
        self.status(number, token).unwrap().position
    }

    pub fn enter(&mut self, number: u16, token: &str) -> Result<Admission, EnterRefusal> {
        let node = self.node(number);
        let (now, cut) = (node.now(self.now), node.cut || self.stopped);
        let deaf = node.deaf;
        let room = Arc::clone(&node.room);
        let request = match room.enter(now, token)? {
            EnterStep::Granted(admission) => {
                let id = self.id_of(token);
                let passes = self.passes.entry(id).or_default();
                if passes.insert(admission.pass.clone()) {
                    self.granted.entry(id).or_default().push(self.now);
                }
                return Ok(admission);
            }
            EnterStep::Ask(request) => request,
        };
        if cut {
            return Err(room.enter_failed(now, &request));
        }
        let entry = self.store.enter(&request);
        if matches!(entry, Entry::Granted { .. }) {
            self.granted.entry(request.id).or_default().push(self.now);
        }
        if deaf || self.is_lost() {
            return Err(room.enter_failed(now, &request));
        }
        room.entered(now, &request, entry)
    }

    pub fn id_of(&self, token: &str) -> TicketId {
        let keys = TicketKeys::new("k1", &[("k1".to_owned(), [7; 32])]).unwrap();
        let mut buffer = tidegate::model::token::buffer();
        keys.verify(token, &mut buffer).expect("our own").id
    }

    /// The ranks of a token's ticket on every node that is up; 0 where it does not wait.
    pub fn places(&self, token: &str) -> Vec<u64> {
        let up = self.nodes.iter().flatten();
        up.map(|node| node.room.rank(token).unwrap_or(0)).collect()
    }
}

pub fn record(ticket: Stored) -> Record {
    match ticket {
        Stored::Live { id, arrival: at } => Record {
            kind: Kind::Joined,
            id,
            at,
        },
        Stored::Removed { id, at, why } => Record {
            kind: why.kind(),
            id,
            at,
        },
    }
}

pub fn sale() -> EventId {
    event("sale")
}
