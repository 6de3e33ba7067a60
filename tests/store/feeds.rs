use super::kit::*;

pub async fn who_follows_from_the_end_misses_nothing(bench: Bench) {
    let store = &*bench.store;
    store
        .append(0, batch("e", vec![joined(1, 10)]))
        .await
        .unwrap();
    let end = store.feed_end(0).await.unwrap();
    assert!(store.follow(0, end, 9).await.unwrap().batches.is_empty());
    let mut expected = Vec::new();
    for n in 2..5 {
        let batch = batch("e", vec![joined(n, 10)]);
        let position = store.append(0, batch.clone()).await.unwrap();
        store.append(1, batch.clone()).await.unwrap();
        expected.push((position, batch));
    }
    let feed = store.follow(0, end, 9).await.unwrap();
    assert_eq!(feed.batches, expected);
    assert!(!feed.trimmed);
    assert!(feed.batches.is_sorted_by(|(a, _), (b, _)| a < b));
    assert_eq!(store.feed_end(0).await.unwrap(), expected[2].0);
}

pub async fn a_feed_is_read_in_steps(bench: Bench) {
    let store = &*bench.store;
    let mut at = store.feed_end(0).await.unwrap();
    for n in 0..5 {
        store
            .append(0, batch("e", vec![joined(n, 10)]))
            .await
            .unwrap();
    }
    let mut steps = Vec::new();
    loop {
        let feed = store.follow(0, at, 2).await.unwrap();
        let Some((last, _)) = feed.batches.last() else {
            break;
        };
        at = *last;
        steps.push(feed.batches.len());
    }
    assert_eq!(steps, vec![2, 2, 1]);
}

pub async fn a_feed_trimmed_by_size_says_so(bench: Bench) {
    let store = &*bench.store;
    let end = store.feed_end(0).await.unwrap();
    let mut positions = Vec::new();
    for n in 0..12 {
        let batch = batch("e", vec![joined(n, 10)]);
        positions.push(store.append(0, batch).await.unwrap());
    }
    assert!(store.follow(0, end, 99).await.unwrap().trimmed);
    assert!(store.follow(0, positions[0], 99).await.unwrap().trimmed);
    let feed = store.follow(0, positions[1], 99).await.unwrap();
    assert!(!feed.trimmed);
    assert_eq!(feed.batches.len(), FEED.records_max);
}

pub async fn a_feed_trimmed_by_age_says_so(bench: Bench) {
    let store = &*bench.store;
    let end = store.feed_end(0).await.unwrap();
    let first = store
        .append(0, batch("e", vec![joined(1, 10)]))
        .await
        .unwrap();
    bench.clock.pass(61 * SECOND);
    store
        .append(0, batch("e", vec![joined(2, 10)]))
        .await
        .unwrap();
    assert!(store.follow(0, end, 9).await.unwrap().trimmed);
    let feed = store.follow(0, first, 9).await.unwrap();
    assert!(!feed.trimmed);
    assert_eq!(feed.batches.len(), 1);
}
