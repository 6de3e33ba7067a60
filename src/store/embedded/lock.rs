//! One process a folder: a locked file with the holder's pid in it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::OpenError;

/// The file's name within the folder.
pub(super) const NAME: &str = "tidegate.lock";

/// The folder is ours while this lives; the operating system lets go of it however we end.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "held, not read")] File);

impl FolderLock {
    /// Takes the folder, or names who has it.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(NAME);
        let failed = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: the refusal stands without it.
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::InUse {
                    folder: folder.to_owned(),
                    pid: holder.trim().parse().ok(),
                });
            }
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(failed)?;
        Ok(Self(file))
    }
}
