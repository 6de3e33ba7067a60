//! The segments of a line in order, and how many tickets are before each.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::model::TicketKey;
use crate::sync::AtomicU32;

use super::arena::Arena;
use super::segment::Segment;

/// The most segments in a group: few enough that renumbering one is cheap, many enough that the
/// groups stay few.
pub(super) const GROUP_MAX: usize = 64;
/// Neighbouring groups that are no more than this together become one.
pub(super) const GROUP_SPARSE: usize = 32;

/// Something with its place in a sequence of counts.
pub(super) struct Placed<T> {
    /// How many tickets are in its earlier siblings.
    pub(super) before: AtomicU32,
    pub(super) item: Arc<T>,
}

/// Some neighbouring segments.
pub(super) struct Group {
    pub(super) members: Box<[Placed<Segment>]>,
}

/// One shape of the line, replaced whole when segments come or go. What did not change is shared
/// with the shape before; what did is new, and its old counters never change again. So a reader
/// in an old shape adds up numbers that are exact or too large by removals since, never torn.
pub(super) struct Directory {
    pub(super) groups: Box<[Placed<Group>]>,
    /// Segments that this shape replaced: the positions of their tickets are being rewritten.
    pub(super) ghosts: Box<[Ghost]>,
    /// How many segment numbers were retired before this shape was published.
    pub(super) retired: u32,
}

/// A replaced segment, frozen, and what is before it in the new shape.
pub(super) struct Ghost {
    pub(super) segment: Arc<Segment>,
    pub(super) at: Location,
    /// Tickets of the replacement that are before this segment's.
    pub(super) offset: u32,
}

/// Where a segment is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) group: usize,
    pub(super) member: usize,
}

/// Numbers every item with the tickets before it, as `count` tells them.
fn place<T>(
    items: impl IntoIterator<Item = Arc<T>>,
    count: impl Fn(&T) -> u32,
) -> Box<[Placed<T>]> {
    let mut sum = 0;
    items
        .into_iter()
        .map(|item| {
            let before = AtomicU32::new(sum);
            sum += count(&item);
            Placed { before, item }
        })
        .collect()
}

impl Group {
    pub(super) fn new(segments: impl IntoIterator<Item = Arc<Segment>>) -> Self {
        Self {
            members: place(segments, Segment::live),
        }
    }

    fn live(&self) -> u32 {
        self.members
            .last()
            .map_or(0, |last| last.before.load(Relaxed) + last.item.live())
    }

    fn low(&self) -> Option<&TicketKey> {
        self.members.first().map(|first| &first.item.low)
    }
}

impl Directory {
    pub(super) fn new(groups: Vec<Arc<Group>>, retired: u32) -> Self {
        Self {
            groups: place(groups, Group::live),
            ghosts: Box::default(),
            retired,
        }
    }

    /// The segment at `at`.
    pub(super) fn segment(&self, at: Location) -> Option<&Arc<Segment>> {
        Some(&self.groups.get(at.group)?.item.members.get(at.member)?.item)
    }

    /// How many tickets are in segments before `at`, which must exist.
    pub(super) fn before(&self, at: Location) -> u32 {
        let group = &self.groups[at.group];
        group.before.load(Relaxed) + group.item.members[at.member].before.load(Relaxed)
    }

    /// Where segment `number` is, when `hint` does not tell: looks at all of them.
    #[cold]
    pub(super) fn search(&self, number: u32) -> Option<Location> {
        self.locations()
            .find(|&at| self.segment(at).is_some_and(|s| s.number == number))
    }

    /// Every location, in order.
    pub(super) fn locations(&self) -> impl Iterator<Item = Location> {
        let members = |g: &Placed<Group>| g.item.members.len();
        self.groups.iter().enumerate().flat_map(move |(group, g)| {
            (0..members(g)).map(move |member| Location { group, member })
        })
    }

    /// Where a ticket with `key` belongs; `None` in a line without segments.
    pub(super) fn locate(&self, key: &TicketKey) -> Option<Location> {
        let after = self
            .groups
            .partition_point(|g| g.item.low().is_some_and(|low| low <= key));
        let group = after.saturating_sub(1);
        let members = &self.groups.get(group)?.item.members;
        let member = members
            .partition_point(|m| m.item.low <= *key)
            .saturating_sub(1);
        Some(Location { group, member })
    }

    /// How many tickets are before `key`. For any thread.
    pub(super) fn rank_of(&self, key: &TicketKey, arena: &Arena) -> u32 {
        self.locate(key).map_or(0, |at| {
            let segment = &self.groups[at.group].item.members[at.member].item;
            self.before(at) + segment.rank(segment.boundary(0, key, arena)).0
        })
    }

    /// The location after `at`.
    pub(super) fn next(&self, at: Location) -> Option<Location> {
        let sibling = Location {
            member: at.member + 1,
            ..at
        };
        let cousin = Location {
            group: at.group + 1,
            member: 0,
        };
        [sibling, cousin]
            .into_iter()
            .find(|&l| self.segment(l).is_some())
    }

    /// The last location; `None` in a line without segments.
    pub(super) fn last(&self) -> Option<Location> {
        let group = self.groups.len().checked_sub(1)?;
        let member = self.groups[group].item.members.len().checked_sub(1)?;
        Some(Location { group, member })
    }

    /// Adds `change` to the counts after the segment at `at`: in its group for its siblings, in
    /// the directory for all later groups, so that any one reader sees it once. The writer's.
    pub(super) fn add_after(&self, at: Location, change: i32) {
        let add = |count: &AtomicU32| {
            count.store(count.load(Relaxed).wrapping_add_signed(change), Relaxed);
        };
        for sibling in &self.groups[at.group].item.members[at.member + 1..] {
            add(&sibling.before);
        }
        for later in &self.groups[at.group + 1..] {
            add(&later.before);
        }
    }
}
