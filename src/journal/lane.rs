//! Bounded lanes of records, one a partition, and the cutting of batches from them.
//!
//! Synchronous and without a clock: time is an argument, and whoever carries batches to the store
//! drives it. Oldest first; at most one batch of a lane is on its way, and a batch that failed goes
//! again as it was, under the same number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ahash::AHashMap;
use tokio::sync::watch;

use super::tail::Tail;
use super::void::Void;
use crate::model::{Batch, EventId, Micros, NodeId, Record, micros};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Notify};

/// How much is held, and when a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records held over all lanes before joins are refused.
    pub records_max: usize,
    /// A batch is cut when a lane holds this many records.
    pub batch_records: usize,
    /// A batch holds about this many bytes at most.
    pub batch_bytes: usize,
    /// A batch is cut when the oldest record of a lane is this old.
    pub flush_interval: Duration,
    /// … or this old, while all of the lane are patient: see [`Journal::append_patient`].
    pub patient_interval: Duration,
    /// Acknowledged records of the last minute that are kept in each lane, to be written again
    /// should the store have lost them; 0 for a store that loses none.
    pub tail_records: usize,
}

/// How long a node of a fleet is silent at most.
pub const BEACON_EVERY: Duration = Duration::from_secs(1);

/// Tickets that are made for one lane before the next.
const SPREAD_JOINS: u64 = 512;

/// No moment is that late.
const NOTHING: u64 = u64::MAX;

/// Records that a lane keeps room for when fewer wait.
const ROOM_KEPT: usize = 1_024;

/// What somebody waits for is sent after this part of the flush interval: at 10,000 joins a second
/// that still makes some twenty of them one call.
const AWAITED_PART: u32 = 5;

/// Encoded size of a record, in bytes (`codec` holds it to that).
const RECORD_BYTES: usize = 29;

/// The lanes of one node.
#[derive(Debug)]
pub struct Journal {
    limits: Limits,
    node: NodeId,
    epoch: u32,
    lanes: Box<[Lane]>,
    /// Records in all lanes, those on their way included.
    held: AtomicUsize,
    joins: AtomicU64,
    wake: Notify,
    void: Void,
}

#[derive(Debug)]
struct Lane {
    /// Held for a push or a cut, never over anything else. Taken inside a line's writer lock.
    state: Mutex<State>,
    /// The number of the last record the store has acknowledged.
    acknowledged: watch::Sender<u64>,
    /// What memory holds since this moment is to be written anew once the store takes batches again;
    /// [`NOTHING`] of it, mostly.
    lost_since: AtomicU64,
    /// The oldest unacknowledged record's moment; 0 when there is none.
    oldest: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Pending>,
    sent: Option<Sent>,
    tail: Tail,
    /// What is to be written again, oldest first.
    again: VecDeque<Batch>,
    /// The greatest of all that wait.
    hurry: Hurry,
    records: u64,
    batches: u64,
}

impl State {
    /// Since when something here is not in the store, as far as is known.
    fn untold_since(&self) -> Option<Micros> {
        let sent = self.sent.as_ref().map(|sent| sent.since);
        sent.into_iter().chain(self.unsent_since()).min()
    }

    fn unsent_since(&self) -> Option<Micros> {
        let again = self.again.front().map(|batch| batch.clock);
        let waiting = self.waiting.front().map(|pending| pending.since);
        again.into_iter().chain(waiting).min()
    }

    /// Has the lane hurry so much at least. Whether that is more than before.
    fn hurries(&mut self, hurry: Hurry) -> bool {
        let more = hurry > self.hurry;
        self.hurry = self.hurry.max(hurry);
        more
    }

    /// A rush leaves a long queue behind, which would weigh more than the line that came of it.
    fn give_back_room(&mut self) {
        let needed = self.waiting.len().max(ROOM_KEPT) * 2;
        if self.waiting.capacity() > needed * 2 {
            self.waiting.shrink_to(needed);
        }
    }
}

