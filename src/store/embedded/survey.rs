//! What can be told of a folder without opening the store in it: facts for whoever judges them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::lock;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The folder.
    pub folder: PathBuf,
    /// Whether it is there already.
    pub exists: bool,
    /// Whether files can be made in it, or it can be made; or why not.
    pub writable: Result<(), String>,
    /// Whether another process has it, and which, as far as that can be read.
    pub holder: Option<Option<u32>>,
    /// Bytes that may still be written there; or why that is not known.
    pub free: Result<u64, String>,
}

/// Looks at a folder. What is made in it to try is removed again. Blocks.
pub fn survey(folder: &Path) -> Survey {
    let exists = folder.is_dir();
    // A folder that is not there yet is made in the nearest one that is.
    let mut nearest = folder
        .ancestors()
        .filter(|folder| !folder.as_os_str().is_empty());
    let nearest = nearest
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("."));
    let free = rustix::fs::statvfs(nearest).map_err(|error| error.to_string());
    Survey {
        folder: folder.to_owned(),
        exists,
        writable: try_writing(nearest).map_err(|error| error.to_string()),
        holder: holder(&folder.join(lock::NAME)),
        free: free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
    }
}

fn try_writing(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".tidegate-doctor-{:016x}", rand::random::<u64>()));
    File::options().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

fn holder(path: &Path) -> Option<Option<u32>> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let pid = fs::read_to_string(path).ok();
            Some(pid.and_then(|pid| pid.trim().parse().ok()))
        }
        // Let go of at once.
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::lock::FolderLock;

    #[test]
    fn a_folder_is_looked_at_and_left_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        let seen = survey(&folder);
        assert!(!seen.exists && seen.holder.is_none());
        assert_eq!(seen.writable, Ok(()));
        assert!(seen.free.unwrap() > 0);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        fs::create_dir_all(&folder).unwrap();
        let lock = FolderLock::take(&folder).unwrap();
        assert_eq!(survey(&folder).holder, Some(Some(std::process::id())));
        drop(lock);
        assert_eq!(survey(&folder).holder, None);
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(survey(&file).writable.is_err());
    }
}
