//! Forgetting an event, in steps that are short however much it left.

use crate::model::EventId;

use super::Failure;
use super::desk::Desk;
use super::disk::Table;
use super::layout;

/// How many entries one step takes out.
pub(super) const ERASED_MAX: usize = 8_192;

/// How far it has come. Steps go on where the last one ended, since passing over what was just
/// removed costs as much as passing over what is there.
pub(super) struct Erasing {
    event: EventId,
    place: Place,
    from: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Place {
    Gate,
    Partition(u16),
}

impl Erasing {
    /// Nothing of this event is forgotten yet.
    pub fn new(event: EventId) -> Self {
        Self {
            from: layout::gate(&event),
            event,
            place: Place::Gate,
        }
    }
}

impl Desk {
    /// Takes the next entries of an event out. `None` when there are no more.
    pub fn erase(&mut self, mut at: Erasing) -> Result<Option<Erasing>, Failure> {
        let name = layout::gate(&at.event);
        self.writes.remove(Table::Facts, layout::policy(&at.event));
        // What this group was about to write goes too, or it would come back at the next start.
        self.writes.cancel(|table, key| match table {
            Table::Tickets => key.get(2..).is_some_and(|rest| rest.starts_with(&name)),
            Table::Gates => key.starts_with(&name),
            Table::Removed | Table::Facts => false,
        });
        // A gate that was opened anew in between has written behind us.
        if self.gates.remove(&at.event).is_some() {
            at = Erasing::new(at.event);
        }
        let mut left = ERASED_MAX;
        loop {
            let (table, prefix) = match at.place {
                Place::Gate => (Table::Gates, name.clone()),
                Place::Partition(partition) => {
                    let prefix = layout::event_in_partition(partition, &at.event);
                    (Table::Tickets, prefix)
                }
            };
            let entries = self.disk.table(table).range(at.from.clone()..);
            for entry in entries.take(left) {
                let (key, value) = entry.into_inner()?;
                if !key.starts_with(&prefix) {
                    break;
                }
                if table == Table::Tickets
                    && let Some((removed, _)) = layout::parse_held(&value)?.removed
                {
                    let index = layout::removed(removed, &key);
                    self.writes.remove(Table::Removed, index);
                }
                at.from = key.to_vec();
                self.writes.remove(table, at.from.clone());
                left -= 1;
            }
            if left == 0 {
                return Ok(Some(at));
            }
            let next = match at.place {
                Place::Gate => Some(0),
                Place::Partition(partition) => partition.checked_add(1),
            };
            let Some(partition) = next.map(|p| self.partition_from(p)).transpose()?.flatten()
            else {
                return Ok(None);
            };
            at.place = Place::Partition(partition);
            at.from = layout::event_in_partition(partition, &at.event);
        }
    }

    /// The first partition from this one on that holds a ticket.
    fn partition_from(&self, partition: u16) -> Result<Option<u16>, Failure> {
        let from = partition.to_be_bytes();
        let first = self.disk.table(Table::Tickets).range(from..).next();
        let key = first.map(|entry| entry.key()).transpose()?;
        Ok(key.map(|key| layout::partition_of(&key)).transpose()?)
    }
}
