//! The end of the newest journal file after an unclean stop.
//!
//! A process that dies while it writes leaves half a batch; a machine that loses power may leave any
//! bytes after what was synced. The engine cuts half a batch off by itself but refuses to open when
//! the length or checksum of a whole one is wrong, so the file is gone through before it opens, and
//! cut after its last good batch. Nothing that was promised is lost by that: see
//! [`Fsync`](super::Fsync).
//!
//! A batch (engine format 3): `1 count:u32 seqno:u64`, then as many items
//! `2 type:u8 compression:u8 table:u64 key_len:u16 value_len:u32 stored_len:u32 key value` or
//! `4 table:u64`, then `3 xxh3_of_items:u64 "FJL\x03"`; numbers are little-endian. Space reserved
//! but not yet written is zeros.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// What ends a batch.
const TRAILER: &[u8; 4] = b"FJL\x03";
/// Batches count up by few; a number far ahead is a damaged one.
const SEQNO_STEP_MAX: u64 = 1 << 32;

/// What was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Where it ends now.
    pub at: u64,
    /// How many bytes of unreadable batches were behind that.
    pub bytes: u64,
}

/// Cuts the newest journal file in `folder` after its last good batch. `None` when it was whole.
pub(super) fn cut_torn(folder: &Path) -> io::Result<Option<Cut>> {
    let Some(path) = newest(folder)? else {
        return Ok(None);
    };
    let file = File::options().read(true).write(true).open(&path)?;
    let length = file.metadata()?.len();
    let mut journal = Journal {
        reader: BufReader::with_capacity(1 << 20, &file),
        at: 0,
        length,
        scratch: Vec::new(),
    };
    let mut good = 0;
    let mut seqno = None;
    loop {
        match journal.batch(seqno) {
            Ok(next) => {
                seqno = Some(next);
                good = journal.at;
            }
            Err(Broken::Torn) => break,
            Err(Broken::Io(error)) => return Err(error),
        }
    }
    let bytes = written_after(&file, good)?;
    if bytes == 0 {
        return Ok(None);
    }
    file.set_len(good)?;
    file.sync_all()?;
    Ok(Some(Cut {
        file: path,
        at: good,
        bytes,
    }))
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(highest, _)| number > *highest)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// How many bytes there are after `from` up to the last that is not zero.
fn written_after(mut file: &File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut buffer = vec![0; 1 << 16];
    let (mut seen, mut written) = (0, 0);
    loop {
        let n = reader.read(&mut buffer)?;
        if n == 0 {
            return Ok(written);
        }
        if let Some(last) = buffer[..n].iter().rposition(|byte| *byte != 0) {
            written = seen + last as u64 + 1;
        }
        seen += n as u64;
    }
}

enum Broken {
    /// No good batch starts here.
    Torn,
    /// The file cannot be read.
    Io(io::Error),
}

struct Journal<R> {
    reader: R,
    at: u64,
    length: u64,
    scratch: Vec<u8>,
}

impl<R: Read> Journal<R> {
    /// Goes past one batch and answers its number.
    fn batch(&mut self, before: Option<u64>) -> Result<u64, Broken> {
        let [1] = self.take()? else {
            return Err(Broken::Torn);
        };
        let count = u32::from_le_bytes(self.take()?);
        let seqno = u64::from_le_bytes(self.take()?);
        let sane = match before {
            None => seqno < 1 << 62,
            Some(before) => seqno > before && seqno - before < SEQNO_STEP_MAX,
        };
        if !sane {
            return Err(Broken::Torn);
        }
        let mut hash = Xxh3::new();
        for _ in 0..count {
            self.item(&mut hash)?;
        }
        let [3] = self.take()? else {
            return Err(Broken::Torn);
        };
        let expected = u64::from_le_bytes(self.take()?);
        if &self.take()? != TRAILER || expected != hash.digest() {
            return Err(Broken::Torn);
        }
        Ok(seqno)
    }

