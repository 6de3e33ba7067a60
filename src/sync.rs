//! What threads share without a lock: the standard library's atomics and their like. In the models of
//! `make interleavings` they are those of a checker that runs a model in every order that the memory
//! model allows, so that an ordering that is too weak shows.

pub mod waits;

#[cfg(not(all(test, feature = "interleavings")))]
mod real {
    pub use std::sync::OnceLock;
    pub use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, fence,
    };

    pub use super::waits::Mutex;
    use ahash::RandomState;
    pub use arc_swap::{ArcSwap, Guard};
    pub use tokio::sync::Notify;
    pub use zerocopy::FromZeros as Zeroed;

    /// A hash that nobody outside can foresee.
    pub fn random_state() -> RandomState {
        RandomState::new()
    }

    /// So many zeros, whose pages take no memory until they are touched.
    pub fn zeroed<T: Zeroed>(count: usize) -> Box<[T]> {
        // As with `Vec`, no memory means no process.
        <[T]>::new_box_zeroed_with_elems(count).expect("the allocator has memory")
    }
}

#[cfg(not(all(test, feature = "interleavings")))]
pub(crate) use real::*;

#[cfg(all(test, feature = "interleavings"))]
mod checked;

#[cfg(all(test, feature = "interleavings"))]
pub(crate) use checked::*;
