//! Readers and a writer at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::super::*;
use crate::model::{Micros, TicketId, TicketKey};

fn id(n: u64) -> TicketId {
    TicketId::from_u128(u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n))
}

fn key(n: u64) -> TicketKey {
    TicketKey {
        arrival: Micros(n * 10),
        id: id(n),
    }
}

/// Runs `change` while two readers watch the tickets `watched`, whose places (in one ticket's
/// successive polls) must be in the order that `right` says.
fn watch(line: &Line, watched: &[u64], right: fn(u64, u64) -> bool, change: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2usize {
            let over = &over;
            scope.spawn(move || {
                let mine = || watched.iter().skip(reader).step_by(2);
                let mut places: Vec<_> = mine()
                    .map(|&n| line.look(&id(n), None, Micros(0)).unwrap().place)
                    .collect();
                while !over.load(Ordering::Relaxed) {
                    for (&n, before) in mine().zip(&mut places) {
                        let view = line.find(&id(n)).unwrap();
                        for place in [
                            line.look(&id(n), None, Micros(0)).unwrap().place,
                            line.place(&view),
                        ] {
                            let (was, is) = (before.unwrap(), place.unwrap());
                            assert!(right(was, is), "{n}: {was} then {is}");
                            *before = place;
                        }
                        assert!(line.rank_of_key(&key(n)) >= 1);
                    }
                }
            });
        }
        change();
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn places_never_rise_while_others_leave_and_join_the_end() {
    let line = Line::new(Micros(0), 1);
    line.write()
        .join_many(&(0..30_000).map(key).collect::<Vec<_>>(), Micros(0));
    let watched: Vec<u64> = (0..30_000).step_by(499).collect();
    watch(
        &line,
        &watched,
        |was, is| is <= was,
        || {
            let mut next = 30_000;
            for n in 0..30_000u64 {
                let n = n * 7_919 % 30_000;
                if n % 499 != 0 {
                    line.write().remove(&id(n), Micros(1 << 40), Reason::Left);
                }
                if n % 2 == 0 {
                    line.write().join(&id(next), key(next).arrival, Micros(0));
                    next += 1;
                }
            }
        },
    );
    for (i, &n) in watched.iter().enumerate() {
        assert_eq!(
            line.look(&id(n), None, Micros(0)).unwrap().place,
            Some(i as u64 + 1)
        );
    }
    assert_eq!(line.waiting(), watched.len() as u64 + 15_000);
}

#[test]
fn places_never_fall_while_late_tickets_come_in_between() {
    let line = Line::new(Micros(0), 1);
    line.write().join_many(
        &(0..20_000).step_by(2).map(key).collect::<Vec<_>>(),
        Micros(0),
    );
    let watched: Vec<u64> = (0..20_000).step_by(998).collect();
    watch(
        &line,
        &watched,
        |was, is| is >= was,
        || {
            for n in (0..10_000u64).map(|n| n * 7_919 % 10_000 * 2 + 1) {
                if n % 3 == 0 {
                    line.write().join(&id(n), key(n).arrival, Micros(0));
                } else {
                    line.write().join_many(&[key(n)], Micros(0));
                }
            }
        },
    );
    for &n in &watched {
        assert_eq!(
            line.look(&id(n), None, Micros(0)).unwrap().place,
            Some(n + 1)
        );
    }
}

#[test]
fn who_has_joined_is_found_while_the_index_grows() {
    let line = Line::new(Micros(0), 1);
    let joined = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (line, joined, over) = (&line, &joined, &over);
            scope.spawn(move || {
                let mut n = reader;
                while !over.load(Ordering::Relaxed) {
                    let known = joined.load(Ordering::Acquire);
                    n = n.wrapping_mul(25_214_903_917).wrapping_add(11);
                    if let Some(n) = n.checked_rem(known) {
                        assert!(line.find(&id(n)).is_some(), "{n} of {known}");
                    }
                    assert!(line.find(&id(1 << 40 | n)).is_none());
                }
            });
        }
        for n in 0..60_000 {
            line.write().join(&id(n), key(n).arrival, Micros(0));
            joined.store(n + 1, Ordering::Release);
        }
        over.store(true, Ordering::Relaxed);
    });
}
