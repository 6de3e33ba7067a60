//! Changing the shape of the line under readers' eyes: spreading a segment anew, splitting,
//! merging, dropping.
//!
//! In three steps, all under the writer's lock. (1) Build the new segments and publish a directory
//! with them, in which the numbers of the old ones still resolve to the old ones, frozen, as
//! ghosts. (2) Rewrite the positions of the entries that moved. (3) Let the ghosts go with the next
//! directory. A reader that holds an old position and an old directory adds up old numbers; with
//! the new directory it meets the ghost, exact while step 2 lasts; with a position newer than its
//! directory it loads the directory again. None of them waits.

use std::sync::Arc;

use crate::model::TicketKey;

use super::arena::Arena;
use super::directory::{Directory, GROUP_MAX, GROUP_SPARSE, Ghost, Group, Location};
use super::order::{Order, Shape, parts, position};
use super::segment::{SLOTS_MAX, Segment};

/// A segment that is spread anew with more tickets than this is split.
const SPLIT_ABOVE: usize = SLOTS_MAX * 3 / 4;
/// A ticket that was in line before spreading gets at most this many slots, gaps included.
const SPREAD: usize = 4;
/// Neighbours that together have at most this many tickets may be merged ...
const MERGE_BELOW: u32 = SLOTS_MAX as u32 / 2;
/// ... when one of them has shrunk to this or less.
const SPARSE: u32 = 512;

/// Some neighbouring segments of one group, and what takes their place.
pub(super) struct Edit {
    /// Where the first of them is, or where to put the new ones.
    pub(super) at: Location,
    /// How many they are.
    pub(super) old: usize,
    /// What takes their place.
    pub(super) new: Vec<Arc<Segment>>,
}

/// An edit that moves tickets, and all its tickets in order.
struct Spread {
    edit: Edit,
    tickets: Vec<Ticket>,
    /// Slots of the last new segment up to the end of the last ticket's share.
    used: usize,
}

#[derive(Clone, Copy)]
struct Ticket {
    entry: u32,
    /// Not in line before.
    fresh: bool,
}

impl Order {
    /// Publishes the directory that `edits`, in order, make of the present one.
    pub(super) fn publish(&self, shape: &mut Shape, edits: &[Edit]) {
        let old = Arc::clone(&shape.directory);
        let mut rest = edits;
        let mut groups: Vec<Arc<Group>> = Vec::with_capacity(old.groups.len() + 1);
        for g in 0..=old.groups.len() {
            let (mine, others) = rest.split_at(rest.partition_point(|e| e.at.group == g));
            rest = others;
            match old.groups.get(g) {
                Some(group) if mine.is_empty() => groups.push(Arc::clone(&group.item)),
                group => regroup(&mut groups, edited(group.map(|g| &*g.item), mine)),
            }
        }
        for (g, group) in groups.iter().enumerate() {
            if old
                .groups
                .get(g)
                .is_none_or(|before| !Arc::ptr_eq(&before.item, group))
            {
                for (member, placed) in group.members.iter().enumerate() {
                    self.set_hint(placed.item.number, Location { group: g, member });
                }
            }
        }
        let ghosts = self.retire(shape, &old, edits);
        let directory = Directory::new(groups, shape.numbers.retired());
        self.set(
            shape,
            Directory {
                ghosts,
                ..directory
            },
        );
    }

    /// Retires the numbers of the replaced segments; what remains of those that had tickets.
    fn retire(&self, shape: &mut Shape, old: &Directory, edits: &[Edit]) -> Box<[Ghost]> {
        let mut ghosts = Vec::new();
        for edit in edits {
            let mut offset = 0;
            for member in edit.at.member..edit.at.member + edit.old {
                let Some(segment) = old.segment(Location { member, ..edit.at }) else {
                    continue;
                };
                shape.numbers.retire(segment.number);
                if let Some(first) = edit.new.first() {
                    let (segment, at) = (Arc::clone(segment), self.hint(first.number));
                    ghosts.push(Ghost {
                        at,
                        offset,
                        segment,
                    });
                    offset += ghosts.last().map_or(0, |g: &Ghost| g.segment.live());
                }
            }
        }
        ghosts.sort_unstable_by_key(|g| g.segment.number);
        ghosts.into()
    }

