//! Reading a partition in pieces, beside the writer.

use std::ops::Bound;

use crate::model::{EventId, Micros, Rulings};
use crate::store::{Chunk, Cursor};

use super::Failure;
use super::disk::{Disk, Table};
use super::layout;

/// About `limit` tickets of a partition after a cursor, without removals of `horizon` or before.
pub(super) fn chunk(
    disk: &Disk,
    partition: u16,
    from: Option<Cursor>,
    limit: usize,
    horizon: Micros,
) -> Result<Chunk, Failure> {
    let start = match from {
        Some(Cursor(key)) if layout::partition_of(&key)? != partition => {
            return Err(Failure::Cursor);
        }
        Some(Cursor(key)) => Bound::Excluded(key),
        None => Bound::Included(partition.to_be_bytes().to_vec()),
    };
    let end = match partition.checked_add(1) {
        Some(next) => Bound::Excluded(next.to_be_bytes().to_vec()),
        None => Bound::Unbounded,
    };
    let mut chunk = Chunk::default();
    let mut last = None;
    let mut entries = disk.table(Table::Tickets).range((start, end));
    for entry in entries.by_ref().take(limit) {
        let (key, value) = entry.into_inner()?;
        let (event, id) = layout::parse_ticket(&key)?;
        let mut held = layout::parse_held(&value)?;
        held.forget_removed(horizon);
        match chunk.tickets.last_mut() {
            Some((same, tickets)) if same.as_str() == event => tickets.extend(held.stored(id)),
            _ => {
                let event = EventId::new(event)?;
                chunk.tickets.push((event, held.stored(id).collect()));
            }
        }
        last = Some(key);
    }
    if entries.next().is_some() {
        chunk.next = last.map(|key| Cursor(key.to_vec()));
    }
    Ok(chunk)
}

/// All rulings.
pub(super) fn rulings(disk: &Disk) -> Result<Rulings, Failure> {
    let facts = disk.table(Table::Facts);
    let read = |entry: fjall::Guard| {
        let (key, value) = entry.into_inner()?;
        Ok(layout::parse_ruling(&key, &value)?)
    };
    let revision = facts.get(layout::REVISION)?;
    Ok(Rulings {
        revision: revision.map_or(Ok(0), |value| layout::number(&value))?,
        events: facts
            .prefix(layout::RULINGS)
            .map(read)
            .collect::<Result<_, Failure>>()?,
    })
}
