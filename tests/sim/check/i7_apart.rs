//! I7: no status answer waits for the store, ever; and none depends on it.

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::{Answer, Call};

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I7 apart");
    for seen in &reading.run.history {
        if seen.call != Call::Status || seen.node.is_none() || seen.held_up {
            continue;
        }
        let answered = !matches!(seen.answer, Answer::Silence | Answer::Unknown);
        verdict.expect(answered && seen.got == seen.sent, || reading.told(seen));
    }
    verdict
}
