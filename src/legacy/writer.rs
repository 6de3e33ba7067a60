//! Writes to the store what of the other gateway's sale it does not have yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use tokio::time::sleep;

use super::sale::{Sale, Skip, Verdict};
use super::tally::{Counts, Tally};
use crate::clock::Clock;
use crate::model::legacy::LIVES;
use crate::model::token::TicketKeys;
use crate::model::{Batch, EventId, Gone, Kind, Micros, NodeId, Record, Rulings, TicketId, micros};
use crate::store::{Retry, Store, StoreError, Stored};

/// Records of one batch, as a node's journal has by default.
const BATCH_RECORDS: usize = 1_024;
/// Tickets of one piece that is read from the store.
const CHUNK: usize = 65_536;
/// Who entered there is said to have done so this long ago.
const ENTERED_BEFORE: Duration = Duration::from_secs(10 * 60);
/// Between attempts to write a batch; after the last one the import ends.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A long import says how far it is this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Writes a sale to a store, from outside the fleet.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Where to.
    pub store: &'a dyn Store,
    /// The fleet's keys: ids are made with them.
    pub keys: &'a TicketKeys,
    /// Time.
    pub clock: &'a Clock,
}

/// How a ticket stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Live,
    Gone(Gone),
}

type Held = AHashMap<TicketId, Standing>;

