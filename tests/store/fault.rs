use std::sync::Arc;

use tidegate::store::fault::{Call, Fault, Faulty};
use tidegate::store::{Memory, Retry, Store, memory};

use super::kit::*;

fn faulty() -> Arc<Faulty<Memory>> {
    let clock = Clock::new().as_store_clock();
    Arc::new(Faulty::new(Memory::new(memory::Settings::default(), clock)))
}

#[tokio::test]
async fn calls_are_held_until_released() {
    let store = faulty();
    let faults = store.faults();
    faults.hold();
    let held = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(0, batch("e", vec![joined(1, 10)])).await }
    });
    faults.called(Call::Append, 1).await;
    assert_eq!(all(store.inner(), 0).await, vec![]);
    faults.release();
    held.await.unwrap().unwrap();
    assert_eq!(all(store.inner(), 0).await.len(), 1);
}

#[tokio::test]
async fn calls_fail_as_often_and_as_early_as_asked() {
    let store = faulty();
    let faults = store.faults();
    let append = |n| store.append(0, batch("e", vec![joined(n, 10)]));
    faults.fail(Call::Append, 2, Fault::Lost);
    for n in [1, 2] {
        assert_eq!(append(n).await.unwrap_err().retry, Retry::Again);
    }
    assert_eq!(all(store.inner(), 0).await, vec![]);
    append(3).await.unwrap();
    faults.fail(Call::Append, u32::MAX, Fault::Unanswered);
    assert_eq!(append(4).await.unwrap_err().retry, Retry::Again);
    assert_eq!(all(store.inner(), 0).await.len(), 2);
    faults.fail(Call::Append, 1, Fault::Refused);
    assert_eq!(append(5).await.unwrap_err().retry, Retry::Never);
    faults.heal();
    append(6).await.unwrap();
    assert_eq!(faults.calls(Call::Append), 6);
    assert_eq!(faults.calls(Call::Enter), 0);
}
