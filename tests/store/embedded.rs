use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate::model::gate::Entry;
use tidegate::model::{Kind, Micros};
use tidegate::store::embedded::{Fsync, OpenError, Settings};
use tidegate::store::{Embedded, Retry, Store};

use super::kit::*;

/// What a store holds, all of it.
async fn contents(store: &Embedded) -> String {
    let mut gates = store.gates().await.unwrap();
    gates.sort_by_key(|gate| gate.event.clone());
    let partitions = (all(store, 0).await, all(store, 1).await);
    let facts = (
        store.meta(4).await.unwrap(),
        store.rulings(0).await.unwrap(),
    );
    format!(
        "{partitions:?} {gates:?} {facts:?} {:?}",
        store.dev_secret("ticket").unwrap()
    )
}

async fn fill(store: &Embedded) {
    store.meta(4).await.unwrap();
    let records = vec![joined(1, 10), joined(2, 20), record(Kind::Left, 2, START)];
    store.append(0, batch("e", records)).await.unwrap();
    store
        .append(1, batch("f", vec![joined(7, 10)]))
        .await
        .unwrap();
    let mut request = advance(5, 0, ids(1..3));
    request.lease_wanted = 1;
    store.advance(request).await.unwrap();
    store.enter(enter(1)).await.unwrap();
    store
        .rule(event("f"), policy_change("{}"), Micros(7))
        .await
        .unwrap();
    store.dev_secret("ticket").unwrap();
}

/// A copy of a store's folder as a sudden death of its process would leave it, with the written
/// part of its journal changed.
fn crashed(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let journal = journal_of(folder);
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        fs::create_dir_all(copy.path().join(&inner)).unwrap();
        for entry in fs::read_dir(folder.join(&inner)).unwrap() {
            let entry = entry.unwrap();
            let name = inner.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(name);
            } else if entry.path() != journal {
                fs::copy(entry.path(), copy.path().join(name)).unwrap();
            }
        }
    }
    let mut bytes = written(&journal);
    change(&mut bytes);
    let name = journal.strip_prefix(folder).unwrap();
    fs::write(copy.path().join(name), bytes).unwrap();
    copy
}

fn journal_of(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("db")).unwrap();
    let journals = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"));
    journals.max().unwrap()
}

/// A journal without the zeros reserved behind it. What ends a batch is no zero.
fn written(journal: &Path) -> Vec<u8> {
    let mut bytes = fs::read(journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0);
    bytes.truncate(end.map_or(0, |last| last + 1));
    bytes
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_a_sudden_death() {
    for fsync in [Fsync::Always, Fsync::Interval, Fsync::Never] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new();
        let settings = Settings {
            fsync,
            ..Settings::default()
        };
        let store = Embedded::open(folder.path(), settings, clock.as_store_clock()).unwrap();
        fill(&store).await;
        let before = contents(&store).await;
        let copy = crashed(folder.path(), |_| {});
        let reopened = open(copy.path(), &clock).unwrap();
        assert_eq!(contents(&reopened).await, before, "{fsync:?}");
        // The gate goes on where it was: the pass, the lease and the count of requests are known.
        let again = reopened.enter(enter(1)).await.unwrap();
        assert!(matches!(again, Entry::Again { .. }));
        let late = reopened.advance(advance(5, 1, ids(3..9))).await.unwrap();
        assert!(late.stale);
        assert_eq!((late.lease, late.open_turns, late.level), (1, 1, 0));
    }
}

#[tokio::test]
async fn positions_rise_across_starts_and_old_ones_are_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let mut last = None;
    for _ in 0..3 {
        let store = open(folder.path(), &clock).unwrap();
        let end = store.feed_end(0).await.unwrap();
        if let Some(last) = last {
            assert!(end > last);
            assert!(store.follow(0, last, 9).await.unwrap().trimmed);
        }
        last = Some(
            store
                .append(0, batch("e", vec![joined(1, 10)]))
                .await
                .unwrap(),
        );
        assert!(last > Some(end));
        assert!(!store.follow(0, end, 9).await.unwrap().trimmed);
    }
}

