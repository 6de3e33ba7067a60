use super::*;
use crate::model::{Kind, TicketId};
use proptest::prelude::*;

fn journal(records_max: usize, batch_records: usize) -> Journal {
    let limits = Limits {
        records_max,
        batch_records,
        batch_bytes: 1 << 20,
        flush_interval: Duration::from_millis(10),
        patient_interval: Duration::from_millis(200),
        tail_records: 4,
    };
    Journal::new(2, NodeId(0), 7, limits)
}

fn event(name: &str) -> EventId {
    EventId::new(name).expect("a fine id")
}

fn record(id: u128, at: u64) -> Record {
    Record {
        kind: Kind::Joined,
        id: TicketId::from_u128(id << 112),
        at: Micros(at),
    }
}

#[test]
fn a_batch_is_cut_by_count_by_age_or_on_demand() {
    let journal = journal(100, 2);
    journal.append(Micros(0), &event("a"), record(0, 1));
    assert!(
        journal.cut(0, Micros(9_999), Micros(0), false).is_none(),
        "neither full nor old"
    );
    assert_eq!(
        journal
            .cut(0, Micros(10_000), Micros(0), false)
            .map(|b| b.len()),
        Some(1)
    );
    journal.acknowledge(0);
    journal.append(Micros(0), &event("a"), record(0, 2));
    journal.append(Micros(0), &event("a"), record(0, 3));
    journal.append(Micros(0), &event("a"), record(0, 4));
    let batch = journal.cut(0, Micros(0), Micros(0), false).expect("full");
    assert_eq!((batch.len(), batch.seq), (2, 2));
    assert!(
        journal.cut(0, Micros(0), Micros(0), true).is_none(),
        "one is on its way"
    );
    assert_eq!(journal.unacknowledged(0), Some(batch));
    journal.acknowledge(0);
    assert_eq!(
        journal.cut(0, Micros(0), Micros(0), true).map(|b| b.len()),
        Some(1)
    );
}

#[test]
fn what_was_acknowledged_lately_can_be_written_again() {
    let journal = journal(100, 2);
    for n in 0..6 {
        journal.append(Micros(n), &event("a"), record(0, n));
    }
    let cut = || {
        let batch = journal.cut(0, Micros(9), Micros(9), true)?;
        journal.acknowledge(0);
        Some((
            batch.seq,
            batch.events[0].1.iter().map(|r| r.at.0).collect::<Vec<_>>(),
        ))
    };
    while cut().is_some() {}
    assert_eq!(journal.write_again(), 4, "the newest of the six");
    journal.append(Micros(9), &event("a"), record(0, 6));
    assert_eq!(cut(), Some((4, vec![2, 3, 4, 5])));
    assert_eq!(cut(), Some((5, vec![6])), "and then what is new");
    assert_eq!(journal.depth(), 0);
    assert!(cut().is_none() && !journal.is_behind());
}

#[test]
fn a_batch_says_until_when_all_is_told() {
    let journal = journal(100, 2);
    let (first, _) = journal.append(Micros(10), &event("a"), record(0, 1));
    let (second, _) = journal.append(Micros(20), &event("a"), record(1, 1));
    assert_ne!(first, second);
    let cut = |lane| {
        journal
            .cut(lane, Micros(99), Micros(99), true)
            .map(|batch| batch.clock.0)
    };
    let beacon = || journal.outside(0, Micros(99), Vec::new()).clock.0;
    assert_eq!((cut(first), beacon()), (Some(20), 10));
    assert_eq!(cut(second), Some(10), "the first is on its way");
    journal.acknowledge(first);
    assert_eq!(beacon(), 20);
    journal.acknowledge(second);
    assert_eq!(beacon(), 99);
    journal.write_again();
    assert_eq!(
        beacon(),
        10,
        "what is to be written again may not have been heard"
    );
}

#[test]
fn full_is_an_answer_and_dropping_is_remembered() {
    let journal = journal(8, 4);
    for n in 0..8 {
        assert_eq!(journal.admit(), Ok(()));
        journal.append(Micros(0), &event("a"), record(0, n));
    }
    assert_eq!(journal.admit(), Err(Full));
    journal.append(Micros(0), &event("a"), record(0, 8));
    assert_eq!(
        journal.take_lost(0),
        None,
        "records other than joins still fit"
    );
    journal.append(Micros(0), &event("a"), record(0, 9));
    assert_eq!(journal.take_lost(0), Some(Micros(0)));
    assert_eq!(journal.depth(), 9);
    journal.cut(0, Micros(0), Micros(0), true).expect("full");
    journal.acknowledge(0);
    assert_eq!((journal.depth(), journal.admit()), (5, Ok(())));
}

#[tokio::test]
async fn durable_means_acknowledged() {
    let journal = journal(8, 4);
    let (lane, number) = journal.append(Micros(0), &event("a"), record(1, 1));
    let waiting = journal.durable(lane, number);
    tokio::pin!(waiting);
    assert!(futures_poll(waiting.as_mut()).await.is_none());
    journal
        .cut(lane, Micros(0), Micros(0), true)
        .expect("on demand");
    assert!(
        futures_poll(waiting.as_mut()).await.is_none(),
        "sent is not durable"
    );
    journal.acknowledge(lane);
    assert!(futures_poll(waiting.as_mut()).await.is_some());
}

async fn futures_poll<F: Future + Unpin>(future: F) -> Option<F::Output> {
    tokio::select! { biased; out = future => Some(out), () = std::future::ready(()) => None }
}

