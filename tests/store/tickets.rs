use tidegate::model::{Gone, Kind};
use tidegate::store::{Cursor, Retry};

use super::kit::*;

pub async fn what_was_appended_is_loaded_in_pieces(bench: Bench) {
    let store = &*bench.store;
    for name in ["a", "b", "a:b"] {
        let records = (0..10).map(|n| joined(n, 100 + n as u64)).collect();
        store.append(3, batch(name, records)).await.unwrap();
    }
    let mut expected = Vec::new();
    for name in ["a", "a:b", "b"] {
        expected.extend((0..10).map(|n| (event(name), live(n, 100 + n as u64))));
    }
    assert_eq!(all(store, 3).await, expected);
    let first = store.load(3, None, 7).await.unwrap();
    assert_eq!(first.tickets.iter().map(|(_, t)| t.len()).sum::<usize>(), 7);
    assert!(first.next.is_some());
    assert!(store.load(3, None, 30).await.unwrap().next.is_none());
}

pub async fn the_earliest_arrival_after_the_newest_removal_counts(bench: Bench) {
    let store = &*bench.store;
    let steps = [
        (joined(1, 20), vec![live(1, 20)]),
        (joined(1, 10), vec![live(1, 10)]),
        (joined(1, 15), vec![live(1, 10)]),
        (record(Kind::Left, 1, 30), vec![removed(1, 30, Gone::Left)]),
        (joined(1, 30), vec![removed(1, 30, Gone::Left)]),
        (joined(1, 50), vec![removed(1, 30, Gone::Left), live(1, 50)]),
        (
            record(Kind::Expired, 1, 40),
            vec![removed(1, 40, Gone::Expired), live(1, 50)],
        ),
        (
            joined(1, 35),
            vec![removed(1, 40, Gone::Expired), live(1, 50)],
        ),
        (
            record(Kind::Entered, 1, 60),
            vec![removed(1, 60, Gone::Entered)],
        ),
        (
            record(Kind::Left, 1, 70),
            vec![removed(1, 60, Gone::Entered)],
        ),
        (joined(1, 80), vec![removed(1, 60, Gone::Entered)]),
    ];
    for (step, expected) in steps {
        store.append(0, batch("e", vec![step])).await.unwrap();
        let held: Vec<_> = all(store, 0).await.into_iter().map(|(_, t)| t).collect();
        assert_eq!(held, expected, "after {step:?}");
    }
}

pub async fn records_merge_the_same_in_any_order(bench: Bench) {
    let store = &*bench.store;
    let lives = [
        (
            [joined(1, 20), joined(1, 10), record(Kind::Left, 1, 30)],
            vec![removed(1, 30, Gone::Left)],
        ),
        (
            [
                record(Kind::Left, 1, 30),
                record(Kind::Entered, 1, 40),
                joined(1, 50),
            ],
            vec![removed(1, 40, Gone::Entered)],
        ),
        (
            [
                record(Kind::Expired, 1, 60),
                record(Kind::Entered, 1, 40),
                record(Kind::Entered, 1, 45),
            ],
            vec![removed(1, 45, Gone::Entered)],
        ),
        (
            [joined(1, 70), joined(1, 60), record(Kind::Expired, 1, 30)],
            vec![removed(1, 30, Gone::Expired), live(1, 60)],
        ),
    ];
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for (life, (records, expected)) in lives.into_iter().enumerate() {
        for (turn, order) in orders.into_iter().enumerate() {
            let name = format!("{life}-{turn}");
            for n in order {
                let batch = batch(&name, vec![records[n]]);
                store.append(0, batch).await.unwrap();
            }
            let held = all(store, 0).await.into_iter();
            let held = held.filter(|(held, _)| *held == event(&name));
            let held: Vec<_> = held.map(|(_, ticket)| ticket).collect();
            assert_eq!(held, expected, "{records:?} in order {order:?}");
        }
    }
}

pub async fn a_batch_applied_twice_is_applied_once(bench: Bench) {
    let store = &*bench.store;
    let batch = batch(
        "e",
        vec![joined(1, 10), joined(2, 20), record(Kind::Left, 2, 30)],
    );
    store.append(0, batch.clone()).await.unwrap();
    let once = all(store, 0).await;
    store.append(0, batch).await.unwrap();
    assert_eq!(all(store, 0).await, once);
}

pub async fn records_that_are_not_durable_leave_nothing(bench: Bench) {
    let store = &*bench.store;
    let end = store.feed_end(0).await.unwrap();
    let kinds = [
        Kind::Seen,
        Kind::Called,
        Kind::Missed,
        Kind::Returned,
        Kind::Leaving,
    ];
    let records = kinds.into_iter().map(|kind| record(kind, 1, 10)).collect();
    store.append(0, batch("e", records)).await.unwrap();
    assert_eq!(all(store, 0).await, vec![]);
    assert_eq!(store.follow(0, end, 9).await.unwrap().batches[0].1.len(), 5);
}

pub async fn partitions_and_events_are_apart(bench: Bench) {
    let store = &*bench.store;
    for partition in [0, 1, 15] {
        let joined = batch("e", vec![joined(1, 10)]);
        store.append(partition, joined).await.unwrap();
    }
    let left = batch("e", vec![record(Kind::Left, 1, 20)]);
    store.append(1, left).await.unwrap();
    store
        .append(0, batch("f", vec![joined(1, 30)]))
        .await
        .unwrap();
    assert_eq!(
        all(store, 0).await,
        vec![(event("e"), live(1, 10)), (event("f"), live(1, 30))]
    );
    assert_eq!(
        all(store, 1).await,
        vec![(event("e"), removed(1, 20, Gone::Left))]
    );
    assert_eq!(all(store, 2).await, vec![]);
    assert_eq!(all(store, 15).await, vec![(event("e"), live(1, 10))]);
}

pub async fn removals_are_forgotten_after_their_time(bench: Bench) {
    let store = &*bench.store;
    let left = vec![
        joined(1, START - 9),
        record(Kind::Left, 1, START),
        record(Kind::Left, 2, START + 5),
        record(Kind::Left, 3, START),
        joined(3, START + 9),
    ];
    store.append(0, batch("e", left)).await.unwrap();
    bench.clock.pass(KEEP_REMOVED);
    for _ in 0..2 {
        store.append(1, batch("e", vec![])).await.unwrap();
        store.append(0, batch("e", vec![])).await.unwrap();
    }
    assert_eq!(
        all(store, 0).await,
        vec![
            (event("e"), removed(2, START + 5, Gone::Left)),
            (event("e"), live(3, START + 9)),
        ]
    );
    // What is forgotten refuses nothing any more.
    let late = batch("e", vec![joined(1, START - 9)]);
    store.append(0, late).await.unwrap();
    assert_eq!(all(store, 0).await[0], (event("e"), live(1, START - 9)));
}

pub async fn a_foreign_cursor_is_refused(bench: Bench) {
    let load = bench.store.load(0, Some(Cursor(vec![7])), 1).await;
    assert_eq!(load.unwrap_err().retry, Retry::Never);
}

pub async fn the_fixed_facts_stay(bench: Bench) {
    let meta = bench.store.meta(16).await.unwrap();
    assert_eq!(meta.partitions, 16);
    assert!(!meta.deployment.is_empty());
    assert_eq!(bench.store.meta(8).await.unwrap(), meta);
}
