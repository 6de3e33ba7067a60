//! A room as benchmarks want it: large, without a store behind its journal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::journal::lane::{Journal, Limits};
use tidegate::model::pass::PassKeys;
use tidegate::model::token::TicketKeys;
use tidegate::model::{Micros, NodeId, Policy};
use tidegate::room::{Identity, Room, Settings};

/// When it opens.
pub const START: Micros = Micros(1_800_000_000_000_000);

/// A secret of nobody.
pub fn keys() -> (TicketKeys, PassKeys) {
    let key = vec![("k1".to_owned(), [7; 32])];
    (
        TicketKeys::new("k1", &key).expect("a key"),
        PassKeys::new("k1", &key).expect("a key"),
    )
}

/// An empty room with a journal for `tickets`.
pub fn room(tickets: usize) -> Room {
    let limits = Limits {
        records_max: tickets * 2,
        batch_records: 4096,
        batch_bytes: 1 << 20,
        flush_interval: Duration::from_millis(10),
        patient_interval: Duration::from_millis(200),
        tail_records: 0,
    };
    let identity = Identity {
        node: NodeId(0),
        fleet: 1,
        epoch: 1,
        events_max: 10,
        skew_max: Duration::from_secs(1),
        lag_max: Duration::from_millis(500),
        share_limit: Duration::from_secs(300),
    };
    let settings = Settings {
        defaults: Policy {
            max_waiting: 20_000_000,
            ..Policy::default()
        },
        events: BTreeMap::new(),
        create_on_demand: true,
        polling: (Duration::from_secs(1), Duration::from_secs(30)),
    };
    let journal = Arc::new(Journal::new(16, NodeId(0), 1, limits));
    Room::new(START, identity, settings, keys(), journal)
}

/// Takes the records out, as if a store had them.
#[allow(dead_code, reason = "not every benchmark changes the room")]
pub fn empty_journal(room: &Room) {
    for lane in 0..room.journal().partitions() {
        while room.journal().cut(lane, START, START, true).is_some() {
            room.journal().acknowledge(lane);
        }
    }
}
