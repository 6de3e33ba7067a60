//! One store for several rooms, in virtual time, that can be cut off, lose what it acknowledged, or
//! lose everything. Its rules are those of the product: `Memory` holds tickets, `Gate` gives turns,
//! and what a gate changes is written to a feed in the same step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidegate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GateView, SettleRequest,
};
use tidegate::model::{Batch, EventId, Kind, Micros, NodeId, Record, Rulings};
use tidegate::room::GATE_EPOCH;
use tidegate::store::gate::{Bucket, Change, Gate};
use tidegate::store::memory::{Memory, Settings};
use tidegate::store::{Feed, Position, Store as _, Stored};

pub const PARTITIONS: u16 = 4;

/// What a gate did, to be done again up to some moment.
struct Step {
    at: Micros,
    changes: Vec<Change>,
    bucket: Bucket,
}

pub struct SimStore {
    memory: Memory,
    /// Every batch, by partition, with when it was written.
    log: Vec<Vec<(Micros, Arc<Batch>)>>,
    gates: BTreeMap<EventId, (Gate, Vec<Step>)>,
    pub rulings: Rulings,
    /// What they were, and since when.
    rulings_log: Vec<(Micros, Rulings)>,
    /// When an event was erased, and what of it.
    erased: Vec<(Micros, EventId, Micros)>,
    /// Turns given and ended, in order: time, ticket, whether given.
    pub turns: Vec<(Micros, EventId, tidegate::model::TicketId, bool)>,
    pub generation: u64,
    /// The last loss was of everything.
    pub wiped: bool,
    pub now: Micros,
}

/// What a future that needs nobody else answers.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory waits for nobody"),
    }
}

impl SimStore {
    pub fn new(start: Micros) -> Self {
        Self {
            memory: Memory::new(Settings::default(), Arc::new(move || start)),
            log: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            gates: BTreeMap::new(),
            rulings: Rulings::default(),
            rulings_log: vec![(Micros(0), Rulings::default())],
            erased: Vec::new(),
            turns: Vec::new(),
            generation: 0,
            wiped: false,
            now: start,
        }
    }

    pub fn append(&mut self, partition: u16, batch: Arc<Batch>) {
        now(self.memory.append(partition, Arc::clone(&batch))).unwrap();
        self.log[usize::from(partition)].push((self.now, batch));
    }

    /// What somebody changes in the rulings.
    pub fn rule<T>(&mut self, change: impl FnOnce(&mut Rulings) -> T) -> T {
        let answer = change(&mut self.rulings);
        self.rulings_log.push((self.now, self.rulings.clone()));
        answer
    }

    pub fn erase(&mut self, event: &EventId, until: Micros) {
        now(self.memory.erase(event.clone(), until)).unwrap();
        let done = |(_, name, at): &(Micros, EventId, Micros)| name == event && *at >= until;
        if !self.erased.iter().any(done) {
            self.gates.remove(event);
        }
        self.erased.push((self.now, event.clone(), until));
    }

    pub fn feed_end(&self, partition: u16) -> Position {
        Position(self.log[usize::from(partition)].len() as u128)
    }

    /// What was written after a position; what was written since `hidden` is not seen yet.
    pub fn follow(&self, partition: u16, after: Position, limit: usize, hidden: Micros) -> Feed {
        let log = &self.log[usize::from(partition)];
        if after > self.feed_end(partition) {
            return Feed {
                batches: Vec::new(),
                trimmed: true,
            };
        }
        let from = after.0 as usize;
        let visible = log[from..].iter().take_while(|(at, _)| *at <= hidden);
        let batches = visible.take(limit).enumerate();
        Feed {
            batches: batches
                .map(|(n, (_, batch))| (Position((from + n + 1) as u128), Arc::clone(batch)))
                .collect(),
            trimmed: false,
        }
    }

    pub fn load(&self, partition: u16) -> Vec<(EventId, Vec<Stored>)> {
        now(self.memory.load(partition, None, usize::MAX))
            .unwrap()
            .tickets
    }

    pub fn gates(&self) -> Vec<GateView> {
        let gates = self.gates.iter();
        gates
            .map(|(event, (gate, _))| gate.view(self.now, event.clone()))
            .collect()
    }

    pub fn advance(&mut self, request: &AdvanceRequest) -> Advanced {
        let at = self.now;
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        let mut changes = Vec::new();
        let answer = gate.advance(at, request, &mut changes);
        self.write(&request.event, request.node, changes);
        answer
    }

    pub fn settle(&mut self, request: &SettleRequest) {
        let at = self.now;
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        let mut changes = Vec::new();
        gate.settle(at, request, &mut changes);
        // These turns were given before.
        let turns = self.turns.len();
        self.write(&request.event, request.node, changes);
        self.turns.truncate(turns);
    }

