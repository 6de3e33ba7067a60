//! A mutex that notes how long it was waited for. Free when nobody else holds it.

use parking_lot::MutexGuard;

use crate::clock::timed;
use crate::telemetry::metrics::lock_waits;

/// `parking_lot`'s mutex, whose waits are counted in [`lock_waits`].
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// A free one.
    pub const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    /// Waits until nobody else holds it. One compare-and-swap when nobody does.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.try_lock().unwrap_or_else(|| self.wait())
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        let (guard, took) = timed(|| self.0.lock());
        lock_waits().observe(took);
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_waits_are_counted() {
        let count = || lock_waits().count();
        let mutex = Mutex::new(1);
        *mutex.lock() += 1;
        let before = count();
        let held = mutex.lock();
        let (begun, waiting) = mpsc::sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                begun.send(()).expect("somebody listens");
                assert_eq!(*mutex.wait(), 2);
            });
            waiting.recv().expect("it begins");
            drop(held);
        });
        assert!(count() > before);
    }
}
