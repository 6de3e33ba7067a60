//! Nothing goes to pieces: no task of a node panics.

use super::Verdict;
use super::reading::Reading;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("no panic");
    let panics = &reading.run.panics;
    verdict.expect(panics.is_empty(), || panics.join("; "));
    verdict
}
