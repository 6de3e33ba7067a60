//! Where: order statistics over the waiting tickets, read without a lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::model::TicketKey;
use crate::sync::{ArcSwap, AtomicU32, Guard};

use super::arena::Arena;
use super::directory::{Directory, GROUP_MAX, Location};
use super::numbers::{NUMBER_BITS, Numbers, REST};
use super::reshape::Edit;
use super::segment::{SLOTS_MAX, Segment};
use super::spine::Spine;

/// Bits of a position that are the slot; the rest is the segment's number.
const SLOT_BITS: u32 = 32 - NUMBER_BITS;
/// Slots of a line's first segment; each next one has twice as many, up to [`SLOTS_MAX`].
const SLOTS_FIRST: usize = 64;

/// A position: which slot of which segment.
pub(super) const fn position(number: u32, slot: usize) -> u32 {
    number << SLOT_BITS | slot as u32
}

/// The segment number and the slot of a position.
pub(super) const fn parts(position: u32) -> (u32, usize) {
    (
        position >> SLOT_BITS,
        (position & ((1 << SLOT_BITS) - 1)) as usize,
    )
}

/// What readers see of the order.
pub(super) struct Order {
    directory: ArcSwap<Directory>,
    /// By segment number: group and member, as they were last; to be checked against a directory.
    hints: Spine<AtomicU32, 6, 15>,
    /// Segment numbers retired so far.
    retired: AtomicU32,
}

/// What the writer alone knows of the order.
pub(super) struct Shape {
    /// The directory that is published.
    pub(super) directory: Arc<Directory>,
    pub(super) numbers: Numbers,
    /// No ticket in line is after this key.
    tail: Option<TicketKey>,
    /// Slots of the last segment that appending has passed.
    pub(super) used: usize,
    /// Slots from one appended ticket to the next.
    stride: usize,
}

impl Order {
    /// An empty line, of which appended tickets are `stride` slots apart.
    pub(super) fn new(stride: usize) -> (Self, Shape) {
        let directory = Arc::new(Directory::new(Vec::new(), 0));
        let order = Self {
            directory: ArcSwap::new(Arc::clone(&directory)),
            hints: Spine::new(),
            retired: AtomicU32::new(0),
        };
        let stride = stride.clamp(1, SLOTS_FIRST);
        (
            order,
            Shape {
                directory,
                numbers: Numbers::default(),
                tail: None,
                used: 0,
                stride,
            },
        )
    }

    /// The shape of the line now. To be loaded before the position that is looked up in it.
    pub(super) fn load(&self) -> Guard<Arc<Directory>> {
        self.directory.load()
    }

    /// How many segment numbers were retired so far, wrapping.
    pub(super) fn retired(&self) -> u32 {
        self.retired.load(Acquire)
    }

    /// Where segment `number` is in `directory`, if it is where it was noted to be: always for the
    /// writer; for a reader, but for the nanoseconds in which a new directory is published.
    pub(super) fn location(&self, directory: &Directory, number: u32) -> Option<Location> {
        let hint = unpack(self.hints.get(number)?.load(Relaxed));
        let segment = directory.segment(hint)?;
        (segment.number == number).then_some(hint)
    }

    /// How many tickets are before `position`, which was read from an entry after `directory` was
    /// loaded. `None` if the position is of a newer shape: load again.
    pub(super) fn rank(&self, directory: &Directory, position: u32) -> Option<u32> {
        let (number, slot) = parts(position);
        if self.is_old(directory.retired) {
            return None;
        }
        if let Some(at) = self.location(directory, number) {
            return Some(directory.before(at) + directory.segment(at)?.rank(slot).0);
        }
        let ghosts = &directory.ghosts;
        let Ok(ghost) = ghosts.binary_search_by_key(&number, |g| g.segment.number) else {
            let at = directory.search(number)?;
            return Some(directory.before(at) + directory.segment(at)?.rank(slot).0);
        };
        // The entry still names a replaced segment: the writer is on its way to it, and nothing
        // has been removed since the segment was frozen.
        let ghost = &ghosts[ghost];
        Some(directory.before(ghost.at) + ghost.offset + ghost.segment.rank(slot).0)
    }

    /// Whether a segment number that was in use when `retired` were retired may have a new owner.
    fn is_old(&self, retired: u32) -> bool {
        // Signed: a directory is published before it is counted.
        self.retired().wrapping_sub(retired) as i32 >= REST as i32
    }

    /// How many tickets are before `position`, which was read from an entry when `retired` numbers
    /// were retired. `None` if that was too long ago to tell.
    pub(super) fn rank_again(&self, position: u32, retired: u32) -> Option<u32> {
        let (number, slot) = parts(position);
        let directory = self.load();
        let at = self.location(&directory, number)?;
        let segment = directory.segment(at)?;
        let (rank, taken) = segment.rank(slot);
        (taken && !self.is_old(retired)).then(|| directory.before(at) + rank)
    }

