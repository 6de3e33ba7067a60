//! The same names over the checker's atomics, with the orderings that the real ones promise.

use std::sync::Arc;

use loom::sync::atomic::Ordering::{AcqRel, Acquire};
pub use loom::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
};

/// Runs `model` in every order of its steps with at most so many switches away from a thread that
/// could go on.
pub fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// A thread for calls that are deeper than the checker's own threads have room for.
pub fn spawn_deep<T: Send + 'static>(
    run: impl FnOnce() -> T + Send + 'static,
) -> loom::thread::JoinHandle<T> {
    let thread = loom::thread::Builder::new().stack_size(1 << 18);
    thread.spawn(run).expect("the checker has threads")
}

/// The same hash each time: a model is run again and again.
pub fn random_state() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

/// What starts as zero.
pub trait Zeroed: Default {}
impl<T: Default> Zeroed for T {}

/// So many zeros.
pub fn zeroed<T: Zeroed>(count: usize) -> Box<[T]> {
    (0..count).map(|_| T::default()).collect()
}

/// Written once: whoever sees it written sees what it was written with.
#[derive(Debug)]
pub struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: AtomicBool,
}

impl<T> OnceLock<T> {
    pub fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            is_set: AtomicBool::new(false),
        }
    }

    pub fn get(&self) -> Option<&T> {
        if self.is_set.load(Acquire) {
            self.value.get()
        } else {
            None
        }
    }

    pub fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if self.get().is_none() {
            self.value.get_or_init(init);
            self.is_set.swap(true, AcqRel);
        }
        self.value.get().expect("it was just set")
    }
}

/// A value that is replaced whole. The values are kept: that they are freed in time is the real
/// one's business, and not modelled.
#[derive(Debug)]
pub struct ArcSwap<T> {
    values: std::sync::Mutex<Vec<Arc<T>>>,
    current: AtomicUsize,
}

pub type Guard<T> = T;

impl<T> ArcSwap<T> {
    pub fn new(value: Arc<T>) -> Self {
        Self {
            values: std::sync::Mutex::new(vec![value]),
            current: AtomicUsize::new(0),
        }
    }

    pub fn from_pointee(value: T) -> Self {
        Self::new(Arc::new(value))
    }

    pub fn load(&self) -> Guard<Arc<T>> {
        let current = self.current.load(Acquire);
        Arc::clone(&self.values.lock().expect("no model panics here")[current])
    }

    pub fn load_full(&self) -> Arc<T> {
        self.load()
    }

    pub fn store(&self, value: Arc<T>) {
        let mut values = self.values.lock().expect("no model panics here");
        values.push(value);
        let new = values.len() - 1;
        drop(values);
        self.current.swap(new, AcqRel);
    }

    /// One at a time, as whoever swaps holds a lock.
    pub fn swap(&self, value: Arc<T>) -> Arc<T> {
        let old = self.load();
        self.store(value);
        old
    }
}

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        Self::from_pointee(T::default())
    }
}

/// A lock without poisoning.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("no model panics here")
    }
}

/// One permit for one waiter, which is a thread here.
#[derive(Debug)]
pub struct Notify {
    permit: Mutex<bool>,
    given: loom::sync::Condvar,
}

impl Notify {
    pub fn new() -> Self {
        Self {
            permit: Mutex::default(),
            given: loom::sync::Condvar::new(),
        }
    }

    pub fn notify_one(&self) {
        *self.permit.lock() = true;
        self.given.notify_one();
    }

    pub async fn notified(&self) {
        let mut permit = self.permit.lock();
        while !*permit {
            permit = self.given.wait(permit).expect("no model panics here");
        }
        *permit = false;
    }
}
