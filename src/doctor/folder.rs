//! Whether a folder will do for an embedded store.

use super::finding::{Finding, Findings};
use super::words::bytes;
use crate::store::embedded::Survey;

/// What a visitor takes on the disk: measured, a million joins took 34 bytes each, and half a million
/// removals 240 bytes each before they were merged into the tables.
const VISITOR_BYTES: u64 = 300;
/// Journal files and tables that are not merged yet.
const WORKING_BYTES: u64 = 256 << 20;

/// Judges a folder, for so many visitors.
pub fn judge(seen: &Survey, visitors: u64) -> Vec<Finding> {
    let mut found = Findings::of("folder");
    let folder = seen.folder.display();
    match (&seen.writable, seen.exists) {
        (Ok(()), true) => found.ok("folder", format!("{folder} can be written to")),
        (Ok(()), false) => {
            found.ok(
                "folder",
                format!("{folder} is not there yet and can be made"),
            );
        }
        (Err(error), _) => found.fail(
            "folder",
            format!("{folder} cannot be written to: {error}"),
            "give the user that runs tidegate the folder, or set store.path to one it has",
        ),
    }
    match seen.holder {
        None => found.ok("holder", "no other process has it"),
        Some(pid) => {
            let pid = pid.map_or(String::new(), |pid| format!(", pid {pid}"));
            found.warn(
                "holder",
                format!("another process has it{pid}: a second one is refused"),
                "fine if that is the node itself; else stop it, or set store.path to another folder",
            );
        }
    }
    let need = visitors
        .saturating_mul(VISITOR_BYTES)
        .saturating_add(WORKING_BYTES);
    let needed = format!("{visitors} visitors take about {}", bytes(need));
    let advice = "free some space, or set store.path to a folder on a larger disk";
    match &seen.free {
        Ok(free) if *free < need => {
            found.fail(
                "space",
                format!("{} are free, and {needed}", bytes(*free)),
                advice,
            );
        }
        Ok(free) if *free < need.saturating_mul(2) => {
            found.warn(
                "space",
                format!("{} are free, and {needed}", bytes(*free)),
                advice,
            );
        }
        Ok(free) => found.ok("space", format!("{} are free, and {needed}", bytes(*free))),
        Err(error) => found.warn(
            "space",
            format!("cannot look: {error}"),
            format!("see to it yourself: {needed}"),
        ),
    }
    found.all()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_folder_must_be_writable_free_and_large_enough() {
        let good = Survey {
            folder: "data".into(),
            exists: true,
            writable: Ok(()),
            holder: None,
            free: Ok(100_000_000_000),
        };
        let levels = |seen: &Survey| {
            let found = judge(seen, 1_000_000);
            found.iter().map(|f| f.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(&good), [Level::Ok; 3]);
        let bad = Survey {
            writable: Err("read-only".to_owned()),
            holder: Some(Some(7)),
            free: Ok(300_000_000),
            ..good
        };
        assert_eq!(levels(&bad), [Level::Fail, Level::Warn, Level::Fail]);
        assert!(judge(&bad, 1)[1].says.contains("pid 7"));
    }
}
