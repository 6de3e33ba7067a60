//! Whatever the order of joins, removals and words about turns, and how often each comes: one state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::journal::lane::{Journal, Limits};
use crate::model::pass::PassKeys;
use crate::model::token::TicketKeys;
use crate::model::{Batch, EventId, NodeId};
use crate::room::apply::GATE_EPOCH;
use crate::room::{Identity, Settings};

const SECOND: u64 = 1_000_000;
const START: Micros = Micros(1_800_000_000 * SECOND);
/// All of it lies before.
const NOW: Micros = Micros(START.0 + 1_000 * SECOND);
/// Two turns of a ticket are not given within less.
const STEP: Duration = Duration::from_millis(300);
const READY: Duration = Duration::from_secs(30);

fn room() -> Room {
    let second = Duration::from_secs(1);
    let limits = Limits {
        records_max: 1_000_000,
        batch_records: 1_000,
        batch_bytes: 100_000,
        flush_interval: second,
        patient_interval: second,
        tail_records: 0,
    };
    let identity = Identity {
        node: NodeId(0),
        fleet: 3,
        epoch: 1,
        events_max: 2,
        skew_max: second,
        lag_max: second,
        share_limit: second,
    };
    let key = [("k1".to_owned(), [7; 32])];
    let keys = (
        TicketKeys::new("k1", &key).expect("a key"),
        PassKeys::new("k1", &key).expect("a key"),
    );
    let defaults = Policy {
        ready_ttl: READY,
        late_grace: Duration::from_secs(3_600),
        ..Policy::default()
    };
    let settings = Settings {
        defaults,
        events: Default::default(),
        create_on_demand: true,
        polling: (second, second),
    };
    let journal = Arc::new(Journal::new(1, NodeId(0), 1, limits));
    Room::new(NOW, identity, settings, keys, journal)
}

/// What is said of a ticket, and after how many steps: of turns, when they were given.
fn word() -> impl Strategy<Value = (Kind, u32)> {
    let kind = prop_oneof![
        8 => Just(Kind::Joined),
        4 => Just(Kind::Left),
        2 => Just(Kind::Expired),
        6 => Just(Kind::Called),
        4 => Just(Kind::Missed),
        4 => Just(Kind::Returned),
        1 => Just(Kind::Entered),
    ];
    (kind, 1..40_u32)
}

/// State, arrival or removal, and the name of the turn.
type Told = Option<(State, Micros, Option<Micros>)>;

/// What a room makes of words about a ticket in this order.
fn told(room: &Room, id: TicketId, words: &[(Kind, u32)]) -> Told {
    let name = EventId::new("sale").expect("a name");
    for (kind, at) in words {
        let at = START.after(STEP * *at);
        let at = if kind.is_of_turn() {
            at.after(READY)
        } else {
            at
        };
        let record = Record {
            kind: *kind,
            id,
            at,
        };
        let batch = Batch {
            node: NodeId(1),
            epoch: if kind.is_of_turn() { GATE_EPOCH } else { 7 },
            seq: 1,
            clock: NOW,
            events: vec![(name.clone(), vec![record])],
        };
        room.apply(NOW, &batch);
    }
    let event = room.event("sale")?;
    let view = event.line.find(&id)?;
    let turn = event.side.lock().gate.turns.get(&id).copied();
    Some((view.state, view.time, turn))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 2_000 }))]

    #[test]
    fn words_come_in_any_order(
        words in proptest::collection::vec(word(), 1..9),
        orders in proptest::collection::vec(any::<u64>(), 24),
    ) {
        static TICKETS: AtomicU64 = AtomicU64::new(1);
        thread_local!(static ROOM: Room = room());
        let next = || TicketId::from_u128(u128::from(TICKETS.fetch_add(1, Ordering::Relaxed)) << 64);
        ROOM.with(|room| {
            let one = told(room, next(), &words);
            let mut other = words.clone();
            for (n, order) in orders.iter().enumerate() {
                let len = other.len();
                other.swap(n % len, *order as usize % len);
                let twice = [&other[..], &words[..n % 3 * len / 2]].concat();
                prop_assert_eq!(&one, &told(room, next(), &twice), "{:?} and {:?}", words, twice);
            }
            Ok(())
        })?;
    }
}
