//! I2: a ticket enters at most once, and a retry gets the same pass.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::model::{Gone, TicketId};

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::Answer;
use crate::sim::ledger::Deed;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I2 once");
    let mut passes: BTreeMap<TicketId, BTreeSet<&str>> = BTreeMap::new();
    let entered = reading
        .run
        .ledger
        .iter()
        .filter(|line| line.deed == Deed::Entered)
        .map(|line| line.id)
        .collect::<BTreeSet<_>>();
    for (who, calls) in &reading.calls {
        let Some(ticket) = reading.tickets.get(who) else {
            continue;
        };
        for seen in calls {
            match &seen.answer {
                Answer::Pass { pass, .. } => {
                    let of = passes.entry(ticket.id).or_default();
                    of.insert(pass);
                    let one = of.len() == 1 || reading.is_forgotten(&ticket.id);
                    verdict.expect(one, || {
                        format!("{} has a second pass: {}", ticket.id, reading.told(seen))
                    });
                }
                Answer::Inside | Answer::Gone(Some(Gone::Entered)) => {
                    verdict.expect(entered.contains(&ticket.id), || {
                        format!("{} is said to be inside: {}", ticket.id, reading.told(seen))
                    });
                }
                _ => {}
            }
        }
    }
    verdict
}
