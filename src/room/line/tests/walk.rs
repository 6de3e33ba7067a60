//! Walks through the line against a sorted list.

use proptest::prelude::*;

use super::super::*;
use super::config;
use crate::model::{Micros, TicketId, TicketKey};

fn key(arrival: u64, n: u128) -> TicketKey {
    TicketKey {
        arrival: Micros(arrival),
        id: TicketId::from_u128(n << 70 | n),
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn walks_show_whom_a_sorted_list_has(
        joins in prop::collection::vec((1_000..2_000_u64, 0..400_u128), 1..400),
        gone in prop::collection::vec(0..400_u128, 0..100),
        from in (900..2_100_u64, 0..400_u128),
        (count, place) in (0..50_usize, 0..450_u64),
    ) {
        let line = Line::new(Micros(0), 4);
        let mut all = std::collections::BTreeMap::new();
        {
            let mut writer = line.write();
            for &(arrival, n) in &joins {
                let key = key(arrival, n);
                all.entry(n).and_modify(|old: &mut TicketKey| *old = key.min(*old)).or_insert(key);
                writer.join(&key.id, key.arrival, Micros(2_000));
            }
            for (turn, n) in (0..).zip(&gone) {
                let Some(key) = all.remove(n) else { continue };
                if turn % 2 == 0 {
                    writer.call(&key.id, Micros(1_000_000));
                } else {
                    writer.set_leaving(&key.id, true);
                    all.insert(*n, key);
                }
            }
        }
        let writer = line.write();
        let mut sorted: Vec<TicketKey> = all.into_values().collect();
        sorted.sort_unstable();
        let at = sorted.get(place as usize).map(|key| (key.arrival, true));
        let last = sorted.last().map(|key| (key.arrival, false));
        prop_assert_eq!(writer.arrival_at(place), at.or(last));

        let from = key(from.0, from.1);
        let next: Vec<_> = sorted.iter().filter(|key| **key > from).take(count).collect();
        let stays = |key: &&&TicketKey| line.find(&key.id).is_some_and(|view| !view.leaving);
        let expected: Vec<TicketKey> = next.iter().filter(stays).map(|key| **key).collect();
        let mut met = Vec::new();
        let last = writer.walk(from, count, |key| {
            met.push(key);
            true
        });
        prop_assert_eq!(&met, &expected);
        prop_assert_eq!(last, next.last().map_or(from, |key| **key));
        // Ended early: the one that was not taken is met again.
        let mut first = None;
        let stopped = writer.walk(from, count, |key| first.replace(key).is_some());
        prop_assert!(stopped < first.unwrap_or(key(u64::MAX, 0)));
    }
}
