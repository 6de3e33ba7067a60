//! Joins and removals in any order, and twice, end in the same state.

use proptest::prelude::*;

use super::super::*;
use super::model::Model;
use crate::model::{Micros, TicketId, TicketKey};

#[derive(Debug, Clone, Copy)]
enum Record {
    Joined(TicketKey),
    Removed(TicketId, Micros, Reason),
}

fn record() -> impl Strategy<Value = Record> {
    let id = (1..3u128).prop_map(|n| TicketId::from_u128(n << 64));
    let at = (1..7u64).prop_map(Micros);
    let reason = prop_oneof![
        Just(Reason::Expired),
        Just(Reason::Left),
        Just(Reason::Entered)
    ];
    prop_oneof![
        3 => (id.clone(), at.clone()).prop_map(|(id, arrival)| Record::Joined(TicketKey { arrival, id })),
        2 => (id, at, reason).prop_map(|(id, at, why)| Record::Removed(id, at, why)),
    ]
}

fn apply(line: &Line, record: Record) {
    match record {
        Record::Joined(key) => {
            line.write().join(&key.id, key.arrival, Micros(0));
        }
        Record::Removed(id, at, why) => {
            line.write().remove(&id, at, why);
        }
    }
}

/// Calls `f` with every order of `records` (Heap's algorithm).
fn permutations(records: &mut [Record], k: usize, f: &mut impl FnMut(&[Record])) {
    if k <= 1 {
        return f(records);
    }
    for i in 0..k {
        permutations(records, k - 1, f);
        records.swap(if k.is_multiple_of(2) { i } else { 0 }, k - 1);
    }
}

proptest! {
    #![proptest_config(super::config(64))]

    #[test]
    fn all_orders_of_records_converge(records in prop::collection::vec(record(), 1..6), twice in any::<prop::sample::Index>()) {
        let mut model = Model::default();
        for record in &records {
            match *record {
                Record::Joined(key) => model.join(key),
                Record::Removed(id, at, why) => model.remove(id, at, why),
            }
        }
        let count = records.len();
        permutations(&mut records.clone(), count, &mut |order| {
            let line = Line::new(Micros(0), 1);
            for &record in order {
                apply(&line, record);
            }
            apply(&line, *twice.get(order));
            model.check(&line, 1);
        });
    }
}

#[test]
fn a_removal_between_two_arrivals_leaves_the_later_one() {
    let line = Line::new(Micros(0), 1);
    let id = TicketId::from_u128(5);
    let mut writer = line.write();
    assert_eq!(writer.join(&id, Micros(10), Micros(10)), Joined::New);
    assert_eq!(writer.join(&id, Micros(30), Micros(30)), Joined::Known);
    assert_eq!(writer.join(&id, Micros(5), Micros(30)), Joined::Moved);
    let removed = writer.remove(&id, Micros(20), Reason::Left);
    assert_eq!(
        removed,
        Removed {
            was: Some(State::Waiting),
            now: Some(State::Waiting)
        }
    );
    assert_eq!(line.find(&id).map(|v| v.time), Some(Micros(30)));
    assert_eq!(
        writer.join(&id, Micros(15), Micros(40)),
        Joined::Known,
        "before the removal"
    );
    let removed = writer.remove(&id, Micros(40), Reason::Entered);
    assert_eq!(removed.now, Some(State::Entered));
    let gone = Joined::Gone {
        state: State::Entered,
        removed: Micros(40),
    };
    assert_eq!(writer.join(&id, Micros(40), Micros(50)), gone);
    assert_eq!(writer.join(&id, Micros(41), Micros(50)), gone);
    writer.remove(&id, Micros(60), Reason::Left);
    assert_eq!(line.find(&id).map(|v| v.state), Some(State::Entered));
    assert_eq!(line.waiting(), 0);
}

#[test]
fn a_ticket_unknown_to_the_line_is_remembered_as_removed() {
    let line = Line::new(Micros(0), 1);
    let id = TicketId::from_u128(5);
    let removed = line.write().remove(&id, Micros(20), Reason::Expired);
    assert_eq!(
        removed,
        Removed {
            was: None,
            now: Some(State::Expired)
        }
    );
    let gone = Joined::Gone {
        state: State::Expired,
        removed: Micros(20),
    };
    assert_eq!(line.write().join(&id, Micros(20), Micros(20)), gone);
    assert_eq!((line.waiting(), line.len()), (0, 1));
}

#[test]
fn the_same_key_with_another_body_is_found_by_its_prefix() {
    let line = Line::new(Micros(0), 1);
    let id = TicketId::from_u128(77 << 32 | 1);
    let other = TicketId::from_u128(77 << 32 | 2);
    let prefix = id.as_bytes()[..12].try_into().unwrap();
    assert_eq!(line.find_prefix(&prefix), None);
    line.write().join(&id, Micros(1), Micros(1));
    assert_eq!(line.find(&other), None);
    assert_eq!(line.find_prefix(&prefix), line.find(&id));
    line.write().remove(&id, Micros(2), Reason::Left);
    assert_eq!(
        line.find_prefix(&prefix).map(|v| v.id),
        Some(id),
        "a gone one if no other"
    );
    line.write().join(&other, Micros(3), Micros(3));
    assert_eq!(
        line.find_prefix(&prefix).map(|v| v.id),
        Some(other),
        "a live one first"
    );
}