/// How soon a record is to be on its way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Hurry {
    /// With company: after [`Limits::patient_interval`].
    #[default]
    Patient,
    /// After [`Limits::flush_interval`].
    Soon,
    /// Somebody waits for the store's answer: with those of this moment, after a fraction of it.
    Awaited,
}

/// The batch on its way.
#[derive(Debug)]
struct Sent {
    batch: Arc<Batch>,
    /// The number of its last record; `None` for one that goes again.
    last: Option<u64>,
    /// When it was cut, and of when its oldest record is.
    at: Micros,
    since: Micros,
}

#[derive(Debug)]
struct Pending {
    event: EventId,
    record: Record,
    since: Micros,
}

/// The journal is at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is full")]
pub struct Full;

impl Journal {
    /// Empty lanes for `partitions` partitions, at least 1.
    pub fn new(partitions: u16, node: NodeId, epoch: u32, limits: Limits) -> Self {
        let lane = || Lane {
            state: Mutex::default(),
            acknowledged: watch::channel(0).0,
            lost_since: AtomicU64::new(NOTHING),
            oldest: AtomicU64::new(0),
        };
        Self {
            limits,
            node,
            epoch,
            lanes: (0..partitions.max(1)).map(|_| lane()).collect(),
            held: AtomicUsize::new(0),
            joins: AtomicU64::new(0),
            wake: Notify::new(),
            void: Void::default(),
        }
    }

    /// How many lanes there are.
    pub fn partitions(&self) -> u16 {
        self.lanes.len() as u16
    }

    /// The lane in which this node says that it is well.
    pub fn own_lane(&self) -> u16 {
        self.node.0 % self.partitions()
    }

