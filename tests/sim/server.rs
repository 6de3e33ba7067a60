//! The store that all nodes share, in virtual time. Its rules are the product's own: `Memory` holds
//! tickets, `Gate` gives turns, and what a gate changes is written to a feed in the same step. It can
//! lose what it acknowledged, forget the beginning of a feed, or lose everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegate::model::gate::{
    AdvanceRequest, Advanced, EnterRequest, Entry, GateView, LAPSE_GRACE, SettleRequest,
};
use tidegate::model::{
    Batch, EventId, Kind, Micros, NodeId, Record, Rulings, TicketId, TicketKey, home,
};
use tidegate::room::GATE_EPOCH;
use tidegate::store::gate::{Bucket, Change, Gate};
use tidegate::store::memory::{Memory, Settings};
use tidegate::store::{Feed, Position, Store as _, Stored};

use super::ledger::{Deed, Ledger};

/// Where rulings and the store's name are.
pub const META: u16 = 0;

/// No server's clock is further behind another's: what is older is not given its position again, also
/// by one that lost everything.
const BEHIND_MAX: Duration = Duration::from_secs(30);

pub struct Server {
    partitions: Vec<Partition>,
    gates: BTreeMap<EventId, (Gate, Vec<Step>)>,
    rulings: Rulings,
    /// What they were, and since when.
    rulings_log: Vec<(Micros, Rulings)>,
    /// When an event was erased, and what of it.
    erased: Vec<(Micros, EventId, Micros)>,
    /// Another number is another store.
    pub deployment: u64,
    /// What gates did, as the world saw it.
    pub ledger: Ledger,
    /// The world's time, and what the clock here says.
    pub now: Micros,
    pub clock: Micros,
}

struct Partition {
    /// Every batch since the last time all was lost.
    log: Vec<Written>,
    /// How much of the log's beginning readers cannot have any more.
    trimmed: usize,
    /// Of the newest entry. Positions of what was lost are given again, as in a stream that names
    /// entries by time.
    last: u64,
    memory: Memory,
    /// All that was ever written, for whoever looks into a broken run.
    archive: Vec<(Micros, Arc<Batch>)>,
}

struct Written {
    position: u64,
    /// The position of the entry before it.
    before: u64,
    at: Micros,
    batch: Arc<Batch>,
}

impl Partition {
    fn new(now: Micros) -> Self {
        Self {
            log: Vec::new(),
            trimmed: 0,
            last: 0,
            memory: empty(now),
            archive: Vec::new(),
        }
    }

    fn end(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.position)
    }

    fn write(&mut self, at: Micros, batch: Arc<Batch>) -> Position {
        let before = self.end();
        self.last += 1;
        self.archive.push((at, Arc::clone(&batch)));
        self.log.push(Written {
            position: self.last,
            before,
            at,
            batch,
        });
        Position(u128::from(self.last))
    }
}

/// What a gate did, to be done again up to some moment.
struct Step {
    at: Micros,
    changes: Vec<Change>,
    bucket: Bucket,
}

/// What a future that needs nobody else answers.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the store in memory waits for nobody"),
    }
}

fn empty(now: Micros) -> Memory {
    Memory::new(Settings::default(), Arc::new(move || now))
}

