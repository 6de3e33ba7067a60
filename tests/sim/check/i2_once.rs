//! I2: a ticket enters at most once, and a retry gets the same pass.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::model::{Gone, Micros, TicketId};

use super::Verdict;
use super::reading::{Reading, sec};
use crate::sim::history::{Answer, Call, Seen};
use crate::sim::ledger::Deed;
use crate::sim::plan::What;

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
    one_turn(reading, &mut verdict);
    verdict
}

/// Nobody is called by two at a time: by the gate and by a node without the store, or by two nodes.
/// What a store has forgotten it may give again.
fn one_turn(reading: &Reading<'_>, verdict: &mut Verdict) {
    let mut ops = reading.run.plan.ops.iter();
    if ops.any(|op| matches!(op.what, What::Lose { .. } | What::Wipe { .. })) {
        return;
    }
    let mut open: BTreeMap<TicketId, (Option<u16>, Micros)> = BTreeMap::new();
    for line in &reading.run.ledger {
        match line.deed {
            Deed::Given { until } => {
                let before = open.insert(line.id, (line.by, until));
                let Some((by, _)) = before.filter(|(_, until)| *until > line.at) else {
                    continue;
                };
                // Who says goodbye gives the turn up, whatever comes after.
                let calls = reading.of_ticket(&line.id);
                let left = |seen: &&Seen| matches!(seen.call, Call::Leave | Call::Beacon);
                let right = by == line.by
                    || by.is_some_and(|by| reading.died(by, line.at))
                    || calls.into_iter().any(|seen| left(&seen));
                verdict.expect(right, || {
                    let (id, at) = (line.id, sec(line.at));
                    format!("{id} has a turn of {by:?} and at {at} one of {:?}", line.by)
                });
            }
            Deed::Ended | Deed::Entered => drop(open.remove(&line.id)),
            _ => {}
        }
    }
}
