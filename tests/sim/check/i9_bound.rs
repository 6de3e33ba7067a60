//! I9: every queue has a named maximum.

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::{Answer, Seen};

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I9 bound");
    let (run, setting) = (reading.run, &reading.run.plan.setting);
    // Joins end at the bound, everything else at an eighth above it.
    let journal = setting.journal + setting.journal / 8;
    verdict.expect(run.deepest <= journal, || {
        format!("a journal held {} records, of {journal}", run.deepest)
    });
    // Each node stops at the bound as far as it has heard; and whoever comes back with a token after
    // a node died, while others took the places, has one all the same.
    let shares = u64::from(setting.nodes) + reading.deaths().count() as u64;
    // So has whoever missed a turn and came back.
    let place = |seen: &Seen| match seen.answer {
        Answer::Place { place, .. } => Some(place),
        _ => None,
    };
    let back = reading.calls.values().map(|calls| {
        let places: Vec<_> = calls.iter().filter_map(|seen| place(seen)).collect();
        places
            .windows(2)
            .filter(|pair| pair[0] == 0 && pair[1] > 0)
            .count() as u64
    });
    let line = u64::from(setting.policy.max_waiting) * shares + back.sum::<u64>();
    verdict.expect(run.longest <= line, || {
        format!("a line held {} tickets, of {line}", run.longest)
    });
    verdict
}
