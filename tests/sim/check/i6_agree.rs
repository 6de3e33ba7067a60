//! I6: when nothing new happens, all nodes and the store agree exactly.

use std::collections::BTreeMap;

use super::Verdict;
use super::reading::Reading;
use crate::sim::run::{Held, Snapshot};

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I6 agree");
    if let Some(held) = &reading.run.held {
        alike(reading, held, "while held", &mut verdict);
    }
    alike(reading, &reading.run.end, "at the end", &mut verdict);
    verdict
}

fn alike(reading: &Reading<'_>, at: &Snapshot, when: &str, verdict: &mut Verdict) {
    let store: BTreeMap<_, _> = at.store.iter().map(|key| (key.id, key.arrival)).collect();
    for (node, tickets) in &at.nodes {
        let live = tickets.iter().filter_map(|(id, held)| match held {
            Held::Live(arrival) => Some((*id, *arrival)),
            Held::Gone(_) => None,
        });
        let live: BTreeMap<_, _> = live.collect();
        for (id, arrival) in &live {
            if reading.outlives(id, at) {
                continue;
            }
            verdict.expect(store.get(id) == Some(arrival), || {
                format!("{when} node {node} has {id} at {arrival:?}, the store does not")
            });
        }
        for (id, arrival) in &store {
            if reading.outlives(id, at) {
                continue;
            }
            verdict.expect(live.get(id) == Some(arrival), || {
                format!("{when} the store has {id} at {arrival:?}, node {node} does not")
            });
        }
    }
    for (who, ticket) in &reading.tickets {
        let ranks = at.ranks.iter();
        let ranks: BTreeMap<_, _> = ranks.map(|(n, of)| (n, of.get(who))).collect();
        let one = ranks.values().next();
        let apart = ranks.values().any(|rank| Some(rank) != one);
        // Whether a missed turn's owner is back is remembered by no store, and a poll tells.
        let called = reading.called.contains_key(&ticket.id);
        if called || somebody_missed(reading) {
            continue;
        }
        verdict.expect(!apart, || {
            format!("{when} visitor {who} has the ranks {ranks:?}")
        });
    }
}

/// Whether some turn lapsed: its owner may be counted by some nodes and not by others.
fn somebody_missed(reading: &Reading<'_>) -> bool {
    use crate::sim::ledger::Deed;
    let ledger = &reading.run.ledger;
    !reading.run.plan.is_calm() && ledger.iter().any(|line| line.deed == Deed::Ended)
}
