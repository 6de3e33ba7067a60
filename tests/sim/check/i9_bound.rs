//! I9: every queue has a named maximum.

use tidegate::model::{Micros, TicketId};

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::{Answer, Seen};

/// A store that was away is left alone for no longer, in microseconds.
const ALONE: u64 = 15_000_000;

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
    // So has whoever missed a turn and came back, told or not; and who took the place of one that was
    // called, and shows their token to a node that could not hear of that turn.
    let more = |id: &&TicketId| may_be_back(reading, id) || is_called_unheard(reading, id);
    let back = reading.holders.keys().filter(more);
    let line = u64::from(setting.policy.max_waiting) * shares + back.count() as u64;
    verdict.expect(run.longest <= line, || {
        format!("a line held {} tickets, of {line}", run.longest)
    });
    verdict
}

/// Whether a ticket's turn was given while a node may have been cut off, or have left the store alone.
fn is_called_unheard(reading: &Reading<'_>, id: &TicketId) -> bool {
    let called = reading.called.get(id);
    called.is_some_and(|at| reading.disturbed(Micros(at.0 - ALONE), *at))
}

/// Whether somebody asked about a ticket after it had a turn, and had not been let in by that: a gate's
/// word that nobody was told is not the nodes' to know.
fn may_be_back(reading: &Reading<'_>, id: &TicketId) -> bool {
    let all = reading.of_ticket(id);
    let ready = |seen: &&&Seen| {
        matches!(
            seen.answer,
            Answer::Joined { place: 0, .. } | Answer::Place { place: 0, .. }
        )
    };
    let told = all.iter().find(ready).map(|seen| seen.got);
    let called = reading.called.get(id).copied();
    let Some(turn) = called.into_iter().chain(told).min() else {
        return false;
    };
    let over = turn.after(reading.run.plan.setting.policy.ready_ttl);
    let pass = |seen: &&Seen| matches!(seen.answer, Answer::Pass { .. }) && seen.got <= over;
    let inside = all.iter().any(pass);
    !inside && all.iter().any(|seen| seen.sent > over)
}