    /// Puts tickets, in order, between those in line.
    pub(super) fn insert_late(
        &self,
        shape: &mut Shape,
        arena: &Arena,
        batch: &[(TicketKey, u32)],
        placed: &mut impl FnMut(u32, u32),
    ) {
        let directory = Arc::clone(&shape.directory);
        let mut spreads = Vec::new();
        let mut rest = batch;
        while let Some((first, _)) = rest.first()
            && let Some(at) = directory.locate(first)
            && let Some(segment) = directory.segment(at)
        {
            let end = directory
                .next(at)
                .and_then(|next| directory.segment(next))
                .map(|s| s.low);
            let (run, others) =
                rest.split_at(rest.partition_point(|(key, _)| end.is_none_or(|low| *key < low)));
            rest = others;
            let mut left = run;
            // A few may fit the gaps; many are better spread at once.
            while run.len() <= 4 + segment.live() as usize / 8
                && let Some((&(key, entry), others)) = left.split_first()
                && let Some(slot) = shape.gap(at, segment, &key, arena)
            {
                segment.put(slot, entry);
                directory.add_after(at, 1);
                placed(entry, position(segment.number, slot));
                left = others;
            }
            if !left.is_empty() {
                spreads.push(spread(shape, arena, at, 1, left));
            }
        }
        self.replace(shape, arena, spreads, placed);
    }

    /// Carries out `spreads`: publishes the segments, then rewrites the positions.
    fn replace(
        &self,
        shape: &mut Shape,
        arena: &Arena,
        spreads: Vec<Spread>,
        placed: &mut impl FnMut(u32, u32),
    ) {
        let Some(last) = spreads.last() else { return };
        let after = Location {
            member: last.edit.at.member + last.edit.old,
            ..last.edit.at
        };
        if shape
            .directory
            .last()
            .is_some_and(|at| after.group == at.group && after.member > at.member)
        {
            shape.used = last.used;
        }
        let (edits, tickets): (Vec<_>, Vec<_>) =
            spreads.into_iter().map(|s| (s.edit, s.tickets)).unzip();
        self.publish(shape, &edits);
        for (edit, tickets) in edits.iter().zip(tickets) {
            let slots = edit
                .new
                .iter()
                .flat_map(|s| s.taken(0..s.slots()).map(move |slot| (s, slot)));
            for (ticket, (segment, slot)) in tickets.into_iter().zip(slots) {
                let position = position(segment.number, slot);
                if ticket.fresh {
                    placed(ticket.entry, position);
                } else {
                    arena.set_position(ticket.entry, position);
                }
            }
        }
    }

    /// After a removal from `position`: drops its segment if it is empty, merges it with a
    /// neighbour if both have become sparse. The last segment stays, as tickets are added to it.
    pub(super) fn tidy(&self, shape: &mut Shape, arena: &Arena, position: u32) {
        let directory = &shape.directory;
        let Some(at) = self.location(directory, parts(position).0) else {
            return;
        };
        let Some(live) = directory.segment(at).map(|segment| segment.live()) else {
            return;
        };
        // Asked at powers of two only, so that removals stay cheap.
        let is_sparse = live <= SPARSE && live.is_power_of_two();
        if !(live == 0 || is_sparse) || directory.last() == Some(at) {
            return;
        }
        if live == 0 {
            self.publish(
                shape,
                &[Edit {
                    at,
                    old: 1,
                    new: Vec::new(),
                }],
            );
        } else {
            let before = at
                .member
                .checked_sub(1)
                .map(|member| Location { member, ..at });
            let first = before.into_iter().chain([at]).find(|&first| {
                let second = Location {
                    member: first.member + 1,
                    ..first
                };
                let (one, two) = (directory.segment(first), directory.segment(second));
                one.zip(two).is_some_and(|(one, two)| {
                    one.live() + two.live() <= MERGE_BELOW && directory.last() != Some(second)
                })
            });
            if let Some(first) = first {
                let merged = spread(shape, arena, first, 2, &[]);
                self.replace(shape, arena, vec![merged], &mut |_, _| ());
            }
        }
    }
}

impl Shape {
    /// An empty slot for `key` between its neighbours in `segment`, which is at `at`.
    fn gap(
        &mut self,
        at: Location,
        segment: &Segment,
        key: &TicketKey,
        arena: &Arena,
    ) -> Option<usize> {
        let boundary = segment.boundary(0, key, arena);
        let low = segment.taken_before(boundary).map_or(0, |slot| slot + 1);
        match segment.taken(boundary..segment.slots()).next() {
            None if self.directory.last() == Some(at) && self.used < segment.slots() => {
                self.used += 1;
                Some(self.used - 1)
            }
            next => {
                let high = next.unwrap_or(segment.slots());
                (low < high).then(|| low.midpoint(high))
            }
        }
    }
}

