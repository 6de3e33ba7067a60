//! Each connection costs a file descriptor; systems start processes with few of them.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the most that the system allows this process without further
/// rights, and answers it (`u64::MAX` when there is none).
pub fn raise_descriptor_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let before = limit.current;
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current = before;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}
