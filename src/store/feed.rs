//! A feed in memory: the newest batches of one partition, bounded by age and by size.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Batch, Micros, micros};

use super::{Feed, Position};

/// How much of a feed is kept in memory for those who follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedLimits {
    /// Older batches are dropped.
    pub age: Duration,
    /// Beyond this many records the oldest batches are dropped; about 40 bytes each. The newest
    /// batch always stays.
    pub records_max: usize,
}

impl Default for FeedLimits {
    fn default() -> Self {
        Self {
            age: Duration::from_secs(60),
            records_max: 1_000_000,
        }
    }
}

/// The feed of one partition.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    records: usize,
    /// All that came after this is still here.
    start: Position,
    end: Position,
}

#[derive(Debug)]
struct Entry {
    position: Position,
    at: Micros,
    batch: Arc<Batch>,
}

impl Ring {
    /// An empty feed whose entries come after `start`.
    pub fn new(start: Position) -> Self {
        Self {
            entries: VecDeque::new(),
            records: 0,
            start,
            end: start,
        }
    }

    pub fn end(&self) -> Position {
        self.end
    }

    pub fn push(&mut self, now: Micros, batch: Arc<Batch>, limits: &FeedLimits) -> Position {
        self.end = Position(self.end.0 + 1);
        self.records += batch.len();
        self.entries.push_back(Entry {
            position: self.end,
            at: now,
            batch,
        });
        self.trim(now, limits);
        self.end
    }

    pub fn follow(&self, after: Position, limit: usize) -> Feed {
        let from = self.entries.partition_point(|e| e.position <= after);
        let held = self.entries.range(from..).take(limit);
        Feed {
            batches: held.map(|e| (e.position, Arc::clone(&e.batch))).collect(),
            // A position past the end is one of another store's: this one began anew.
            trimmed: after < self.start || after > self.end,
        }
    }

    fn trim(&mut self, now: Micros, limits: &FeedLimits) {
        let horizon = now.0.saturating_sub(micros(limits.age));
        while self.entries.len() > 1
            && let Some(oldest) = self.entries.front()
            && (oldest.at.0 < horizon || self.records > limits.records_max)
        {
            self.start = oldest.position;
            self.records -= oldest.batch.len();
            self.entries.pop_front();
        }
    }
}