/// The segments of `group` after `edits` of it.
fn edited(group: Option<&Group>, edits: &[Edit]) -> Vec<Arc<Segment>> {
    let members = group.map_or(&[][..], |g| &g.members);
    let mut segments = Vec::with_capacity(members.len() + edits.len());
    let mut done = 0;
    for edit in edits {
        let kept = &members[done..edit.at.member];
        segments.extend(kept.iter().map(|m| Arc::clone(&m.item)));
        segments.extend(edit.new.iter().map(Arc::clone));
        done = edit.at.member + edit.old;
    }
    segments.extend(members[done..].iter().map(|m| Arc::clone(&m.item)));
    segments
}

/// Adds `segments` to the groups: with the last one if both are small, as several if they are many.
fn regroup(groups: &mut Vec<Arc<Group>>, mut segments: Vec<Arc<Segment>>) {
    if segments.is_empty() {
        return;
    }
    if let Some(last) = groups.pop_if(|g| g.members.len() + segments.len() <= GROUP_SPARSE) {
        segments.splice(0..0, last.members.iter().map(|m| Arc::clone(&m.item)));
    }
    if segments.len() <= GROUP_MAX {
        groups.push(Arc::new(Group::new(segments)));
        return;
    }
    let parts = segments.len().div_ceil(GROUP_MAX * 3 / 4);
    let size = segments.len().div_ceil(parts);
    groups.extend(
        segments
            .chunks(size)
            .map(|c| Arc::new(Group::new(c.iter().map(Arc::clone)))),
    );
}

/// Spreads the tickets of `old` segments from `at` on, and `newcomers` (in order), evenly over new
/// segments.
fn spread(
    shape: &mut Shape,
    arena: &Arena,
    at: Location,
    old: usize,
    newcomers: &[(TicketKey, u32)],
) -> Spread {
    let directory = Arc::clone(&shape.directory);
    let segments: Vec<_> = (at.member..at.member + old)
        .filter_map(|member| directory.segment(Location { member, ..at }))
        .collect();
    let mut tickets = Vec::new();
    let mut rest = newcomers;
    for (i, segment) in segments.iter().enumerate() {
        let mut from = 0;
        let is_last = i + 1 == segments.len();
        let mine = segments.get(i + 1).map_or(rest.len(), |next| {
            rest.partition_point(|(key, _)| *key < next.low)
        });
        debug_assert!(!is_last || mine == rest.len());
        for &(key, entry) in &rest[..mine] {
            let to = segment.boundary(from, &key, arena);
            tickets.extend(
                segment
                    .taken(from..to)
                    .map(|s| Ticket::settled(segment.entry(s))),
            );
            tickets.push(Ticket { entry, fresh: true });
            from = to;
        }
        rest = &rest[mine..];
        let after = segment.taken(from..segment.slots());
        tickets.extend(after.map(|s| Ticket::settled(segment.entry(s))));
    }

    let parts = if tickets.len() <= SPLIT_ABOVE {
        1
    } else {
        tickets.len().div_ceil(SLOTS_MAX / 2)
    };
    let size = tickets.len().div_ceil(parts).max(1);
    let after = Location {
        member: at.member + old,
        ..at
    };
    let is_last = directory.segment(after).is_none() && directory.next(after).is_none();
    let mut used = 0;
    let new = tickets.chunks(size).enumerate().map(|(part, tickets)| {
        used = SLOTS_MAX.min(tickets.len() * SPREAD);
        let first = arena.key(tickets[0].entry);
        let low = match segments.first() {
            Some(old) if part == 0 => old.low.min(first),
            _ => first,
        };
        // The last one gets room for those who join next.
        let slots = if is_last {
            SLOTS_MAX.min(used * 2)
        } else {
            used
        };
        let mut segment = Segment::new(shape.numbers.take(), low, slots);
        let share = |i| i * used / tickets.len();
        segment.fill(
            tickets
                .iter()
                .enumerate()
                .map(|(i, ticket)| (share(i), ticket.entry)),
        );
        Arc::new(segment)
    });
    let new = new.collect();
    Spread {
        edit: Edit { at, old, new },
        tickets,
        used,
    }
}

impl Ticket {
    const fn settled(entry: u32) -> Self {
        Self {
            entry,
            fresh: false,
        }
    }
}
