//! What each call changes: worked out in the writer's order, written with its group.

use ahash::AHashMap;

use crate::model::gate::{AdvanceRequest, Advanced, EnterRequest, Entry, GateView};
use crate::model::ruling;
use crate::model::{Batch, EventId, Gone, Kind, Micros, Ruled, Ruling, Rulings, TicketId, micros};
use crate::store::gate::{Change, Gate};
use crate::store::{Meta, StoreClock};

use super::disk::{Disk, Table, Writes};
use super::layout::{self, Piece};
use super::{Failure, Settings, load};

/// How many removals a group forgets at most.
const FORGOTTEN_MAX: usize = 1_024;

/// The writer's own state. One thread has it.
pub(super) struct Desk {
    pub disk: Disk,
    pub writes: Writes,
    /// Asked to end after this group.
    pub closing: bool,
    clock: StoreClock,
    settings: Settings,
    pub(super) gates: AHashMap<EventId, Gate>,
    rulings: Rulings,
    /// Removals before this key are forgotten already, so nobody looks there again.
    forgotten_to: Vec<u8>,
}

impl Desk {
    /// Reads the gates that were written.
    pub fn open(disk: Disk, settings: Settings, clock: StoreClock) -> Result<Self, Failure> {
        let mut gates = AHashMap::<EventId, Gate>::default();
        for entry in disk.table(Table::Gates).iter() {
            let (key, value) = entry.into_inner()?;
            let (event, piece) = layout::parse_gate(&key, &value)?;
            let gate = gates.entry(event).or_default();
            match piece {
                Piece::Bucket(bucket) => gate.restore_bucket(bucket),
                Piece::Change(change) => gate.restore(change),
            }
        }
        Ok(Self {
            rulings: load::rulings(&disk)?,
            disk,
            writes: Writes::default(),
            closing: false,
            clock,
            settings,
            gates,
            forgotten_to: Vec::new(),
        })
    }

    pub fn now(&self) -> Micros {
        (self.clock)()
    }

    /// Merges a batch into its partition.
    pub fn append(&mut self, partition: u16, batch: &Batch) -> Result<(), Failure> {
        for (event, records) in &batch.events {
            // The others change nothing durable; most records are such.
            let durable = |kind: Kind| kind == Kind::Joined || kind.gone().is_some();
            for record in records.iter().filter(|record| durable(record.kind)) {
                let key = layout::ticket(partition, event, record.id);
                let written = self.disk.get(&self.writes, Table::Tickets, key.clone())?;
                let before = match written {
                    Some(value) => layout::parse_held(&value)?,
                    None => Default::default(),
                };
                let mut held = before;
                if held.apply(record) {
                    self.index_removal(&key, before.removed, held.removed);
                    let value = layout::held(&held);
                    self.writes.put(Table::Tickets, key, value);
                }
            }
        }
        Ok(())
    }

    fn index_removal(
        &mut self,
        key: &[u8],
        before: Option<(Micros, Gone)>,
        after: Option<(Micros, Gone)>,
    ) {
        let (before, after) = (before.map(|(at, _)| at), after.map(|(at, _)| at));
        if before == after {
            return;
        }
        if let Some(at) = before {
            let old = layout::removed(at, key);
            self.writes.remove(Table::Removed, old);
        }
        if let Some(at) = after {
            let new = layout::removed(at, key);
            // One that was late, behind what is forgotten, must be found too.
            if new < self.forgotten_to {
                self.forgotten_to.clone_from(&new);
            }
            self.writes.put(Table::Removed, new, Vec::new());
        }
    }

    /// Removals of this moment or before are forgotten.
    pub fn horizon(&self) -> Micros {
        Micros(
            self.now()
                .0
                .saturating_sub(micros(self.settings.keep_removed)),
        )
    }

