//! Every key, spelled once, and the hash tags that spread partitions over the masters.
//!
//! All keys of a partition share its tag, so that a script may touch any of them. Tags are searched
//! for: the slots of P partitions lie evenly over all slots, hence evenly over any number of masters
//! that hold equal ranges.

use crate::model::EventId;
use crate::model::home::{self, crc16};

/// How many slots Redis Cluster has.
const SLOTS: u32 = 16_384;

/// The keys of a deployment with a fixed number of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    prefix: String,
    /// What the keys of each partition begin with.
    bases: Vec<String>,
}

impl Keys {
    /// The keys of `partitions` partitions. Some hundred checksums a partition.
    pub fn new(prefix: &str, partitions: u16) -> Self {
        let bases = (0..partitions).map(|n| format!("{prefix}:{{{}}}:", tag(n, partitions)));
        Self {
            prefix: prefix.to_owned(),
            bases: bases.collect(),
        }
    }

    pub fn partitions(&self) -> u16 {
        self.bases.len() as u16
    }

    /// What every key of a partition begins with; `None` beyond the last partition.
    pub fn base(&self, partition: u16) -> Option<&str> {
        self.bases.get(usize::from(partition)).map(String::as_str)
    }

    /// The partition that holds an event's gate.
    pub fn home(&self, event: &EventId) -> u16 {
        home::gate(event, self.partitions())
    }

    /// The gate keys of an event begin with this.
    pub fn home_base(&self, event: &EventId) -> &str {
        &self.bases[usize::from(self.home(event))]
    }

    /// The slot of each partition.
    pub fn slots(&self) -> Vec<u16> {
        let partitions = self.partitions();
        let slots = (0..partitions).map(|partition| slot(&tag(partition, partitions)));
        slots.map(|slot| slot as u16).collect()
    }

    /// The fixed facts.
    pub fn meta(&self) -> String {
        format!("{}:{{c}}:meta", self.prefix)
    }

    /// What the nodes say of themselves.
    pub fn nodes(&self) -> String {
        format!("{}:{{c}}:nodes", self.prefix)
    }

    /// What operators ruled, by event.
    pub fn rulings(&self) -> String {
        format!("{}:{{c}}:rulings", self.prefix)
    }

    /// The rulings that say nothing any more, by when they last changed.
    pub fn silent_rulings(&self) -> String {
        format!("{}:{{c}}:silent", self.prefix)
    }
}

/// The stream of batches.
pub(super) fn feed(base: &str) -> String {
    format!("{base}feed")
}

/// The feed's end, and the last batch of each node.
pub(super) fn state(base: &str) -> String {
    format!("{base}state")
}

/// The events that have tickets here, by when one of their removals is to be forgotten.
pub(super) fn events(base: &str) -> String {
    format!("{base}events")
}

/// The tickets of an event, by arrival.
pub(super) fn line(base: &str, event: &EventId) -> String {
    format!("{base}line:{event}")
}

/// The removals of an event, by time.
pub(super) fn gone(base: &str, event: &EventId) -> String {
    format!("{base}gone:{event}")
}

/// The events whose gate is here.
pub(super) fn gates(base: &str) -> String {
    format!("{base}gates")
}

/// Until when what an event left was erased last.
pub(super) fn erased(base: &str, event: &EventId) -> String {
    format!("{base}erased:{event}")
}

/// What an event's gate is made of, in the order in which the scripts take them.
pub(super) fn gate(base: &str, event: &EventId) -> [String; 5] {
    ["gate", "called", "missed", "active", "entered"].map(|name| format!("{base}{name}:{event}"))
}

/// The first tag of this partition whose slot is near the middle of its share: near enough for any
/// small number of masters, and found after some hundred tries.
fn tag(partition: u16, partitions: u16) -> String {
    let (partitions, share) = (u32::from(partitions), SLOTS / u32::from(partitions));
    let middle = (2 * u32::from(partition) + 1) * SLOTS / (2 * partitions);
    let mut tag = String::new();
    for n in 0_u32.. {
        tag = format!("{partition}-{n}");
        if slot(&tag).abs_diff(middle) <= share / 16 {
            break;
        }
    }
    tag
}

/// The slot of a key with this tag.
fn slot(tag: &str) -> u32 {
    u32::from(crc16(tag.as_bytes())) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slot of a key. A key of ours has exactly one tag.
    fn slot_of(key: &str) -> u32 {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'));
        slot(tag.map_or(key, |(tag, _)| tag))
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn each_of_equal_masters_gets_its_share() {
        for partitions in [1, 2, 5, 8, 16, 32] {
            let keys = Keys::new("tg", partitions);
            for masters in 1..=8 {
                let mut share = vec![0_u32; masters as usize];
                for partition in 0..partitions {
                    let slot = slot_of(&feed(keys.base(partition).unwrap()));
                    share[(slot * masters / SLOTS) as usize] += 1;
                }
                let fair = u32::from(partitions) / masters;
                assert!(
                    share
                        .iter()
                        .all(|&n| n == fair || n == fair + 1 || n + 1 == fair),
                    "{partitions} partitions on {masters} masters: {share:?}"
                );
            }
        }
    }

    #[test]
    fn names_never_change() {
        let keys = Keys::new("tg", 16);
        assert_eq!(keys.base(0), Some("tg:{0-67}:"));
        assert_eq!(keys.base(15), Some("tg:{15-43}:"));
        assert_eq!(keys.base(16), None);
        assert_eq!(keys.meta(), "tg:{c}:meta");
        let event = EventId::new("evt:a").unwrap();
        let base = keys.home_base(&event);
        assert_eq!(gate(base, &event)[1], format!("{base}called:evt:a"));
        for key in gate(base, &event) {
            assert_eq!(slot_of(&key), slot_of(&feed(base)));
        }
    }
}