    pub fn enter(&mut self, request: &EnterRequest) -> Entry {
        let at = self.now;
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        let mut changes = Vec::new();
        let entry = gate.enter(at, request, &mut changes);
        self.write(&request.event, request.node, changes);
        entry
    }

    fn write(&mut self, event: &EventId, node: NodeId, changes: Vec<Change>) {
        let at = self.now;
        let (gate, steps) = self.gates.entry(event.clone()).or_default();
        let seq = gate.view(at, event.clone()).version;
        let mut records = Vec::new();
        for change in &changes {
            let (kind, id, moment) = match change {
                Change::Called(id, Some(until)) => {
                    self.turns.push((at, event.clone(), *id, true));
                    (Kind::Called, *id, *until)
                }
                Change::Called(id, None) => {
                    let entered = changes.iter().any(
                        |other| matches!(other, Change::Entered(entered, Some(_)) if entered == id),
                    );
                    if !entered {
                        self.turns.push((at, event.clone(), *id, false));
                    }
                    continue;
                }
                Change::Missed(id, Some(_)) => (Kind::Missed, *id, at),
                Change::Entered(id, Some(at)) => (Kind::Entered, *id, *at),
                _ => continue,
            };
            records.push(Record {
                kind,
                id,
                at: moment,
            });
        }
        let bucket = gate.bucket().clone();
        steps.push(Step {
            at,
            changes,
            bucket,
        });
        if !records.is_empty() {
            let batch = Batch {
                node,
                epoch: GATE_EPOCH,
                seq,
                clock: at,
                events: vec![(event.clone(), records)],
            };
            let home = tidegate::model::home::event_key(event) % u64::from(PARTITIONS);
            self.log[home as usize].push((at, Arc::new(batch)));
        }
    }

    /// Loses what was written after `moment`, acknowledged or not: a failover.
    pub fn lose_after(&mut self, moment: Micros) {
        let start = self.now;
        self.memory = Memory::new(Settings::default(), Arc::new(move || start));
        for (partition, log) in (0..).zip(&mut self.log) {
            log.retain(|(at, _)| *at <= moment);
            for (_, batch) in log.iter().filter(|(_, batch)| batch.epoch != GATE_EPOCH) {
                now(self.memory.append(partition, Arc::clone(batch))).unwrap();
            }
        }
        self.erased.retain(|(at, ..)| *at <= moment);
        for (_, event, until) in &self.erased {
            now(self.memory.erase(event.clone(), *until)).unwrap();
        }
        self.rulings_log.retain(|(at, _)| *at <= moment);
        self.rulings = self
            .rulings_log
            .last()
            .map_or_else(Rulings::default, |(_, r)| r.clone());
        for (gate, steps) in self.gates.values_mut() {
            steps.retain(|step| step.at <= moment);
            *gate = Gate::default();
            for step in steps.iter() {
                for change in &step.changes {
                    gate.restore(change.clone());
                }
            }
            if let Some(last) = steps.last() {
                gate.restore_bucket(last.bucket.clone());
            }
        }
        self.generation += 1;
        self.wiped = false;
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.lose_after(Micros(0));
        self.gates.clear();
        self.wiped = true;
    }

    /// All that was written about a ticket, in order, for whoever looks into a broken day.
    pub fn story(&self, id: &tidegate::model::TicketId) -> String {
        let mut told = Vec::new();
        for (at, batch) in self.log.iter().flatten() {
            for record in batch.events.iter().flat_map(|(_, records)| records) {
                if record.id == *id {
                    let from = if batch.epoch == GATE_EPOCH {
                        "gate by"
                    } else {
                        "node"
                    };
                    let (node, kind, moment) = (batch.node.0, record.kind, record.at.0);
                    told.push((*at, format!("{} {from} {node}: {kind:?} {moment}", at.0)));
                }
            }
        }
        told.sort();
        let lines: Vec<_> = told.into_iter().map(|(_, line)| line).collect();
        lines.join("\n  ")
    }

    /// Live tickets of an event in order, as partitions would be summed.
    pub fn line(&self, event: &EventId) -> Vec<tidegate::model::TicketKey> {
        let mut keys = Vec::new();
        for partition in 0..PARTITIONS {
            for (name, tickets) in self.load(partition) {
                if name != *event {
                    continue;
                }
                keys.extend(tickets.into_iter().filter_map(|ticket| match ticket {
                    Stored::Live { id, arrival } => {
                        Some(tidegate::model::TicketKey { arrival, id })
                    }
                    Stored::Removed { .. } => None,
                }));
            }
        }
        keys.sort_unstable();
        keys
    }
}