    // The rest is for the one writer.

    /// Puts a ticket in line and returns its position. At the tail this is a few stores; else the
    /// ticket goes into a gap between its neighbours, or the segment is spread anew.
    pub(super) fn insert(
        &self,
        shape: &mut Shape,
        arena: &Arena,
        key: TicketKey,
        entry: u32,
    ) -> u32 {
        if shape.is_tail(&key) {
            return self.append(shape, key, entry);
        }
        let mut position = 0;
        self.insert_late(shape, arena, &[(key, entry)], &mut |_, placed| {
            position = placed
        });
        position
    }

    /// Puts tickets, in order and each once, in line; tells `placed` the entry and position of each
    /// when it can be read there.
    pub(super) fn insert_many(
        &self,
        shape: &mut Shape,
        arena: &Arena,
        batch: &[(TicketKey, u32)],
        placed: &mut impl FnMut(u32, u32),
    ) {
        let (late, tail) = batch.split_at(batch.partition_point(|(key, _)| !shape.is_tail(key)));
        self.insert_late(shape, arena, late, placed);
        for &(key, entry) in tail {
            placed(entry, self.append(shape, key, entry));
        }
    }

    /// Puts a ticket at the end.
    fn append(&self, shape: &mut Shape, key: TicketKey, entry: u32) -> u32 {
        let last = shape.directory.last();
        let segment = last.and_then(|at| shape.directory.segment(at));
        let segment = match segment {
            Some(segment) if shape.used < segment.slots() => Arc::clone(segment),
            full => {
                let slots = full.map_or(SLOTS_FIRST, |full| SLOTS_MAX.min(full.slots() * 2));
                self.extend(shape, key, slots)
            }
        };
        let slot = shape.used;
        segment.put(slot, entry);
        shape.used = slot + shape.stride;
        shape.tail = Some(key);
        position(segment.number, slot)
    }

    /// Adds a segment at the end, in place of the last one if that has come to be empty.
    fn extend(&self, shape: &mut Shape, low: TicketKey, slots: usize) -> Arc<Segment> {
        let segment = Arc::new(Segment::new(shape.numbers.take(), low, slots));
        let new = vec![Arc::clone(&segment)];
        let edit = match shape.directory.last() {
            None => Edit {
                at: Location {
                    group: 0,
                    member: 0,
                },
                old: 0,
                new,
            },
            Some(at) if shape.directory.segment(at).is_some_and(|s| s.live() == 0) => {
                Edit { at, old: 1, new }
            }
            Some(at) if at.member + 1 < GROUP_MAX => Edit {
                at: Location {
                    member: at.member + 1,
                    ..at
                },
                old: 0,
                new,
            },
            Some(at) => Edit {
                at: Location {
                    group: at.group + 1,
                    member: 0,
                },
                old: 0,
                new,
            },
        };
        self.publish(shape, &[edit]);
        shape.used = 0;
        segment
    }

    /// Takes a ticket, whose entry no longer claims to wait here, out of line.
    pub(super) fn remove(&self, shape: &mut Shape, arena: &Arena, position: u32) {
        self.take(shape, position);
        self.tidy(shape, arena, position);
    }

    /// Empties a slot and no more: the segment stays, so that the position can still be read.
    pub(super) fn take(&self, shape: &Shape, position: u32) {
        let (number, slot) = parts(position);
        let directory = &shape.directory;
        if let Some(at) = self.location(directory, number)
            && let Some(segment) = directory.segment(at)
        {
            segment.take(slot);
            directory.add_after(at, -1);
        }
    }

    /// Makes `directory` the shape of the line.
    pub(super) fn set(&self, shape: &mut Shape, directory: Directory) {
        let retired = directory.retired;
        shape.directory = Arc::new(directory);
        self.directory.store(Arc::clone(&shape.directory));
        self.retired.store(retired, Release);
    }

    /// Notes where segment `number` is about to be.
    pub(super) fn set_hint(&self, number: u32, at: Location) {
        self.hints
            .grow(number)
            .store((at.group << 8 | at.member) as u32, Relaxed);
    }

    /// Where segment `number` was last noted to be.
    pub(super) fn hint(&self, number: u32) -> Location {
        unpack(self.hints.grow(number).load(Relaxed))
    }
}

impl Shape {
    /// Whether `key` is after all that are in line.
    fn is_tail(&self, key: &TicketKey) -> bool {
        self.tail.is_none_or(|tail| tail < *key)
    }
}

const fn unpack(hint: u32) -> Location {
    Location {
        group: hint as usize >> 8,
        member: hint as usize & 0xff,
    }
}