    /// Forgets the oldest removals that are due, of those that are on disk.
    pub fn forget_removed(&mut self) -> Result<(), Failure> {
        let horizon = self.horizon();
        let end = horizon.0.saturating_add(1).to_be_bytes().to_vec();
        if self.forgotten_to >= end {
            return Ok(());
        }
        let due = self.disk.table(Table::Removed);
        let due = due.range(self.forgotten_to.clone()..end);
        let mut last = None;
        for entry in due.take(FORGOTTEN_MAX) {
            let index = entry.key()?.to_vec();
            let key = layout::ticket_of_removed(&index).to_vec();
            if let Some(value) = self.disk.get(&self.writes, Table::Tickets, key.clone())? {
                let mut held = layout::parse_held(&value)?;
                held.forget_removed(horizon);
                if held.is_empty() {
                    self.writes.remove(Table::Tickets, key);
                } else {
                    self.writes.put(Table::Tickets, key, layout::held(&held));
                }
            }
            last = Some(index.clone());
            self.writes.remove(Table::Removed, index);
        }
        self.forgotten_to = last.unwrap_or_else(|| std::mem::take(&mut self.forgotten_to));
        Ok(())
    }

    pub fn gates(&self) -> Vec<GateView> {
        let now = self.now();
        let gates = self.gates.iter();
        gates
            .map(|(event, gate)| gate.view(now, event.clone()))
            .collect()
    }

    pub fn advance(&mut self, request: &AdvanceRequest) -> Advanced {
        let now = self.now();
        let mut changes = Vec::new();
        let gate = self.gates.entry(request.event.clone()).or_default();
        let answer = gate.advance(now, request, &mut changes);
        self.write_gate(&request.event, &changes);
        answer
    }

    pub fn enter(&mut self, request: &EnterRequest) -> Entry {
        let now = self.now();
        let mut changes = Vec::new();
        let gate = self.gates.entry(request.event.clone()).or_default();
        let answer = gate.enter(now, request, &mut changes);
        if !changes.is_empty() {
            self.write_gate(&request.event, &changes);
        }
        answer
    }

    pub fn complete(&mut self, event: &EventId, id: &TicketId) -> bool {
        let mut changes = Vec::new();
        let gate = self.gates.get_mut(event);
        let held = gate.is_some_and(|gate| gate.complete(id, &mut changes));
        if held {
            self.write_gate(event, &changes);
        }
        held
    }

    fn write_gate(&mut self, event: &EventId, changes: &[Change]) {
        for change in changes {
            match layout::change(event, change) {
                (key, Some(value)) => self.writes.put(Table::Gates, key, value),
                (key, None) => self.writes.remove(Table::Gates, key),
            }
        }
        if let Some(gate) = self.gates.get(event) {
            let bucket = layout::bucket_value(gate.bucket());
            self.writes.put(Table::Gates, layout::bucket(event), bucket);
        }
    }

    /// The fixed facts; made up and written when there are none.
    pub fn meta(&mut self, partitions: u16) -> Result<Meta, Failure> {
        let key = layout::META.to_vec();
        if let Some(value) = self.disk.get(&self.writes, Table::Facts, key.clone())? {
            return layout::parse_meta(&value).map_err(Failure::from);
        }
        let meta = Meta::new(partitions);
        self.writes
            .put(Table::Facts, key, layout::meta_value(&meta));
        Ok(meta)
    }

    /// What operators ruled, unless it is of this revision.
    pub fn rulings(&self, known: u64) -> Option<Rulings> {
        (self.rulings.revision != known).then(|| self.rulings.clone())
    }

    pub fn rule(&mut self, event: &EventId, change: &ruling::Change, at: Micros) -> Ruled {
        let before: Vec<_> = self.rulings.events.keys().cloned().collect();
        let keep = self.settings.keep_removed;
        let ruled = self.rulings.rule(event, change, at, keep);
        for event in before {
            if !self.rulings.events.contains_key(&event) {
                self.writes.remove(Table::Facts, layout::ruling(&event));
                self.writes.remove(Table::Facts, layout::erased(&event));
            }
        }
        self.write_ruling(event);
        ruled
    }

    pub fn restore_rulings(&mut self, rulings: Vec<(EventId, Ruling)>) {
        for event in self.rulings.restore(rulings) {
            self.write_ruling(&event);
        }
    }

    fn write_ruling(&mut self, event: &EventId) {
        let revision = self.rulings.revision.to_be_bytes().to_vec();
        if let Some(ruling) = self.rulings.events.get(event) {
            let (key, text) = (layout::ruling(event), ruling.to_string());
            self.writes.put(Table::Facts, key, text.into_bytes());
        }
        self.writes
            .put(Table::Facts, layout::REVISION.to_vec(), revision);
    }
}