    fn item(&mut self, hash: &mut Xxh3) -> Result<(), Broken> {
        let tag: [u8; 1] = self.take()?;
        hash.update(&tag);
        match tag {
            [2] => {
                let head: [u8; 20] = self.take()?;
                let [
                    kind,
                    compression,
                    ..,
                    k0,
                    k1,
                    v0,
                    v1,
                    v2,
                    v3,
                    s0,
                    s1,
                    s2,
                    s3,
                ] = head;
                let value = u32::from_le_bytes([v0, v1, v2, v3]);
                let stored = u32::from_le_bytes([s0, s1, s2, s3]);
                // We write values, removals and weak removals, and compress none of them.
                if kind > 2 || compression != 0 || value != stored {
                    return Err(Broken::Torn);
                }
                hash.update(&head);
                let key = u16::from_le_bytes([k0, k1]);
                let length = u64::from(key) + u64::from(value);
                if length > self.length - self.at {
                    return Err(Broken::Torn);
                }
                let mut bytes = std::mem::take(&mut self.scratch);
                bytes.resize(length as usize, 0);
                let read = self.read(&mut bytes);
                hash.update(&bytes);
                self.scratch = bytes;
                read
            }
            [4] => {
                let table: [u8; 8] = self.take()?;
                hash.update(&table);
                Ok(())
            }
            _ => Err(Broken::Torn),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Broken> {
        match self.reader.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Broken::Torn),
            Err(error) => Err(Broken::Io(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fsync;
    use super::super::disk::{Disk, Table, Writes};
    use super::*;

    /// The bytes of a journal of three batches, and where the last begins.
    fn journal() -> (Vec<u8>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let file = folder.path().join("0.jnl");
        let mut begin = 0;
        for n in 0..3 {
            begin = written(&file).len();
            let mut writes = Writes::default();
            writes.put(Table::Tickets, vec![n, 1], vec![7; 9]);
            writes.remove(Table::Removed, vec![n, 2]);
            disk.commit(&mut writes, Fsync::Never).unwrap();
        }
        (written(&file), begin)
    }

    fn written(journal: &Path) -> Vec<u8> {
        let mut bytes = std::fs::read(journal).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(last.map_or(0, |last| last + 1));
        bytes
    }

    /// Where a journal of these bytes was cut, if it was.
    fn cut(bytes: &[u8]) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        // Not the newest: never looked at.
        std::fs::write(folder.path().join("9.jnl"), b"garbage").unwrap();
        let newest = folder.path().join("10.jnl");
        std::fs::write(&newest, bytes).unwrap();
        let cut = cut_torn(folder.path()).unwrap();
        let left = std::fs::read(&newest).unwrap();
        match cut {
            None => assert_eq!(left, bytes),
            Some(cut) => {
                assert_eq!((cut.file, cut.at as usize), (newest, left.len()));
                assert_eq!(left, bytes[..left.len()]);
                let lost = &bytes[left.len()..];
                assert!(lost[cut.bytes as usize - 1] != 0);
                assert!(lost[cut.bytes as usize..].iter().all(|byte| *byte == 0));
                return Some(left.len());
            }
        }
        None
    }

    #[test]
    fn a_whole_journal_is_left_alone_with_and_without_reserved_space() {
        let (mut bytes, _) = journal();
        assert_eq!(cut(&bytes), None);
        bytes.resize(bytes.len() + 100_000, 0);
        assert_eq!(cut(&bytes), None);
        assert_eq!(cut(&[]), None);
    }

    #[test]
    fn half_a_batch_is_cut_off_wherever_it_ends() {
        let (bytes, begin) = journal();
        for end in begin + 1..bytes.len() {
            let mut torn = bytes[..end].to_vec();
            assert_eq!(cut(&torn), Some(begin), "at {end}");
            torn.resize(bytes.len() + 500, 0);
            assert_eq!(cut(&torn), Some(begin), "at {end}, then zeros");
        }
    }

    #[test]
    fn a_damaged_batch_is_cut_off_wherever_the_damage_is() {
        let (bytes, begin) = journal();
        // The number is not covered by the checksum: a later one that is near is believed.
        let number = begin + 5..begin + 9;
        for at in (begin..bytes.len()).filter(|at| !number.contains(at)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xa5;
            assert_eq!(cut(&damaged), Some(begin), "at {at}");
        }
    }

    #[test]
    fn what_follows_the_last_batch_is_cut_off() {
        let (bytes, begin) = journal();
        let mut endless = vec![1];
        endless.extend([0xff; 64]);
        let mut holed = vec![0; 4_096];
        holed.extend(&bytes[begin..]);
        for garbage in [
            b"garbage".to_vec(),
            vec![0xff; 99],
            bytes.clone(),
            endless,
            holed,
        ] {
            let long = [&bytes[..], &garbage].concat();
            assert_eq!(cut(&long), Some(bytes.len()));
        }
    }
}
