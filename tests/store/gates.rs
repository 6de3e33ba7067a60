use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate::model::gate::{EnterRequest, Entry, Turn};
use tidegate::model::{Micros, NodeId};

use super::kit::*;

pub async fn turns_are_given_entered_and_completed(bench: Bench) {
    let store = &*bench.store;
    let given = store.advance(advance(1, 0, ids(0..9))).await.unwrap();
    let until = Micros(START + POLICY.ready_ttl);
    let turns: Vec<_> = ids(0..3).into_iter().map(|id| Turn { id, until }).collect();
    assert_eq!((&given.called, given.now), (&turns, Micros(START)));
    let (at, now) = (Micros(START), Micros(START));
    let entry = Entry::Granted { at, now };
    assert_eq!(store.enter(enter(0)).await.unwrap(), entry);
    assert_eq!(store.enter(enter(5)).await.unwrap(), Entry::NotCalled);
    let gates = store.gates().await.unwrap();
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].version, given.version);
    assert_eq!(gates[0].called, turns[1..]);
    assert_eq!(gates[0].entered, vec![(id(0), now)]);
    assert_eq!(gates[0].active, 1);
    assert!(store.complete(event("e"), id(0)).await.unwrap());
    assert!(!store.complete(event("e"), id(0)).await.unwrap());
    assert!(!store.complete(event("never-seen"), id(0)).await.unwrap());
    assert_eq!(store.gates().await.unwrap()[0].active, 0);
}

pub async fn a_ticket_enters_once_however_often_it_is_asked_for(bench: Bench) {
    let store = &*bench.store;
    store.advance(advance(1, 0, ids(0..1))).await.unwrap();
    bench.clock.pass(SECOND);
    store.enter(enter(0)).await.unwrap();
    let at = Micros(START);
    for later in [SECOND, POLICY.pass_ttl, 3 * POLICY.pass_ttl] {
        bench.clock.pass(later);
        let Entry::Again { at: same, .. } = store.enter(enter(0)).await.unwrap() else {
            panic!("it entered before");
        };
        assert_eq!(same, at);
    }
    let offered = store.advance(advance(2, 1, ids(0..1))).await.unwrap();
    assert_eq!(
        (offered.called, offered.entered),
        (vec![], vec![(id(0), at)])
    );
    let known = EnterRequest {
        known: Some(Micros(START + 9)),
        ..enter(0)
    };
    let again = store.enter(known).await.unwrap();
    assert!(matches!(again, Entry::Again { at: same, .. } if same == at));
}

pub async fn racing_enters_agree_on_one_moment(bench: Bench) {
    let store = &bench.store;
    store.advance(advance(1, 0, ids(0..1))).await.unwrap();
    let racers: Vec<_> = (0..32)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.enter(enter(0)).await.unwrap() })
        })
        .collect();
    let mut moments = BTreeSet::new();
    let mut granted = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Entry::Granted { at, .. } => {
                granted += 1;
                moments.insert(at);
            }
            Entry::Again { at, .. } => {
                moments.insert(at);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((granted, moments.len()), (1, 1));
}

pub async fn racing_advances_give_no_turn_twice(bench: Bench) {
    let store = &bench.store;
    let racers: Vec<_> = (0..16)
        .map(|node| {
            let store = Arc::clone(store);
            let mut request = advance(1, 0, ids(0..9));
            request.node = NodeId(node);
            tokio::spawn(async move { store.advance(request).await.unwrap() })
        })
        .collect();
    let mut gave = 0;
    for racer in racers {
        gave += usize::from(!racer.await.unwrap().stale);
    }
    assert_eq!(gave, 1);
    assert_eq!(store.gates().await.unwrap()[0].called.len(), 3);
}

pub async fn a_repeated_advance_changes_nothing(bench: Bench) {
    let store = &*bench.store;
    let mut request = advance(1, 0, ids(0..2));
    request.lease_wanted = 1;
    let first = store.advance(request.clone()).await.unwrap();
    assert_eq!((first.called.len(), first.lease), (2, 1));
    let before = store.gates().await.unwrap();
    let again = store.advance(request).await.unwrap();
    assert!(again.stale);
    assert_eq!(
        (again.called, again.lease, again.version),
        (first.called, 1, first.version)
    );
    assert_eq!(store.gates().await.unwrap(), before);
}

pub async fn turns_lapse_on_the_stores_clock(bench: Bench) {
    let store = &*bench.store;
    let first = store.advance(advance(1, 0, ids(0..1))).await.unwrap();
    bench.clock.pass(POLICY.ready_ttl + SECOND);
    assert_eq!(store.enter(enter(0)).await.unwrap(), Entry::Missed);
    let next = advance(2, first.version, ids(1..2));
    let next = store.advance(next).await.unwrap();
    assert_eq!(next.missed, first.called);
    assert_eq!(next.called[0].id, id(1));
}
