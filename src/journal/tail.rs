//! What the store acknowledged lately, kept to be written again should it have lost it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Batch, Micros};

/// Stores acknowledge before all their copies have the write; what is older is safe on them.
const KEPT: Duration = Duration::from_secs(60);
/// Records of one batch that goes again.
const REPACKED: usize = 4_096;

/// The acknowledged tail of one lane, bounded by age and by records.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// With when each was cut.
    batches: VecDeque<(Micros, Arc<Batch>)>,
    records: usize,
}

impl Tail {
    /// Keeps a batch that was cut at `at`, and of all at most `records_max` records of the last minute.
    pub fn keep(&mut self, at: Micros, batch: Arc<Batch>, records_max: usize) {
        self.records += batch.len();
        self.batches.push_back((at, batch));
        while let Some((cut, oldest)) = self.batches.front()
            && (self.records > records_max || at.since(*cut) > KEPT)
        {
            self.records -= oldest.len();
            self.batches.pop_front();
        }
    }

    /// All that is kept, oldest first, in as few batches of some thousands of records as hold it:
    /// what is new waits behind them.
    pub fn repacked(&self) -> VecDeque<Batch> {
        let mut packed: VecDeque<Batch> = VecDeque::new();
        for (_, batch) in &self.batches {
            match packed.back_mut() {
                Some(last) if last.len() + batch.len() <= REPACKED => {
                    for (event, records) in &batch.events {
                        match last.events.iter_mut().find(|(known, _)| known == event) {
                            Some((_, held)) => held.extend(records),
                            None => last.events.push((event.clone(), records.clone())),
                        }
                    }
                }
                _ => packed.push_back(Batch::clone(batch)),
            }
        }
        packed
    }
}
