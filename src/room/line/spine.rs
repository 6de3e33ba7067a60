//! A growing array that never moves: readers hold references while the writer adds to it.

use crate::sync::{OnceLock, Zeroed, zeroed};

/// Zeroed elements in chunks of doubling size, the first of `1 << FIRST_BITS`, at most `CHUNKS` of
/// them. A chunk is allocated when its first element is needed; the operating system backs only
/// the pages that are touched, so the unused half of the last chunk costs address space alone.
pub(super) struct Spine<T, const FIRST_BITS: u32, const CHUNKS: usize> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T: Zeroed, const FIRST_BITS: u32, const CHUNKS: usize> Spine<T, FIRST_BITS, CHUNKS> {
    /// How many elements fit at most.
    pub(super) const CAPACITY: u32 = (((1u64 << CHUNKS) - 1) << FIRST_BITS) as u32;

    /// An empty array: no chunk is allocated.
    pub(super) fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// The chunk and the offset in it of element `index`.
    fn locate(index: u32) -> (usize, usize) {
        let shifted = index as usize + (1 << FIRST_BITS);
        let chunk = shifted.ilog2() - FIRST_BITS;
        (chunk as usize, shifted - ((1 << FIRST_BITS) << chunk))
    }

    /// The element, if its chunk was ever asked for with [`Spine::grow`].
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = Self::locate(index);
        self.chunks.get(chunk)?.get()?.get(offset)
    }

    /// The element, made (zeroed) if need be. `index` must be below [`Spine::CAPACITY`].
    pub(super) fn grow(&self, index: u32) -> &T {
        let (chunk, offset) = Self::locate(index);
        let elements = self.chunks[chunk].get_or_init(|| zeroed((1 << FIRST_BITS) << chunk));
        &elements[offset]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn elements_keep_their_values_as_chunks_are_added() {
        let spine = Spine::<AtomicU64, 2, 5>::new();
        assert_eq!(Spine::<AtomicU64, 2, 5>::CAPACITY, 124);
        assert!(spine.get(0).is_none());
        for i in 0..124 {
            spine.grow(i).store(u64::from(i) + 1, Ordering::Relaxed);
        }
        for i in 0..124 {
            assert_eq!(
                spine.get(i).unwrap().load(Ordering::Relaxed),
                u64::from(i) + 1
            );
        }
        assert!(spine.get(124).is_none());
    }
}
