use std::collections::BTreeMap;

use tidegate::model::{Beat, Change, EventId, Gone, Kind, Micros, NodeId, Ruling, Rulings};
use tidegate::store::Store;

use super::kit::*;

async fn rulings(store: &dyn Store) -> Rulings {
    store.rulings(0).await.unwrap().unwrap_or_default()
}

/// What a store is to hold, done by the rules themselves.
#[derive(Default)]
struct Reference(Rulings);

impl Reference {
    async fn rule(&mut self, store: &dyn Store, name: &str, change: Change, at: u64) -> bool {
        let (name, at) = (event(name), Micros(at));
        let keep = std::time::Duration::from_micros(KEEP_REMOVED);
        let expected = self.0.rule(&name, &change, at, keep);
        let ruled = store.rule(name, change, at).await.unwrap();
        assert_eq!(ruled, expected);
        assert_eq!(rulings(store).await, self.0);
        ruled.taken
    }
}

fn none() -> Change {
    Change::Policy {
        patch: None,
        over: None,
    }
}

pub async fn rulings_are_kept_in_the_stores_order(bench: Bench) {
    let store = &*bench.store;
    let mut reference = Reference::default();
    assert_eq!(
        store.rulings(0).await.unwrap(),
        None,
        "nothing was ruled yet"
    );
    reference.rule(store, "e", policy_change("{}"), START).await;
    reference
        .rule(store, "f", policy_change(r#"{"rate": 1}"#), START + 5)
        .await;
    // Later by the store's word, whatever the asker's clock says.
    reference
        .rule(store, "e", policy_change(r#"{"rate": 2}"#), START - 9)
        .await;
    reference.rule(store, "f", none(), START + 6).await;
    let until = Micros(START + 7);
    let forget = Change::Forget { until };
    reference.rule(store, "e", forget, START + 7).await;
    reference.rule(store, "e", none(), START + 8).await;
    assert_eq!(reference.0.events[&event("e")].forgotten, until);
    let revision = reference.0.revision;
    assert_eq!(store.rulings(revision).await.unwrap(), None);
    let other = store.rulings(revision - 1).await.unwrap();
    assert_eq!(other, Some(reference.0));
}

pub async fn a_ruling_made_for_another_one_is_not_taken(bench: Bench) {
    let store = &*bench.store;
    let mut reference = Reference::default();
    let over = |patch: &str, over| Change::Policy {
        patch: Some(patch.to_owned()),
        over: Some(Micros(over)),
    };
    assert!(reference.rule(store, "e", over("{}", 0), START).await);
    assert!(
        !reference
            .rule(store, "e", over(r#"{"rate": 1}"#, 0), START + 1)
            .await
    );
    assert!(
        reference
            .rule(store, "e", over(r#"{"rate": 1}"#, START), START + 2)
            .await
    );
}

pub async fn rulings_that_say_nothing_are_dropped_in_time(bench: Bench) {
    let store = &*bench.store;
    let mut reference = Reference::default();
    reference.rule(store, "a", none(), START).await;
    let until = Micros(START + KEEP_REMOVED);
    reference
        .rule(store, "b", Change::Forget { until }, START)
        .await;
    reference.rule(store, "c", policy_change("{}"), START).await;
    let later = START + KEEP_REMOVED + 9;
    reference.rule(store, "d", policy_change("{}"), later).await;
    let names: Vec<_> = reference.0.events.keys().map(EventId::as_str).collect();
    assert_eq!(names, ["b", "c", "d"]);
}

pub async fn what_was_lost_of_the_rulings_is_restored(bench: Bench) {
    let store = &*bench.store;
    let ruling = |stamp, forgotten, patch: Option<&str>| Ruling {
        stamp: Micros(stamp),
        forgotten: Micros(forgotten),
        patch: patch.map(str::to_owned),
    };
    let mut reference = Rulings::default();
    for known in [
        vec![
            (event("e"), ruling(50, 0, Some("{}"))),
            (event("f"), ruling(70, 60, None)),
        ],
        vec![
            (event("e"), ruling(40, 45, None)),
            (event("f"), ruling(70, 0, Some("{}"))),
        ],
        vec![(event("e"), ruling(50, 45, Some("{}")))],
    ] {
        let before = reference.revision;
        let changed = !reference.restore(known.clone()).is_empty();
        store.restore_rulings(known).await.unwrap();
        assert_eq!(store.rulings(0).await.unwrap().as_ref(), Some(&reference));
        assert_eq!(changed, reference.revision != before);
    }
    let expected = BTreeMap::from([
        (event("e"), ruling(50, 45, Some("{}"))),
        (event("f"), ruling(70, 60, Some("{}"))),
    ]);
    assert_eq!(reference.events, expected);
}

pub async fn the_nodes_hear_of_each_other(bench: Bench) {
    let store = &*bench.store;
    let beat = |node, instance| Beat {
        node: NodeId(node),
        instance,
        version: "1".to_owned(),
        listen: "here".to_owned(),
        started: Micros(START),
        at: Micros(START),
    };
    let heard = async |beat: Beat| {
        let mut heard = store.beat(beat).await.unwrap();
        heard.sort_by_key(|beat| beat.node);
        heard
    };
    assert_eq!(heard(beat(1, 7)).await, []);
    assert_eq!(heard(beat(0, 8)).await, [beat(1, 7)]);
    assert_eq!(heard(beat(1, 9)).await, [beat(0, 8), beat(1, 7)]);
    assert_eq!(heard(beat(0, 8)).await, [beat(0, 8), beat(1, 9)]);
}

pub async fn what_is_as_old_as_the_forgetting_is_erased(bench: Bench) {
    let store = &*bench.store;
    let end = store.feed_end(0).await.unwrap();
    let records = vec![
        joined(1, 10),
        joined(2, 10),
        record(Kind::Left, 2, 20),
        joined(3, 31),
        joined(4, 10),
        record(Kind::Expired, 4, 20),
        joined(4, 40),
        joined(5, 10),
        record(Kind::Entered, 5, 31),
    ];
    for (name, records) in [("e", records), ("ee", vec![joined(1, 10)])] {
        store.append(0, batch(name, records)).await.unwrap();
        store
            .append(9, batch(name, vec![joined(1, 30)]))
            .await
            .unwrap();
    }
    store.advance(advance(1, 0, ids(1..2))).await.unwrap();
    store.enter(enter(1)).await.unwrap();
    let erase = async |until| store.erase(event("e"), Micros(until)).await.unwrap();
    erase(30).await;
    let of_e = |held: Vec<(EventId, _)>| {
        let held = held.into_iter().filter(|(name, _)| *name == event("e"));
        held.map(|(_, ticket)| ticket).collect::<Vec<_>>()
    };
    let left = vec![live(3, 31), live(4, 40), removed(5, 31, Gone::Entered)];
    assert_eq!(of_e(all(store, 0).await), left);
    assert_eq!(of_e(all(store, 9).await), []);
    assert_eq!(all(store, 9).await, [(event("ee"), live(1, 30))]);
    assert_eq!(store.gates().await.unwrap(), vec![]);
    // The event's next life is not disturbed by another node's asking for the same.
    store.advance(advance(2, 0, ids(3..4))).await.unwrap();
    erase(30).await;
    assert_eq!(store.gates().await.unwrap().len(), 1);
    assert_eq!(of_e(all(store, 0).await), left);
    erase(40).await;
    assert_eq!(of_e(all(store, 0).await), []);
    assert_eq!(store.gates().await.unwrap(), vec![]);
    assert_eq!(store.follow(0, end, 9).await.unwrap().batches.len(), 2);
}
