//! Bounded lanes of records, one a partition, and the cutting of batches from them.
//!
//! Synchronous and without a clock: time is an argument, and whoever carries batches to the store
//! drives it. Oldest first; at most one batch of a lane is on its way, and a batch that failed goes
//! again as it was, under the same number.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::tail::Tail;
use crate::model::{Batch, EventId, Micros, NodeId, Record};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Notify};

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
    /// Acknowledged records of the last minute that are kept in each lane, to be written again
    /// should the store have lost them; 0 for a store that loses none.
    pub tail_records: usize,
}

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
    wake: Notify,
}

#[derive(Debug)]
struct Lane {
    /// Held for a push or a cut, never over anything else. Taken inside a line's writer lock.
    state: Mutex<State>,
    /// The number of the last record the store has acknowledged.
    acknowledged: watch::Sender<u64>,
    /// A record was dropped because the bound was reached: the partition must be written anew from
    /// memory once the store takes batches again.
    lost: AtomicBool,
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
    records: u64,
    batches: u64,
}

/// The batch on its way.
#[derive(Debug)]
struct Sent {
    batch: Arc<Batch>,
    /// The number of its last record; `None` for one that goes again.
    last: Option<u64>,
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
            lost: AtomicBool::new(false),
            oldest: AtomicU64::new(0),
        };
        Self {
            limits,
            node,
            epoch,
            lanes: (0..partitions.max(1)).map(|_| lane()).collect(),
            held: AtomicUsize::new(0),
            wake: Notify::new(),
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
        if self.held.load(Ordering::Relaxed) < self.limits.records_max {
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Appends a record to its lane and answers its lane and number. At the outer bound (an eighth
    /// above `records_max`) the record is dropped and the lane marked as [`Journal::take_lost`]
    /// tells. About 50 ns.
    pub fn append(&self, now: Micros, event: &EventId, record: Record) -> (u16, u64) {
        let lane_number = record.id.partition(self.partitions());
        let lane = &self.lanes[usize::from(lane_number)];
        let bound = self
            .limits
            .records_max
            .saturating_add(self.limits.records_max / 8);
        if self.held.fetch_add(1, Ordering::Relaxed) >= bound {
            self.held.fetch_sub(1, Ordering::Relaxed);
            if !lane.lost.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    lane = lane_number,
                    "journal full, records are being dropped"
                );
            }
            return (lane_number, lane.state.lock().records);
        }
        let (number, depth) = {
            let mut state = lane.state.lock();
            state.records += 1;
            state.waiting.push_back(Pending {
                event: event.clone(),
                record,
                since: now,
            });
            if state.waiting.len() == 1 && state.sent.is_none() {
                lane.oldest.store(now.0, Ordering::Relaxed);
            }
            (state.records, state.waiting.len())
        };
        if depth == 1 || depth == self.limits.batch_records {
            self.wake.notify_one();
        }
        (lane_number, number)
    }

    /// Cuts the next batch of a lane if one is due: enough records, or old enough, or `all`. `None`
    /// also while the last one is on its way.
    pub fn cut(&self, lane: u16, now: Micros, clock: Micros, all: bool) -> Option<Arc<Batch>> {
        let mut state = self.lanes[usize::from(lane)].state.lock();
        if state.sent.is_some() {
            return None;
        }
        if let Some(batch) = state.again.pop_front() {
            // Under a new number: the old one may be behind what the store took since.
            state.batches += 1;
            let batch = Arc::new(Batch {
                seq: state.batches,
                clock,
                ..batch
            });
            state.sent = Some(Sent {
                batch: Arc::clone(&batch),
                last: None,
            });
            return Some(batch);
        }
        let oldest = state.waiting.front()?.since;
        let due = all
            || state.waiting.len() >= self.limits.batch_records
            || now.since(oldest) >= self.limits.flush_interval;
        if !due {
            return None;
        }
        let bytes = self.limits.batch_bytes.max(RECORD_BYTES);
        let count = state
            .waiting
            .len()
            .min(self.limits.batch_records)
            .min(bytes / RECORD_BYTES);
        let mut events: Vec<(EventId, Vec<Record>)> = Vec::new();
        let mut at = ahash::AHashMap::new();
        for Pending { event, record, .. } in state.waiting.drain(..count.max(1)) {
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
        state.batches += 1;
        let last = state.records - state.waiting.len() as u64;
        let (node, epoch, seq) = (self.node, self.epoch, state.batches);
        let batch = Arc::new(Batch {
            node,
            epoch,
            seq,
            clock,
            events,
        });
        state.sent = Some(Sent {
            batch: Arc::clone(&batch),
            last: Some(last),
        });
        Some(batch)
    }

    /// The store has the lane's batch: everything up to its last record is durable.
    pub fn acknowledge(&self, lane: u16) {
        let lane = &self.lanes[usize::from(lane)];
        let mut state = lane.state.lock();
        let Some(Sent {
            batch,
            last: Some(last),
        }) = state.sent.take()
        else {
            return;
        };
        let oldest = state.waiting.front().map_or(0, |pending| pending.since.0);
        lane.oldest.store(oldest, Ordering::Relaxed);
        let records = batch.len();
        if self.limits.tail_records > 0 {
            state.tail.keep(batch, self.limits.tail_records);
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
            state.again = state.tail.repacked();
            state.again.iter().map(Batch::len).sum::<usize>()
        });
        let records = again.sum();
        self.wake.notify_one();
        records
    }

    /// The store may have lost everything: every partition is to be written anew from memory.
    pub fn write_all(&self) {
        for lane in &self.lanes {
            lane.lost.store(true, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }

    /// Whether any lane has something to write again.
    pub fn is_behind(&self) -> bool {
        self.lanes
            .iter()
            .any(|lane| !lane.state.lock().again.is_empty())
    }

    /// Waits until a record is durable.
    pub async fn durable(&self, lane: u16, number: u64) {
        let Some(lane) = self.lanes.get(usize::from(lane)) else {
            return;
        };
        let mut mark = lane.acknowledged.subscribe();
        // The sender lives as long as the journal, which we borrow.
        let _ = mark.wait_for(|acknowledged| *acknowledged >= number).await;
    }

    /// Waits until there is something new to cut.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether records of this lane were dropped since this was last asked.
    pub fn take_lost(&self, lane: u16) -> bool {
        self.lanes[usize::from(lane)]
            .lost
            .swap(false, Ordering::Relaxed)
    }

    /// Puts the mark back: writing the partition anew did not end well.
    pub fn set_lost(&self, lane: u16) {
        self.lanes[usize::from(lane)]
            .lost
            .store(true, Ordering::Relaxed);
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
                .map(|pending| pending.since)
        });
        Some(free.min()?.after(self.limits.flush_interval))
    }

    /// A batch of records that did not come through the lane, numbered among the lane's own.
    pub fn outside(
        &self,
        lane: u16,
        clock: Micros,
        events: Vec<(EventId, Vec<Record>)>,
    ) -> Arc<Batch> {
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
mod tests {
    use super::*;
    use crate::model::{Kind, TicketId};
    use proptest::prelude::*;

    fn journal(records_max: usize, batch_records: usize) -> Journal {
        let limits = Limits {
            records_max,
            batch_records,
            batch_bytes: 1 << 20,
            flush_interval: Duration::from_millis(10),
            tail_records: 4,
        };
        Journal::new(2, NodeId(0), 7, limits)
    }

    fn event(name: &str) -> EventId {
        EventId::new(name).expect("a fine id")
    }

    fn record(id: u128, at: u64) -> Record {
        Record {
            kind: Kind::Joined,
            id: TicketId::from_u128(id << 112),
            at: Micros(at),
        }
    }

    #[test]
    fn a_batch_is_cut_by_count_by_age_or_on_demand() {
        let journal = journal(100, 2);
        journal.append(Micros(0), &event("a"), record(0, 1));
        assert!(
            journal.cut(0, Micros(9_999), Micros(0), false).is_none(),
            "neither full nor old"
        );
        assert_eq!(
            journal
                .cut(0, Micros(10_000), Micros(0), false)
                .map(|b| b.len()),
            Some(1)
        );
        journal.acknowledge(0);
        journal.append(Micros(0), &event("a"), record(0, 2));
        journal.append(Micros(0), &event("a"), record(0, 3));
        journal.append(Micros(0), &event("a"), record(0, 4));
        let batch = journal.cut(0, Micros(0), Micros(0), false).expect("full");
        assert_eq!((batch.len(), batch.seq), (2, 2));
        assert!(
            journal.cut(0, Micros(0), Micros(0), true).is_none(),
            "one is on its way"
        );
        assert_eq!(journal.unacknowledged(0), Some(batch));
        journal.acknowledge(0);
        assert_eq!(
            journal.cut(0, Micros(0), Micros(0), true).map(|b| b.len()),
            Some(1)
        );
    }

    #[test]
    fn what_was_acknowledged_lately_can_be_written_again() {
        let journal = journal(100, 2);
        for n in 0..6 {
            journal.append(Micros(n), &event("a"), record(0, n));
        }
        let cut = || {
            let batch = journal.cut(0, Micros(9), Micros(9), true)?;
            journal.acknowledge(0);
            Some((
                batch.seq,
                batch.events[0].1.iter().map(|r| r.at.0).collect::<Vec<_>>(),
            ))
        };
        while cut().is_some() {}
        assert_eq!(journal.write_again(), 4, "the newest of the six");
        journal.append(Micros(9), &event("a"), record(0, 6));
        assert_eq!(cut(), Some((4, vec![2, 3, 4, 5])));
        assert_eq!(cut(), Some((5, vec![6])), "and then what is new");
        assert_eq!(journal.depth(), 0);
        assert!(cut().is_none() && !journal.is_behind());
    }

    #[test]
    fn full_is_an_answer_and_dropping_is_remembered() {
        let journal = journal(8, 4);
        for n in 0..8 {
            assert_eq!(journal.admit(), Ok(()));
            journal.append(Micros(0), &event("a"), record(0, n));
        }
        assert_eq!(journal.admit(), Err(Full));
        journal.append(Micros(0), &event("a"), record(0, 8));
        assert!(!journal.take_lost(0), "records other than joins still fit");
        journal.append(Micros(0), &event("a"), record(0, 9));
        assert!(journal.take_lost(0));
        assert_eq!(journal.depth(), 9);
        journal.cut(0, Micros(0), Micros(0), true).expect("full");
        journal.acknowledge(0);
        assert_eq!((journal.depth(), journal.admit()), (5, Ok(())));
    }

    #[tokio::test]
    async fn durable_means_acknowledged() {
        let journal = journal(8, 4);
        let (lane, number) = journal.append(Micros(0), &event("a"), record(1, 1));
        let waiting = journal.durable(lane, number);
        tokio::pin!(waiting);
        assert!(futures_poll(waiting.as_mut()).await.is_none());
        journal
            .cut(lane, Micros(0), Micros(0), true)
            .expect("on demand");
        assert!(
            futures_poll(waiting.as_mut()).await.is_none(),
            "sent is not durable"
        );
        journal.acknowledge(lane);
        assert!(futures_poll(waiting.as_mut()).await.is_some());
    }

    async fn futures_poll<F: Future + Unpin>(future: F) -> Option<F::Output> {
        tokio::select! { biased; out = future => Some(out), () = std::future::ready(()) => None }
    }

    proptest! {
        #[test]
        fn batches_lose_nothing_and_keep_each_events_order(
            appended in prop::collection::vec((0u8..3, 0u128..2), 0..200),
            cut_every in 1usize..20,
        ) {
            let journal = journal(1000, 7);
            let mut wanted = std::collections::BTreeMap::<(u16, String), Vec<u64>>::new();
            let mut got = std::collections::BTreeMap::<(u16, String), Vec<u64>>::new();
            let mut collect = |lane: u16, batch: Arc<Batch>| {
                for (event, records) in &batch.events {
                    let seen = got.entry((lane, event.to_string())).or_default();
                    seen.extend(records.iter().map(|record| record.at.0));
                }
            };
            for (n, (name, id)) in appended.iter().enumerate() {
                let name = format!("e{name}");
                let (lane, _) = journal.append(Micros(0), &event(&name), record(*id, n as u64));
                wanted.entry((lane, name)).or_default().push(n as u64);
                if n % cut_every == 0 && let Some(batch) = journal.cut(lane, Micros(0), Micros(0), true) {
                    collect(lane, batch);
                    journal.acknowledge(lane);
                }
            }
            for lane in 0..2 {
                while let Some(batch) = journal.cut(lane, Micros(0), Micros(0), true) {
                    collect(lane, batch);
                    journal.acknowledge(lane);
                }
            }
            prop_assert_eq!(journal.depth(), 0);
            prop_assert_eq!(got, wanted);
        }
    }
}

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