    /// Whether a join may still be taken. Other records go on a little beyond the bound: they are
    /// what empties the line.
    ///
    /// # Errors
    /// The bound is reached.
    pub fn admit(&self) -> Result<(), Full> {
        if self.held.load(Ordering::Relaxed) < self.limits.records_max || mutant!(JournalUnbounded)
        {
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Appends a record to its lane and answers its lane and number. At the outer bound (an eighth
    /// above `records_max`) the record is dropped and the lane marked as [`Journal::take_lost`]
    /// tells. About 50 ns.
    pub fn append(&self, now: Micros, event: &EventId, record: Record) -> (u16, u64) {
        self.push(now, event, record, Hurry::Soon)
    }

    /// Appends a record that nobody is in a hurry to hear of: it waits for company a while longer.
    pub fn append_patient(&self, now: Micros, event: &EventId, record: Record) -> (u16, u64) {
        self.push(now, event, record, Hurry::Patient)
    }

    /// A lane for a ticket whose id is yet to be made: the same one for a while, so that batches are
    /// few and large, then another, so that all have their share but `busy`, which has enough to do.
    pub fn spread(&self, now: Micros, busy: u16) -> u16 {
        let joins = self.joins.fetch_add(1, Ordering::Relaxed) / SPREAD_JOINS;
        let period = micros(self.limits.patient_interval).max(1);
        let turn = joins.wrapping_add(now.0 / period);
        // Multiples of the golden ratio: each turn far from the last, and all lanes evenly often.
        let part = u128::from(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let others = self.partitions().saturating_sub(1).max(1);
        let lane = ((part * u128::from(others)) >> 64) as u16;
        let passes = lane >= busy && others < self.partitions();
        lane + u16::from(passes)
    }

    fn push(&self, now: Micros, event: &EventId, record: Record, hurry: Hurry) -> (u16, u64) {
        let lane_number = record.id.partition(self.partitions());
        let lane = &self.lanes[usize::from(lane_number)];
        let bound = self
            .limits
            .records_max
            .saturating_add(self.limits.records_max / 8);
        if self.held.fetch_add(1, Ordering::Relaxed) >= bound && !mutant!(JournalUnbounded) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            if lane.lost_since.swap(0, Ordering::Relaxed) != 0 {
                tracing::error!(
                    lane = lane_number,
                    "journal full, records are being dropped"
                );
            }
            return (lane_number, lane.state.lock().records);
        }
        let (number, depth, hurries) = {
            let mut state = lane.state.lock();
            state.records += 1;
            let hurries = state.hurries(hurry);
            state.waiting.push_back(Pending {
                event: event.clone(),
                record,
                since: now,
            });
            if state.waiting.len() == 1 && state.sent.is_none() {
                lane.oldest.store(now.0, Ordering::Relaxed);
            }
            (state.records, state.waiting.len(), hurries)
        };
        if depth == 1 || hurries || depth == self.limits.batch_records {
            self.wake.notify_one();
        }
        (lane_number, number)
    }

    /// Cuts the next batch of a lane if one is due: enough records, or old enough, or `all`. `None`
    /// also while the last one is on its way. It says until when, at most `clock`, all that this node
    /// saw is told with it.
    pub fn cut(&self, lane: u16, now: Micros, clock: Micros, all: bool) -> Option<Arc<Batch>> {
        if !self.is_due(&self.lanes[usize::from(lane)].state.lock(), now, all) {
            return None;
        }
        let elsewhere = self.told_until(clock, |other| other != lane);
        let told = |state: &State| elsewhere.min(state.unsent_since().unwrap_or(clock));
        let mut state = self.lanes[usize::from(lane)].state.lock();
        if let Some(batch) = state.again.pop_front() {
            // Under a new number: the old one may be behind what the store took since.
            state.batches += 1;
            let since = batch.clock;
            let batch = Arc::new(Batch {
                seq: state.batches,
                clock: told(&state),
                ..batch
            });
            state.sent = Some(Sent {
                batch: Arc::clone(&batch),
                last: None,
                at: now,
                since,
            });
            return Some(batch);
        }
        let oldest = state.waiting.front()?.since;
        let bytes = self.limits.batch_bytes.max(RECORD_BYTES);
        let count = state
            .waiting
            .len()
            .min(self.limits.batch_records)
            .min(bytes / RECORD_BYTES);
        let mut events: Vec<(EventId, Vec<Record>)> = Vec::new();
        let mut at = AHashMap::new();
        let mut dropped = 0;
        for Pending { event, record, .. } in state.waiting.drain(..count.max(1)) {
            if self.void.has(&event, &record) {
                dropped += 1;
                continue;
            }
            match events.last_mut() {
                Some((last, records)) if *last == event => records.push(record),
                _ => {
                    let place = *at.entry(event.clone()).or_insert(events.len());
                    if place == events.len() {
                        events.push((event, Vec::new()));
                    }
                    events[place].1.push(record);
                }
            }
        }
        if self.limits.tail_records > 0 {
            // It may be kept for a minute.
            events
                .iter_mut()
                .for_each(|(_, records)| records.shrink_to_fit());
        }
        state.give_back_room();
        if state.waiting.is_empty() {
            state.hurry = Hurry::Patient;
        }
        self.held.fetch_sub(dropped, Ordering::Relaxed);
        state.batches += 1;
        let last = state.records - state.waiting.len() as u64;
        let (node, epoch, seq) = (self.node, self.epoch, state.batches);
        let batch = Arc::new(Batch {
            node,
            epoch,
            seq,
            clock: told(&state),
            events,
        });
        state.sent = Some(Sent {
            batch: Arc::clone(&batch),
            last: Some(last),
            at: now,
            since: oldest,
        });
        Some(batch)
    }

    fn is_due(&self, state: &State, now: Micros, all: bool) -> bool {
        let is_full = state.waiting.len() >= self.limits.batch_records;
        let oldest = state.waiting.front().map(|pending| pending.since);
        let is_old = |oldest: Micros| now >= oldest.after(self.patience(state));
        let due = !state.again.is_empty() || oldest.is_some_and(|at| all || is_full || is_old(at));
        due && state.sent.is_none()
    }

    /// The store has the lane's batch: everything up to its last record is durable.
    pub fn acknowledge(&self, lane: u16) {
        let lane = &self.lanes[usize::from(lane)];
        let mut state = lane.state.lock();
        let Some(Sent {
            batch,
            last: Some(last),
            at,
            ..
        }) = state.sent.take()
        else {
            return;
        };
        let oldest = state.waiting.front().map_or(0, |pending| pending.since.0);
        lane.oldest.store(oldest, Ordering::Relaxed);
        let records = batch.len();
        if self.limits.tail_records > 0 {
            state.tail.keep(at, batch, self.limits.tail_records);
        }
        drop(state);
        self.held.fetch_sub(records, Ordering::Relaxed);
        lane.acknowledged.send_replace(last);
    }

    /// The batch on its way, to be sent again after a failure.
    pub fn unacknowledged(&self, lane: u16) -> Option<Arc<Batch>> {
        let state = self.lanes[usize::from(lane)].state.lock();
        state.sent.as_ref().map(|sent| Arc::clone(&sent.batch))
    }

    /// The store may have lost what it acknowledged lately: all that is kept of it goes again, before
    /// anything new. Answers how many records that is.
    pub fn write_again(&self) -> usize {
        let again = self.lanes.iter().map(|lane| {
            let mut state = lane.state.lock();
            if !mutant!(TailNotSent) {
                state.again = state.tail.repacked();
            }
            for (event, records) in state.again.iter_mut().flat_map(|batch| &mut batch.events) {
                records.retain(|record| !self.void.has(event, record));
            }
            state.again.iter().map(Batch::len).sum::<usize>()
        });
        let records = again.sum();
        self.wake.notify_one();
        records
    }

    /// An event was forgotten: its joins and removals until then are not sent, nor sent again.
    pub fn forget(&self, event: &EventId, until: Micros) {
        self.void.forget(event, until);
    }

    /// The number of each lane's last record.
    pub fn ends(&self) -> Vec<u64> {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.state.lock().records).collect()
    }

    /// Whether the store has acknowledged all lanes' records up to these.
    pub fn has_acknowledged(&self, ends: &[u64]) -> bool {
        let mut lanes = self.lanes.iter().zip(ends);
        lanes.all(|(lane, end)| *lane.acknowledged.borrow() >= *end)
    }

    /// The store may have lost what happened since a moment, or everything since 0: every partition is
    /// to be written anew from memory.
    pub fn write_since(&self, since: Micros) {
        for lane in 0..self.partitions() {
            self.set_lost(lane, since);
        }
        self.wake.notify_one();
    }

    /// Whether any lane has something to write again.
    pub fn is_behind(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| !lane.state.lock().again.is_empty())
    }

    /// Waits until a record is durable, and has its lane hurry: some milliseconds, mostly the store's.
    pub async fn durable(&self, lane: u16, number: u64) {
        let Some(lane) = self.lanes.get(usize::from(lane)) else {
            return;
        };
        let hurries = {
            let mut state = lane.state.lock();
            let cut = state.records - state.waiting.len() as u64;
            // What is on its way already cannot be made to hurry.
            number > cut && state.hurries(Hurry::Awaited)
        };
        if hurries {
            self.wake.notify_one();
        }
        let mut mark = lane.acknowledged.subscribe();
        // The sender lives as long as the journal, which we borrow.
        let _ = mark.wait_for(|acknowledged| *acknowledged >= number).await;
    }

    /// Waits until there is something new to cut.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Since when a partition is to be written anew, if it is: everything, since 0, where records were
    /// dropped. Not asked twice.
    pub fn take_lost(&self, lane: u16) -> Option<Micros> {
        let lane = &self.lanes[usize::from(lane)];
        let since = lane.lost_since.swap(NOTHING, Ordering::Relaxed);
        (since != NOTHING).then_some(Micros(since))
    }

    /// Has a partition written anew since a moment; for a writing that did not end well, too.
    pub fn set_lost(&self, lane: u16, since: Micros) {
        let lane = &self.lanes[usize::from(lane)];
        lane.lost_since.fetch_min(since.0, Ordering::Relaxed);
    }

    /// Records that the store has not acknowledged.
    pub fn depth(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The age of the oldest record that the store has not acknowledged.
    pub fn age(&self, now: Micros) -> Duration {
        let moments = self
            .lanes
            .iter()
            .map(|lane| lane.oldest.load(Ordering::Relaxed));
        let oldest = moments.filter(|moment| *moment != 0).min();
        oldest.map_or(Duration::ZERO, |moment| now.since(Micros(moment)))
    }

    /// When the next batch is due by age, over the lanes that have nothing on its way.
    pub fn due(&self) -> Option<Micros> {
        let free = self.lanes.iter().filter_map(|lane| {
            let state = lane.state.lock();
            state
                .waiting
                .front()
                .filter(|_| state.sent.is_none())
                .map(|pending| pending.since.after(self.patience(&state)))
        });
        free.min()
    }

    fn patience(&self, state: &State) -> Duration {
        match state.hurry {
            Hurry::Patient => self.limits.patient_interval,
            Hurry::Soon => self.limits.flush_interval,
            Hurry::Awaited => self.limits.flush_interval / AWAITED_PART,
        }
    }

    /// Until when, at most `clock`, the store has all that these lanes took.
    fn told_until(&self, clock: Micros, lanes: impl Fn(u16) -> bool) -> Micros {
        let lanes = (0..).zip(&self.lanes).filter(|(number, _)| lanes(*number));
        let untold = lanes.filter_map(|(_, lane)| lane.state.lock().untold_since());
        untold.fold(clock, Micros::min)
    }

    /// A batch of records that did not come through the lane, numbered among the lane's own.
    pub fn outside(
        &self,
        lane: u16,
        clock: Micros,
        events: Vec<(EventId, Vec<Record>)>,
    ) -> Arc<Batch> {
        let clock = self.told_until(clock, |_| true);
        let mut state = self.lanes[usize::from(lane)].state.lock();
        state.batches += 1;
        Arc::new(Batch {
            node: self.node,
            epoch: self.epoch,
            seq: state.batches,
            clock,
            events,
        })
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, feature = "interleavings"))]
mod interleavings {
    use super::*;
    use crate::model::{Kind, TicketId};
    use crate::sync::check;

