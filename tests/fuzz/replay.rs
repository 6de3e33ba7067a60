//! The corpus, once through.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Files of one target, and bytes of all.
const FILES_MAX: usize = 120;
const BYTES_MAX: u64 = 1 << 20;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        (1..=FILES_MAX).contains(&files.len()),
        "{} files",
        files.len()
    );
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        if catch_unwind(AssertUnwindSafe(|| run(&bytes))).is_err() {
            panic!(
                "fuzz/corpus/{target}/{}",
                file.file_name().unwrap().display()
            );
        }
    }
}

#[test]
fn token() {
    replay("token", super::token::run);
}

#[test]
fn codec() {
    replay("codec", super::codec::run);
}

#[test]
fn config() {
    replay("config", super::config::run);
}

#[test]
fn http() {
    replay("http", super::http::run);
}

#[test]
fn operations() {
    replay("operations", super::operations::run);
}

#[test]
fn the_corpus_is_small() {
    fn bytes(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let of = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
            found if found.is_dir() => bytes(&entry.path()),
            found => found.len(),
        };
        entries.map(of).sum()
    }
    let all = bytes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"));
    assert!(all <= BYTES_MAX, "{all} bytes");
}
