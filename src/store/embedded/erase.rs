//! Erasing what a forgotten event left, in steps that are short however much that is.

use crate::model::{EventId, Micros};

use super::Failure;
use super::desk::Desk;
use super::disk::Table;
use super::layout;

/// How many entries one step looks at.
pub(super) const ERASED_MAX: usize = 8_192;

/// How far it has come. Steps go on where the last one ended, since passing over what was just
/// removed costs as much as passing over what is there.
pub(super) struct Erasing {
    event: EventId,
    until: Micros,
    place: Place,
    from: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Gate,
    Partition(u16),
}

impl Erasing {
    /// Nothing of this event is erased yet.
    pub fn new(event: EventId, until: Micros) -> Self {
        Self {
            from: layout::gate(&event),
            event,
            until,
            place: Place::Gate,
        }
    }
}

impl Desk {
    /// Takes the next entries of an event out. `None` when there are no more.
    pub fn erase(&mut self, mut at: Erasing) -> Result<Option<Erasing>, Failure> {
        let mut left = ERASED_MAX;
        loop {
            let table = match at.place {
                Place::Gate if self.is_erased(&at)? => None,
                Place::Gate => {
                    self.close_gate(&mut at);
                    Some(Table::Gates)
                }
                Place::Partition(_) => Some(Table::Tickets),
            };
            if let Some(table) = table {
                left = self.erase_some(&mut at, table, left)?;
            }
            if left == 0 {
                return Ok(Some(at));
            }
            let next = match at.place {
                Place::Gate => {
                    let until = at.until.0.to_be_bytes().to_vec();
                    self.writes
                        .put(Table::Facts, layout::erased(&at.event), until);
                    self.erase_waiting(&at)?;
                    Some(0)
                }
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

    /// Whether the gate was erased for this moment already: what is there now is another one.
    fn is_erased(&self, at: &Erasing) -> Result<bool, Failure> {
        let key = layout::erased(&at.event);
        let erased = self.disk.get(&self.writes, Table::Facts, key)?;
        let erased = erased.map(|value| layout::number(&value)).transpose()?;
        Ok(erased.is_some_and(|erased| erased >= at.until.0))
    }

    /// What this group was about to write goes too, or it would come back at the next start. A gate
    /// that was opened anew in between has written behind us.
    fn close_gate(&mut self, at: &mut Erasing) {
        let name = layout::gate(&at.event);
        if self.gates.remove(&at.event).is_some() {
            self.writes
                .cancel(|table, key| table == Table::Gates && key.starts_with(&name));
            at.from = name;
        }
    }

    /// Tickets that are not on disk yet: of those on disk, what waits to be written counts.
    fn erase_waiting(&mut self, at: &Erasing) -> Result<(), Failure> {
        let name = layout::gate(&at.event);
        let of_event = |key: &&Vec<u8>| key.get(2..).is_some_and(|rest| rest.starts_with(&name));
        let keys = self.writes.keys(Table::Tickets).filter(of_event);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.erase_ticket(key, at.until)?;
        }
        Ok(())
    }

    /// Goes on through a table, for `left` entries at most. Answers how many are left.
    fn erase_some(
        &mut self,
        at: &mut Erasing,
        table: Table,
        mut left: usize,
    ) -> Result<usize, Failure> {
        let prefix = match at.place {
            Place::Gate => layout::gate(&at.event),
            Place::Partition(partition) => layout::event_in_partition(partition, &at.event),
        };
        let entries = self.disk.table(table).range(at.from.clone()..);
        for entry in entries.take(left) {
            let key = entry.key()?;
            if !key.starts_with(&prefix) {
                break;
            }
            at.from = key.to_vec();
            match table {
                Table::Tickets => self.erase_ticket(at.from.clone(), at.until)?,
                _ => self.writes.remove(table, at.from.clone()),
            }
            left -= 1;
        }
        Ok(left)
    }

    fn erase_ticket(&mut self, key: Vec<u8>, until: Micros) -> Result<(), Failure> {
        let Some(value) = self.disk.get(&self.writes, Table::Tickets, key.clone())? else {
            return Ok(());
        };
        let before = layout::parse_held(&value)?;
        let mut held = before;
        held.erase(until);
        if let Some((removed, _)) = before.removed.filter(|_| held.removed.is_none()) {
            let index = layout::removed(removed, &key);
            self.writes.remove(Table::Removed, index);
        }
        if held.is_empty() {
            self.writes.remove(Table::Tickets, key);
        } else if held != before {
            self.writes.put(Table::Tickets, key, layout::held(&held));
        }
        Ok(())
    }

    /// The first partition from this one on that holds a ticket.
    fn partition_from(&self, partition: u16) -> Result<Option<u16>, Failure> {
        let from = partition.to_be_bytes();
        let first = self.disk.table(Table::Tickets).range(from..).next();
        let key = first.map(|entry| entry.key()).transpose()?;
        Ok(key.map(|key| layout::partition_of(&key)).transpose()?)
    }
}
