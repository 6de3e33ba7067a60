//! The engine: four tables, written together in one atomic batch.

use std::path::Path;

use ahash::AHashMap;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::tail::cut_torn;
use super::{Fsync, OpenError};

/// A table is written out of memory at this size, as the engine counts: it takes up to twice that,
/// and as much again for the one that is being written.
const TABLE_BYTES_IN_MEMORY: u64 = 8 << 20;
/// Journal files are disposed of beyond this much, so a start after a crash replays no more.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Blocks of tables kept in memory.
const CACHE_BYTES: u64 = 32 << 20;

/// The tables; see [`layout`](super::layout).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Table {
    Tickets,
    Removed,
    Gates,
    Facts,
}

/// What waits to be written: the last word on each key.
#[derive(Default)]
pub(super) struct Writes(AHashMap<(Table, Vec<u8>), Option<Vec<u8>>>);

impl Writes {
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert((table, key), Some(value));
    }

    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.0.insert((table, key), None);
    }

    /// Turns what waits to be written and matches into a removal.
    pub fn cancel(&mut self, matches: impl Fn(Table, &[u8]) -> bool) {
        for ((table, key), value) in &mut self.0 {
            if matches(*table, key) {
                *value = None;
            }
        }
    }

    /// The keys of a table that wait to be written.
    pub fn keys(&self, table: Table) -> impl Iterator<Item = &Vec<u8>> {
        let keys = self.0.iter().filter(|(_, value)| value.is_some());
        keys.filter_map(move |((of, key), _)| (*of == table).then_some(key))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// An open database. Clones share it.
#[derive(Clone)]
pub(super) struct Disk {
    database: Database,
    tickets: Keyspace,
    removed: Keyspace,
    gates: Keyspace,
    facts: Keyspace,
    /// Commits fail while it is set.
    #[cfg(test)]
    pub full: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Disk {
    /// Opens the database in `folder`, made new if there is none, after cutting off what a crash
    /// left torn.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        if folder.exists() {
            let cut = cut_torn(folder).map_err(|source| OpenError::Io {
                path: folder.to_owned(),
                source,
            })?;
            if let Some(cut) = cut {
                tracing::warn!(
                    file = %cut.file.display(),
                    at = cut.at,
                    bytes = cut.bytes,
                    "cut the unreadable end off the newest journal file",
                );
            }
        }
        let engine = |source| OpenError::Engine {
            folder: folder.to_owned(),
            source,
        };
        let database = Database::builder(folder)
            .manual_journal_persist(true)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .cache_size(CACHE_BYTES)
            .worker_threads(2)
            .open()
            .map_err(engine)?;
        let table = |name| {
            let options = || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(TABLE_BYTES_IN_MEMORY)
            };
            database.keyspace(name, options).map_err(engine)
        };
        Ok(Self {
            tickets: table("tickets")?,
            removed: table("removed")?,
            gates: table("gates")?,
            facts: table("facts")?,
            database,
            #[cfg(test)]
            full: Default::default(),
        })
    }

    pub fn table(&self, table: Table) -> &Keyspace {
        match table {
            Table::Tickets => &self.tickets,
            Table::Removed => &self.removed,
            Table::Gates => &self.gates,
            Table::Facts => &self.facts,
        }
    }

    /// The value of a key, as it will be once `writes` are written.
    pub fn get(
        &self,
        writes: &Writes,
        table: Table,
        key: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, fjall::Error> {
        // Both need the key as one value; it is given back to neither.
        let place = (table, key);
        match writes.0.get(&place) {
            Some(value) => Ok(value.clone()),
            None => Ok(self.table(table).get(&place.1)?.map(|value| value.to_vec())),
        }
    }

    /// Writes all, or nothing, as safely as `fsync` says.
    pub fn commit(&self, writes: &mut Writes, fsync: Fsync) -> Result<(), fjall::Error> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        let mode = match fsync {
            Fsync::Always => PersistMode::SyncData,
            Fsync::Interval | Fsync::Never => PersistMode::Buffer,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for ((table, key), value) in writes.0.drain() {
            match value {
                Some(value) => batch.insert(self.table(table), key, value),
                None => batch.remove(self.table(table), key),
            }
        }
        batch.commit()
    }

    /// Returns once everything committed would survive a loss of power.
    pub fn sync(&self) -> Result<(), fjall::Error> {
        self.database.persist(PersistMode::SyncData)
    }
}
