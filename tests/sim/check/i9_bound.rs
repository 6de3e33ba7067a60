//! I9: every queue has a named maximum.

use tidegate::model::{Micros, TicketId};

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::Answer;

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
    // So has whoever missed a turn, told or not, and came back.
    let is_back = |id: &TicketId, called: Micros| {
        let of = reading.of_ticket(id).into_iter();
        let mut later = of.filter(|seen| seen.got > called);
        later.any(|seen| matches!(seen.answer, Answer::Place { place, .. } if place > 0))
    };
    let back = reading.called.iter().filter(|(id, at)| is_back(id, **at));
    let line = u64::from(setting.policy.max_waiting) * shares + back.count() as u64;
    verdict.expect(run.longest <= line, || {
        format!("a line held {} tickets, of {line}", run.longest)
    });
    verdict
}