proptest! {
    #[test]
    fn batches_lose_nothing_and_keep_each_events_order(
        appended in prop::collection::vec((0u8..3, 0u128..2), 0..200),
        cut_every in 1usize..20,
    ) {
        let journal = journal(1000, 7);
        let mut wanted = std::collections::BTreeMap::<(u16, String), Vec<u64>>::new();
        let mut got = std::collections::BTreeMap::<(u16, String), Vec<u64>>::new();
        let mut collect = |lane: u16, batch: Arc<Batch>| {
            for (event, records) in &batch.events {
                let seen = got.entry((lane, event.to_string())).or_default();
                seen.extend(records.iter().map(|record| record.at.0));
            }
        };
        for (n, (name, id)) in appended.iter().enumerate() {
            let name = format!("e{name}");
            let (lane, _) = journal.append(Micros(0), &event(&name), record(*id, n as u64));
            wanted.entry((lane, name)).or_default().push(n as u64);
            if n % cut_every == 0 && let Some(batch) = journal.cut(lane, Micros(0), Micros(0), true) {
                collect(lane, batch);
                journal.acknowledge(lane);
            }
        }
        for lane in 0..2 {
            while let Some(batch) = journal.cut(lane, Micros(0), Micros(0), true) {
                collect(lane, batch);
                journal.acknowledge(lane);
            }
        }
        prop_assert_eq!(journal.depth(), 0);
        prop_assert_eq!(got, wanted);
    }
}

#[test]
fn what_somebody_waits_for_goes_sooner_and_takes_along_what_is_there() {
    let journal = journal(100, 10);
    let at = |ms: u64| Micros(ms * 1_000);
    journal.append_patient(at(0), &event("a"), record(0, 1));
    let (lane, number) = journal.append_patient(at(1), &event("a"), record(0, 2));
    let mut waiting = std::pin::pin!(journal.durable(lane, number));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert_eq!(journal.due(), Some(at(2)));
    let batch = journal.cut(lane, at(2), at(2), false).expect("due");
    assert_eq!(batch.len(), 2);
    journal.append_patient(at(3), &event("a"), record(0, 3));
    journal.acknowledge(lane);
    assert!(waiting.as_mut().poll(&mut context).is_ready());
    assert_eq!(journal.due(), Some(at(203)), "patient again");
}

#[test]
fn patient_records_wait_for_company_until_a_hurried_one_comes() {
    let journal = journal(100, 50);
    let at = |ms: u64| Micros(ms * 1_000);
    journal.append_patient(at(0), &event("a"), record(0, 1));
    assert_eq!(journal.due(), Some(at(200)));
    assert!(journal.cut(0, at(199), at(0), false).is_none());
    journal.append(at(100), &event("a"), record(0, 2));
    assert_eq!(journal.due(), Some(at(10)));
    assert_eq!(
        journal.cut(0, at(100), at(0), false).map(|b| b.len()),
        Some(2)
    );
    journal.acknowledge(0);
    journal.append_patient(at(300), &event("a"), record(0, 3));
    assert_eq!(journal.due(), Some(at(500)), "patient again");
}

#[test]
fn tickets_of_a_while_are_made_for_one_lane_and_all_have_their_share() {
    let limits = Limits {
        patient_interval: Duration::from_millis(200),
        ..journal(1, 1).limits
    };
    let journal = Journal::new(16, NodeId(0), 7, limits);
    let first = journal.spread(Micros(0), 3);
    assert_eq!(journal.spread(Micros(199_999), 3), first);
    let mut share = [0_u64; 16];
    for ms in 0..150_000 {
        let lane = journal.spread(Micros(ms * 1_000), 3);
        assert_eq!(TicketId::random_in(lane, 16).partition(16), lane);
        share[usize::from(lane)] += 1;
    }
    assert_eq!(share[3], 0);
    let others = share.iter().filter(|share| **share > 0);
    let (least, most) = (others.clone().min().unwrap(), others.max().unwrap());
    assert!(*least >= 9_000 && *most <= 11_000, "{share:?}");
}

#[test]
fn what_was_forgotten_is_not_sent_nor_sent_again() {
    let journal = journal(100, 50);
    let cut = || {
        let batch = journal.cut(0, Micros(9), Micros(9), true);
        journal.acknowledge(0);
        batch.map(|batch| batch.events.clone())
    };
    for name in ["a", "b"] {
        journal.append(Micros(0), &event(name), record(0, 1));
    }
    assert_eq!(cut().unwrap().len(), 2);
    for at in [1, 3] {
        journal.append(Micros(0), &event("a"), record(0, at));
    }
    let ends = journal.ends();
    journal.forget(&event("a"), Micros(2));
    assert!(!journal.has_acknowledged(&ends));
    assert_eq!(cut().unwrap(), [(event("a"), vec![record(0, 3)])]);
    assert!(journal.has_acknowledged(&ends));
    assert_eq!(journal.depth(), 0);
    assert_eq!(journal.write_again(), 2, "what is left of the two events");
}

#[test]
fn a_rush_leaves_no_long_queue_behind() {
    let journal = journal(1_000_000, 1_024);
    let held = || journal.lanes[0].state.lock().waiting.capacity();
    for n in 0..100_000 {
        journal.append(Micros(n), &event("a"), record(0, n));
    }
    assert!(held() >= 100_000);
    while journal.cut(0, Micros(0), Micros(0), true).is_some() {
        journal.acknowledge(0);
    }
    assert!(held() <= 4 * ROOM_KEPT, "{}", held());
}