#[tokio::test]
async fn what_was_forgotten_stays_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let store = open(folder.path(), &clock).unwrap();
    fill(&store).await;
    // The last steps of the event are still being written when it is forgotten.
    let advance = store.advance(advance(6, 1, ids(3..4)));
    let (advanced, forgotten) = tokio::join!(advance, store.erase(event("e"), Micros(START)));
    advanced.unwrap();
    forgotten.unwrap();
    assert_eq!(store.gates().await.unwrap(), vec![]);
    let before = contents(&store).await;
    drop(store);
    let store = open(folder.path(), &clock).unwrap();
    assert_eq!(contents(&store).await, before);
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let store = open(folder.path(), &clock).unwrap();
    let Err(error) = open(folder.path(), &clock) else {
        panic!("two stores in one folder");
    };
    assert!(matches!(&error, OpenError::InUse { pid, .. } if *pid == Some(std::process::id())));
    assert_eq!(
        error.to_string(),
        format!(
            "the folder {} is in use by another process, pid {}",
            folder.path().display(),
            std::process::id()
        )
    );
    drop(store);
    open(folder.path(), &clock).unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let store = open(folder.path(), &clock).unwrap();
    fill(&store).await;
    let before = contents(&store).await;
    store.close().await.unwrap();
    let late = store.append(0, batch("e", vec![joined(3, 10)])).await;
    assert_eq!(late.unwrap_err().retry, Retry::Never);
    drop(store);
    assert_eq!(
        contents(&open(folder.path(), &clock).unwrap()).await,
        before
    );
}

/// A store with three batches, and where in the journal the last of them begins and ends.
async fn three_batches(folder: &Path, clock: &Clock) -> (Embedded, usize, usize) {
    let store = open(folder, clock).unwrap();
    store
        .append(0, batch("e", vec![joined(1, 10)]))
        .await
        .unwrap();
    store
        .append(0, batch("e", vec![joined(2, 10)]))
        .await
        .unwrap();
    let begin = written(&journal_of(folder)).len();
    let last = vec![joined(3, 10), joined(4, 10)];
    store.append(0, batch("e", last)).await.unwrap();
    let end = written(&journal_of(folder)).len();
    (store, begin, end)
}

/// Opens what is left of a store, and answers how many tickets it holds, now and after it took one
/// more and was opened again.
async fn reopened(folder: &Path, clock: &Clock) -> (usize, usize) {
    let store = open(folder, clock).unwrap();
    let held = all(&store, 0).await.len();
    store
        .append(0, batch("e", vec![joined(9, 10)]))
        .await
        .unwrap();
    drop(store);
    let store = open(folder, clock).unwrap();
    (held, all(&store, 0).await.len())
}

#[tokio::test]
async fn a_truncated_journal_loses_its_last_batch_whole_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let (_store, begin, end) = three_batches(folder.path(), &clock).await;
    for length in [begin + 1, (begin + end) / 2, end - 1] {
        let copy = crashed(folder.path(), |journal| journal.truncate(length));
        assert_eq!(
            reopened(copy.path(), &clock).await,
            (2, 3),
            "cut at {length}"
        );
    }
}

#[tokio::test]
async fn a_damaged_last_batch_is_cut_off_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let (_store, begin, end) = three_batches(folder.path(), &clock).await;
    // Its count, a key, its checksum. The writer's own tests go through every byte.
    for at in [begin + 1, (begin + end) / 2, end - 8] {
        let copy = crashed(folder.path(), |journal| journal[at] ^= 0xa5);
        assert_eq!(
            reopened(copy.path(), &clock).await,
            (2, 3),
            "flipped at {at}"
        );
    }
}

#[tokio::test]
async fn bytes_behind_the_last_batch_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let (_store, begin, end) = three_batches(folder.path(), &clock).await;
    let begun = written(&journal_of(folder.path()))[begin..end - 3].to_vec();
    for garbage in [b"garbage".to_vec(), begun] {
        let copy = crashed(folder.path(), |journal| journal.extend(&garbage));
        assert_eq!(reopened(copy.path(), &clock).await, (4, 5), "{garbage:?}");
    }
}

#[tokio::test]
async fn many_calls_at_once_are_all_written() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new();
    let store = Arc::new(open(folder.path(), &clock).unwrap());
    let calls: Vec<_> = (0..500)
        .map(|n| {
            let store = Arc::clone(&store);
            let batch = batch("e", vec![joined(n, 10), joined(n % 7, 5)]);
            tokio::spawn(async move { store.append(0, batch).await.unwrap() })
        })
        .collect();
    let mut positions = Vec::new();
    for call in calls {
        positions.push(call.await.unwrap());
    }
    positions.sort();
    positions.dedup();
    assert_eq!(positions.len(), 500);
    drop(store);
    let store = open(folder.path(), &clock).unwrap();
    assert_eq!(all(&store, 0).await.len(), 500);
}