    /// Would catch a record that lies in its lane while the flusher sleeps: the model would not end.
    #[test]
    fn no_record_is_left_lying() {
        check(2, || {
            let limits = Limits {
                records_max: 100,
                batch_records: 2,
                batch_bytes: 1 << 20,
                flush_interval: Duration::ZERO,
                patient_interval: Duration::ZERO,
                tail_records: 0,
            };
            let journal = Arc::new(Journal::new(1, NodeId(0), 1, limits));
            let writers: Vec<_> = (0..2)
                .map(|n| {
                    let journal = Arc::clone(&journal);
                    loom::thread::spawn(move || {
                        let record = Record {
                            kind: Kind::Joined,
                            id: TicketId::from_u128(n),
                            at: Micros(1),
                        };
                        let event = EventId::new("sale").expect("a fine id");
                        journal.append(Micros(0), &event, record);
                    })
                })
                .collect();
            let mut written = 0;
            while written < 2 {
                match journal.cut(0, Micros(1), Micros(1), false) {
                    Some(batch) => {
                        written += batch.len();
                        journal.acknowledge(0);
                    }
                    None => loom::future::block_on(journal.woken()),
                }
            }
            for writer in writers {
                writer.join().expect("it ends");
            }
            assert_eq!(journal.depth(), 0);
        });
    }
}