impl Server {
    pub fn new(now: Micros, partitions: u16) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::new(now)).collect(),
            gates: BTreeMap::new(),
            rulings: Rulings::default(),
            rulings_log: vec![(Micros(0), Rulings::default())],
            erased: Vec::new(),
            deployment: 0,
            ledger: Ledger::default(),
            now,
            clock: now,
        }
    }

    pub fn partitions(&self) -> u16 {
        self.partitions.len() as u16
    }

    /// The partition in which an event's gate is.
    pub fn home(&self, event: &EventId) -> u16 {
        (home::event_key(event) % self.partitions.len() as u64) as u16
    }

    pub fn append(&mut self, partition: u16, batch: Arc<Batch>) -> Position {
        let to = &mut self.partitions[usize::from(partition)];
        at_once(to.memory.append(partition, Arc::clone(&batch))).expect("memory takes all");
        to.write(self.now, batch)
    }

    pub fn feed_end(&self, partition: u16) -> Position {
        Position(u128::from(self.partitions[usize::from(partition)].end()))
    }

    /// Whether something follows a position, or the position is of no use.
    pub fn has_after(&self, partition: u16, after: Position) -> bool {
        after != self.feed_end(partition)
    }

    pub fn follow(&self, partition: u16, after: Position, limit: usize) -> Feed {
        let from = &self.partitions[usize::from(partition)];
        let log = &from.log[from.trimmed.min(from.log.len())..];
        let start = log.partition_point(|entry| u128::from(entry.position) <= after.0);
        let new = &log[start..];
        let batches = new.iter().take(limit);
        Feed {
            trimmed: match new.first() {
                Some(first) => u128::from(first.before) > after.0,
                None => after > self.feed_end(partition),
            },
            batches: batches
                .map(|entry| {
                    (
                        Position(u128::from(entry.position)),
                        Arc::clone(&entry.batch),
                    )
                })
                .collect(),
        }
    }

    /// A node read this of a feed.
    pub fn read(&mut self, feed: &Feed) {
        for (_, batch) in &feed.batches {
            if batch.epoch == GATE_EPOCH {
                let records = batch.events.iter().flat_map(|(_, records)| records);
                self.ledger.heard(batch.clock, records);
            }
        }
    }

    /// What operators ruled, unless that is known.
    pub fn rulings(&self, known: u64) -> Option<Rulings> {
        (self.rulings.revision != known).then(|| self.rulings.clone())
    }

    /// What somebody changes in the rulings.
    pub fn rule<T>(&mut self, change: impl FnOnce(&mut Rulings) -> T) -> T {
        let answer = change(&mut self.rulings);
        self.rulings_log.push((self.now, self.rulings.clone()));
        answer
    }

    /// Takes out what a forgotten event left.
    pub fn erase(&mut self, event: &EventId, until: Micros) {
        for partition in &self.partitions {
            at_once(partition.memory.erase(event.clone(), until)).expect("memory erases all");
        }
        let done = |(_, name, at): &(Micros, EventId, Micros)| name == event && *at >= until;
        if !self.erased.iter().any(done) {
            self.gates.remove(event);
        }
        self.erased.push((self.now, event.clone(), until));
    }

    pub fn load(&self, partition: u16) -> Vec<(EventId, Vec<Stored>)> {
        let memory = &self.partitions[usize::from(partition)].memory;
        at_once(memory.load(partition, None, usize::MAX))
            .expect("memory answers all")
            .tickets
    }

    pub fn gates(&mut self) -> Vec<GateView> {
        let gates = self.gates.iter();
        gates
            .map(|(event, (gate, _))| gate.view(self.clock, event.clone()))
            .collect()
    }

    pub fn advance(&mut self, request: &AdvanceRequest) -> Advanced {
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        let mut changes = Vec::new();
        let answer = gate.advance(self.clock, request, &mut changes);
        // What was claimed was given by the node before, which knows of it.
        let claimed: Vec<_> = request.claims.iter().map(|turn| turn.id).collect();
        let grace = request.policy.late_grace;
        self.write(&request.event, request.node, changes, &claimed, grace);
        answer
    }

    pub fn settle(&mut self, request: &SettleRequest) {
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        if request.shared {
            self.ledger.clock = self.clock;
            self.ledger.told_of_shares(self.now, request);
        }
        let mut changes = Vec::new();
        gate.settle(self.clock, request, &mut changes);
        self.ledger.told_again = true;
        let grace = request.policy.late_grace;
        self.write(&request.event, request.node, changes, &[], grace);
        self.ledger.told_again = false;
    }

    pub fn enter(&mut self, request: &EnterRequest) -> Entry {
        let (gate, _) = self.gates.entry(request.event.clone()).or_default();
        let mut changes = Vec::new();
        let entry = gate.enter(self.clock, request, &mut changes);
        let claimed: Vec<_> = request.claim.iter().map(|turn| turn.id).collect();
        // Whoever is known to be inside is written down once more, and not let in.
        self.ledger.told_again = matches!(entry, Entry::Again { .. });
        let grace = request.policy.late_grace;
        self.write(&request.event, request.node, changes, &claimed, grace);
        self.ledger.told_again = false;
        entry
    }

    pub fn complete(&mut self, event: &EventId, id: &TicketId) -> bool {
        let mut changes = Vec::new();
        let held = self
            .gates
            .get_mut(event)
            .is_some_and(|(gate, _)| gate.complete(id, &mut changes));
        self.write(event, NodeId(0), changes, &[], 0);
        held
    }

    /// Books what a gate did, and writes to the feed what others should hear of.
    fn write(
        &mut self,
        event: &EventId,
        node: NodeId,
        changes: Vec<Change>,
        claimed: &[TicketId],
        late_grace: u64,
    ) {
        let (at, clock) = (self.now, self.clock);
        self.ledger.clock = clock;
        let home = self.home(event);
        let Some((gate, steps)) = self.gates.get_mut(event) else {
            return;
        };
        let seq = gate.view(clock, event.clone()).version;
        let mut records = Vec::new();
        let entered = |id: &TicketId| {
            let same = |change: &&Change| matches!(change, Change::Entered(e, Some(_)) if e == id);
            changes.iter().find(same).is_some()
        };
        let is_open = |id: &TicketId| {
            let same = |change: &Change| matches!(change, Change::Called(e, Some(_)) if e == id);
            changes.iter().any(same)
        };
        // Of a turn that was given back nobody has to be told.
        let is_given_back = |id: &TicketId, ended: Micros| {
            let same = |change: &Change| matches!(change, Change::Called(e, None) if e == id);
            ended.0 + LAPSE_GRACE > clock.0 && changes.iter().any(same)
        };
        for change in &changes {
            let record = |kind, id: &TicketId, at: &Micros| Record {
                kind,
                id: *id,
                at: *at,
            };
            match change {
                Change::Called(id, Some(until)) => {
                    let deed = Deed::Given { until: *until };
                    self.ledger.book(at, event, *id, deed, claimed.contains(id));
                    records.push(record(Kind::Called, id, until));
                }
                Change::Called(id, None) if !entered(id) => {
                    self.ledger.book(at, event, *id, Deed::Ended, true);
                }
                // Of a turn that was told again and is open nothing was missed yet.
                Change::Missed(id, Some(until)) if !is_open(id) => {
                    let ended = Micros(until.0.saturating_sub(late_grace));
                    if !is_given_back(id, ended) {
                        records.push(record(Kind::Missed, id, &ended));
                    }
                }
                Change::Entered(id, Some(when)) => {
                    self.ledger.book(at, event, *id, Deed::Entered, false);
                    records.push(record(Kind::Entered, id, when));
                }
                Change::Active(id, Some(until)) => {
                    let deed = Deed::Inside { until: *until };
                    self.ledger.book(at, event, *id, deed, false);
                }
                Change::Active(id, None) => {
                    self.ledger.book(at, event, *id, Deed::Outside, true);
                }
                _ => {}
            }
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
                clock,
                events: vec![(event.clone(), records)],
            };
            self.partitions[usize::from(home)].write(at, Arc::new(batch));
        }
    }

    /// Loses what some partitions wrote after `moment`, acknowledged or not: a failover.
    pub fn lose_after(&mut self, moment: Micros, lost: impl Fn(u16) -> bool) {
        let now = self.now;
        for (number, partition) in (0..).zip(&mut self.partitions) {
            if !lost(number) {
                continue;
            }
            let oldest = Micros(now.0.saturating_sub(BEHIND_MAX.as_micros() as u64));
            let older = partition.log.iter().take_while(|entry| entry.at <= oldest);
            let last = older.last().map_or(0, |entry| entry.position);
            partition.log.retain(|entry| entry.at <= moment);
            // A copy whose clock is behind names what comes next as what was lost.
            partition.last = partition.end().max(last);
            // No copy has a feed without an end.
            partition.trimmed = partition.trimmed.min(partition.log.len().saturating_sub(1));
            partition.memory = empty(now);
            let batches = partition.log.iter().map(|entry| &entry.batch);
            for batch in batches.filter(|batch| batch.epoch != GATE_EPOCH) {
                at_once(partition.memory.append(number, Arc::clone(batch)))
                    .expect("memory takes all");
            }
        }
        if lost(META) {
            self.erased.retain(|(at, ..)| *at <= moment);
            self.rulings_log.retain(|(at, _)| *at <= moment);
            let last = self.rulings_log.last();
            self.rulings = last.map_or_else(Rulings::default, |(_, rulings)| rulings.clone());
        }
        for partition in &self.partitions {
            for (_, event, until) in &self.erased {
                at_once(partition.memory.erase(event.clone(), *until)).expect("memory erases all");
            }
        }
        let count = self.partitions.len() as u64;
        for (event, (gate, steps)) in &mut self.gates {
            if !lost((home::event_key(event) % count) as u16) {
                continue;
            }
            self.ledger.lose(event, moment);
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
            gate.fall_back();
        }
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.lose_after(Micros(0), |_| true);
        self.gates.clear();
        self.deployment += 1;
    }

    /// Forgets all of a feed but its newest batches.
    pub fn trim(&mut self, partition: u16, kept: usize) {
        let of = &mut self.partitions[usize::from(partition)];
        of.trimmed = of.log.len().saturating_sub(kept).max(of.trimmed);
    }

    /// Live tickets of an event in order, as partitions would be summed.
    pub fn line(&self, event: &EventId) -> Vec<TicketKey> {
        let mut keys = Vec::new();
        for partition in 0..self.partitions() {
            for (name, tickets) in self.load(partition) {
                if name != *event {
                    continue;
                }
                keys.extend(tickets.into_iter().filter_map(|ticket| match ticket {
                    Stored::Live { id, arrival } => Some(TicketKey { arrival, id }),
                    Stored::Removed { .. } => None,
                }));
            }
        }
        keys.sort_unstable();
        keys
    }

    /// Whether anything was written since a moment.
    pub fn is_written_since(&self, moment: Micros) -> bool {
        self.partitions.iter().any(|partition| {
            let lately = partition.archive.iter().rev();
            let mut lately = lately.take_while(|(at, _)| *at > moment);
            lately.any(|(_, batch)| !batch.is_empty())
        })
    }

    /// Since when the store has known each ticket for good.
    pub fn known(&self) -> BTreeMap<TicketId, Micros> {
        let mut known = BTreeMap::new();
        for entry in self.partitions.iter().flat_map(|partition| &partition.log) {
            for record in entry.batch.events.iter().flat_map(|(_, records)| records) {
                if record.kind == Kind::Joined {
                    let at = known.entry(record.id).or_insert(entry.at);
                    *at = entry.at.min(*at);
                }
            }
        }
        known
    }

    /// When nodes removed each ticket for its silence, as they ever wrote.
    pub fn expired(&self) -> BTreeMap<TicketId, BTreeSet<Micros>> {
        let mut expired: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let batches = self.partitions.iter().flat_map(|of| &of.archive);
        for (_, records) in batches.flat_map(|(_, batch)| &batch.events) {
            let removals = records.iter().filter(|of| of.kind == Kind::Expired);
            for Record { id, at, .. } in removals {
                expired.entry(*id).or_default().insert(*at);
            }
        }
        expired
    }

    /// All that was written about a ticket, in order, for whoever looks into a broken day.
    pub fn story(&self, id: &TicketId) -> Vec<(Micros, String)> {
        let mut told = Vec::new();
        for partition in &self.partitions {
            let log = partition.log.iter();
            let held: BTreeSet<_> = log.map(|entry| Arc::as_ptr(&entry.batch)).collect();
            for (at, batch) in &partition.archive {
                let by_gate = batch.epoch == GATE_EPOCH;
                let from = if by_gate { "a gate, asked by " } else { "" };
                let held = held.contains(&Arc::as_ptr(batch));
                let lost = if held { "" } else { " (lost since)" };
                for record in batch.events.iter().flat_map(|(_, records)| records) {
                    if record.id == *id {
                        let (node, kind, moment) = (batch.node.0, record.kind, record.at.0);
                        told.push((
                            *at,
                            format!("{from}node {node} wrote {kind:?} {moment}{lost}"),
                        ));
                    }
                }
            }
        }
        told.sort();
        told
    }
}