impl Writer<'_> {
    /// Writes the difference, in the order of the line. Whatever happens in between, doing it again
    /// goes on where it ended. `rulings` are those of the store: what they make void is left out.
    ///
    /// # Errors
    /// The store does not answer for long.
    pub async fn write(
        &self,
        sale: &Sale,
        partitions: u16,
        rulings: &Rulings,
    ) -> Result<Tally, StoreError> {
        let now = self.now();
        let forgotten = |event| rulings.events.get(event).map(|ruling| ruling.forgotten);
        let forgotten: Vec<_> = sale.events().iter().map(forgotten).collect();
        let mut tally = Tally::of(sale, false);
        let mut records = Vec::new();
        for partition in 0..partitions {
            let held = self.held(partition).await?;
            for (event, token, verdict) in sale.verdicts(now) {
                if token.partition(partitions) != partition {
                    continue;
                }
                let verdict = match (verdict, forgotten[event as usize]) {
                    (Verdict::Waiting(at), Some(until)) if at <= until => {
                        Verdict::Skipped(Skip::Void)
                    }
                    _ => verdict,
                };
                let ids = self.keys.legacy_ids(token);
                let counts = tally.event(event);
                let record = difference(verdict, &ids, &held, now, counts);
                records.extend(record.map(|record| (event, record)));
            }
        }
        // Running nodes take what comes at the end of their line in a fraction of the time.
        records.sort_unstable_by_key(|(_, record)| (record.at, record.id));
        // Never the gates' own; another one each time, so that no batch is taken for a repetition.
        let epoch = rand::random::<u32>().max(1);
        let mut lanes: Vec<_> = (0..partitions).map(|_| Lane::new(epoch)).collect();
        let (mut told, of) = (now, records.len());
        for (at, (event, record)) in records.into_iter().enumerate() {
            let partition = record.id.partition(partitions);
            let event = &sale.events()[event as usize];
            if let Some(batch) = lanes[usize::from(partition)].push(event, record) {
                self.append(partition, batch).await?;
                if self.now().since(told) >= PROGRESS_EVERY {
                    told = self.now();
                    tracing::info!(records = at + 1, of, "writing");
                }
            }
        }
        for (partition, lane) in (0..).zip(&mut lanes) {
            if let Some(batch) = lane.cut() {
                self.append(partition, batch).await?;
            }
        }
        Ok(tally)
    }

    /// What the store has of legacy tickets in one partition.
    async fn held(&self, partition: u16) -> Result<Held, StoreError> {
        let mut held = Held::new();
        let mut next = None;
        loop {
            let chunk = self.store.load(partition, next, CHUNK).await?;
            let tickets = chunk.tickets.into_iter().flat_map(|(_, tickets)| tickets);
            for ticket in tickets {
                let (id, standing) = match ticket {
                    Stored::Live { id, .. } => (id, Standing::Live),
                    Stored::Removed { id, why, .. } => (id, Standing::Gone(why)),
                };
                // One that came back after a removal is answered twice, and lives.
                if id.may_be_legacy() && held.get(&id) != Some(&Standing::Live) {
                    held.insert(id, standing);
                }
            }
            next = chunk.next;
            if next.is_none() {
                return Ok(held);
            }
        }
    }

    async fn append(&self, partition: u16, batch: Batch) -> Result<(), StoreError> {
        let batch = Arc::new(batch);
        let mut pauses = PAUSES.into_iter();
        loop {
            let failed = match self.store.append(partition, Arc::clone(&batch)).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            match pauses.next() {
                Some(pause) if failed.retry != Retry::Never => {
                    tracing::warn!(error = %failed, "a batch was not written, trying again");
                    sleep(pause).await;
                }
                _ => return Err(failed),
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(self.clock.now_micros())
    }
}

/// What is to be written for one token, if anything, and how it counts.
fn difference(
    verdict: Verdict,
    ids: &[TicketId; LIVES],
    held: &Held,
    now: Micros,
    counts: &mut Counts,
) -> Option<Record> {
    let live = ids.iter().find(|id| held.get(id) == Some(&Standing::Live));
    // The first life that did not end by expiring: the owner may have been with the other gateway
    // all the time.
    let expired = Some(&Standing::Gone(Gone::Expired));
    let next = ids.iter().find(|id| held.get(id) != expired);
    match (verdict, live, next) {
        (Verdict::Skipped(why), ..) => {
            counts.skip(why);
            None
        }
        (Verdict::Waiting(_), Some(&id), _) => {
            counts.there += 1;
            // Its owner is with the other gateway still: the fleet must not take it for dead.
            let (kind, at) = (Kind::Seen, now);
            Some(Record { kind, id, at })
        }
        (Verdict::Waiting(at), None, Some(&id)) if !held.contains_key(&id) => {
            counts.moved += 1;
            let kind = Kind::Joined;
            Some(Record { kind, id, at })
        }
        (Verdict::Waiting(_), None, Some(_)) => {
            counts.gone_here += 1;
            None
        }
        (Verdict::Waiting(_), None, None) => {
            counts.used_up += 1;
            None
        }
        (Verdict::Entered, live, next) => {
            let unknown = next.filter(|id| !held.contains_key(id));
            let Some(&id) = live.or(unknown) else {
                counts.entered_before += 1;
                return None;
            };
            counts.entered += 1;
            // So long ago that no pass of ours is made from it: they have one of the other gateway's.
            let at = Micros(now.0.saturating_sub(micros(ENTERED_BEFORE)));
            let kind = Kind::Entered;
            Some(Record { kind, id, at })
        }
    }
}

/// Records of one partition on their way into batches.
struct Lane {
    epoch: u32,
    /// The number of the last batch.
    seq: u64,
    open: BTreeMap<EventId, Vec<Record>>,
    records: usize,
}

impl Lane {
    fn new(epoch: u32) -> Self {
        Self {
            epoch,
            seq: 0,
            open: BTreeMap::new(),
            records: 0,
        }
    }

    /// Adds a record; answers a batch when it is full.
    fn push(&mut self, event: &EventId, record: Record) -> Option<Batch> {
        match self.open.get_mut(event) {
            Some(records) => records.push(record),
            None => {
                self.open.insert(event.clone(), vec![record]);
            }
        }
        self.records += 1;
        (self.records == BATCH_RECORDS).then(|| self.cut())?
    }

    /// What was added since the last batch.
    fn cut(&mut self) -> Option<Batch> {
        if self.records == 0 {
            return None;
        }
        self.records = 0;
        self.seq += 1;
        Some(Batch {
            node: NodeId::OUTSIDE,
            epoch: self.epoch,
            seq: self.seq,
            // No stamp of the fleet's clock: nobody goes by it.
            clock: Micros(0),
            events: std::mem::take(&mut self.open).into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_800_000_000_000_000);
    const JOINED: Micros = Micros(1_799_999_000_000_000);
    const IDS: [TicketId; LIVES] = [
        TicketId::from_u128(1),
        TicketId::from_u128(2),
        TicketId::from_u128(3),
    ];

    /// What is written, given how each life stands.
    fn written(
        verdict: Verdict,
        lives: [Option<Standing>; LIVES],
    ) -> (Option<(Kind, u128)>, Counts) {
        let held = IDS.into_iter().zip(lives);
        let held = held.filter_map(|(id, standing)| Some((id, standing?)));
        let mut counts = Counts::default();
        let record = difference(verdict, &IDS, &held.collect(), NOW, &mut counts);
        assert_eq!(counts.read(), 1);
        (record.map(|r| (r.kind, r.id.as_u128())), counts)
    }

    const LIVE: Option<Standing> = Some(Standing::Live);
    const LEFT: Option<Standing> = Some(Standing::Gone(Gone::Left));
    const EXPIRED: Option<Standing> = Some(Standing::Gone(Gone::Expired));
    const ENTERED: Option<Standing> = Some(Standing::Gone(Gone::Entered));

    #[test]
    fn who_waits_is_put_in_line_once_and_kept_alive_after() {
        let waiting = |lives| written(Verdict::Waiting(JOINED), lives).0;
        assert_eq!(waiting([None; 3]), Some((Kind::Joined, 1)));
        assert_eq!(waiting([LIVE, None, None]), Some((Kind::Seen, 1)));
        assert_eq!(waiting([EXPIRED, None, None]), Some((Kind::Joined, 2)));
        assert_eq!(waiting([EXPIRED, LIVE, None]), Some((Kind::Seen, 2)));
        // The first life's removal is forgotten after a while.
        assert_eq!(waiting([None, LIVE, None]), Some((Kind::Seen, 2)));
        assert_eq!(waiting([EXPIRED, EXPIRED, None]), Some((Kind::Joined, 3)));
        assert_eq!(waiting([EXPIRED; 3]), None);
        assert_eq!(waiting([LEFT, None, None]), None);
        assert_eq!(waiting([EXPIRED, ENTERED, None]), None);
    }

    #[test]
    fn who_entered_there_cannot_enter_here() {
        let entered = |lives| written(Verdict::Entered, lives).0;
        assert_eq!(entered([None; 3]), Some((Kind::Entered, 1)));
        assert_eq!(entered([LIVE, None, None]), Some((Kind::Entered, 1)));
        assert_eq!(entered([EXPIRED, LIVE, None]), Some((Kind::Entered, 2)));
        assert_eq!(entered([EXPIRED, None, None]), Some((Kind::Entered, 2)));
        assert_eq!(entered([ENTERED, None, None]), None);
        assert_eq!(entered([LEFT, None, None]), None);
        assert_eq!(entered([EXPIRED; 3]), None);
    }

    #[test]
    fn who_stays_behind_is_counted_and_never_removed() {
        let (record, counts) = written(Verdict::Skipped(Skip::Gone), [LIVE, None, None]);
        assert_eq!((record, counts.gone), (None, 1));
    }

    #[test]
    fn batches_are_bounded_and_numbered() {
        let event = EventId::new("e").unwrap();
        let mut lane = Lane::new(7);
        let mut batches = Vec::new();
        for n in 0..2_100 {
            let record = Record {
                kind: Kind::Joined,
                id: TicketId::from_u128(n),
                at: NOW,
            };
            batches.extend(lane.push(&event, record));
        }
        batches.extend(lane.cut());
        assert!(lane.cut().is_none());
        let sizes: Vec<_> = batches.iter().map(|b| (b.seq, b.len())).collect();
        assert_eq!(sizes, [(1, 1_024), (2, 1_024), (3, 52)]);
    }
}
