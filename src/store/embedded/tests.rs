use std::sync::atomic::Ordering;

use crate::model::gate::{GatePolicy, Presence};
use crate::model::{Kind, NodeId, Record, TicketId};
use crate::store::Retry;

use super::*;

fn open(folder: &Path) -> Embedded {
    Embedded::open(folder, Settings::default(), Arc::new(|| Micros(7_000_000))).unwrap()
}

fn advance(serial: u64) -> AdvanceRequest {
    AdvanceRequest {
        event: EventId::new("e").unwrap(),
        node: NodeId(0),
        serial,
        policy: GatePolicy {
            rate: 0.0,
            burst: 2,
            max_active: 0,
            paused: false,
            ready_ttl: 1_000_000,
            late_grace: 100_000_000,
            ticket_ttl: 1_000_000,
            pass_ttl: 1_000_000,
            nodes: 0,
            share_limit: 0,
        },
        version: serial - 1,
        candidates: vec![TicketId::from_u128(u128::from(serial))],
        homes: vec![],
        presence: Presence::Quiet,
        given_back: vec![],
        claims: vec![],
        lease_held: 0,
        lease_wanted: 0,
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_answered_from_memory_that_is_not_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.advance(advance(1)).await.unwrap();
    let before = store.gates().await.unwrap();
    store.disk.full.store(true, Ordering::Relaxed);
    let failed = store.advance(advance(2)).await.unwrap_err();
    assert_eq!(failed.retry, Retry::Never);
    assert!(
        failed
            .to_string()
            .starts_with("write to the store's folder")
    );
    store.disk.full.store(false, Ordering::Relaxed);
    let later = store.gates().await.unwrap_err();
    assert_eq!(later.to_string(), failed.to_string());
    drop(store);
    assert_eq!(open(folder.path()).gates().await.unwrap(), before);
}

#[tokio::test]
async fn a_writer_that_died_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let died: Answer<'_, ()> = store.step("die", |desk| {
        desk.writes.put(Table::Facts, vec![1], vec![]);
        if desk.writes.len() > 0 {
            panic!("as a test asked for");
        }
        Ok(|| ())
    });
    assert_eq!(died.await.unwrap_err().retry, Retry::Never);
    assert_eq!(store.gates().await.unwrap_err().retry, Retry::Never);
}

#[tokio::test]
async fn secrets_stay_the_same_and_differ_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let secret = store.dev_secret("ticket").unwrap();
    assert_ne!(store.dev_secret("pass").unwrap(), secret);
    drop(store);
    assert_eq!(open(folder.path()).dev_secret("ticket").unwrap(), secret);
}

#[tokio::test]
async fn a_large_event_is_forgotten_in_many_steps() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let records = |count: u128| {
        let joined = |n| Record {
            kind: Kind::Joined,
            id: TicketId::from_u128(n),
            at: Micros(9),
        };
        (0..count).map(joined).collect()
    };
    for (partition, count) in [(0, 2 * erase::ERASED_MAX as u128), (7, 5)] {
        let batch = Batch {
            node: NodeId(0),
            epoch: 1,
            seq: 1,
            clock: Micros(9),
            events: [("d", 3), ("e", count), ("f", 3)]
                .map(|(name, count)| (EventId::new(name).unwrap(), records(count)))
                .to_vec(),
        };
        store.append(partition, Arc::new(batch)).await.unwrap();
    }
    store.advance(advance(1)).await.unwrap();
    let until = Micros(9);
    store
        .erase(EventId::new("e").unwrap(), until)
        .await
        .unwrap();
    assert_eq!(store.gates().await.unwrap(), vec![]);
    drop(store);
    let store = open(folder.path());
    for partition in [0, 7] {
        let held = store.load(partition, None, 99).await.unwrap().tickets;
        let held: Vec<_> = held.iter().map(|(e, t)| (e.as_str(), t.len())).collect();
        assert_eq!(held, vec![("d", 3), ("f", 3)]);
    }
    assert_eq!(store.gates().await.unwrap(), vec![]);
}
