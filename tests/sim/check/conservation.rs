//! Every ticket that was given is in exactly one state at the end, the same everywhere, and one that
//! fits what was seen of it.

use std::collections::BTreeSet;

use tidegate::model::Gone;

use super::Verdict;
use super::reading::Reading;
use crate::sim::ledger::Deed;
use crate::sim::run::Held;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("conservation");
    let lines = reading.run.ledger.iter();
    let entered = lines.filter(|line| line.deed == Deed::Entered);
    let entered: BTreeSet<_> = entered.map(|line| line.id).collect();
    for id in reading.holders.keys() {
        let nodes = reading.run.end.nodes.iter();
        let held: Vec<_> = nodes.map(|(node, of)| (*node, of.get(id))).collect();
        let nobody = held.iter().all(|(_, held)| held.is_none());
        // Of one that nobody asked about since a node died, there may be no copy.
        if nobody && reading.died_since(id) {
            verdict.checks += 1;
            continue;
        }
        if reading.outlives(id, &reading.run.end) {
            continue;
        }
        let lost = reading.is_forgotten(id);
        for (node, held) in held {
            verdict.expect(held.is_some(), || {
                format!("at the end node {node} does not know {id}")
            });
            let inside = held == Some(&Held::Gone(Gone::Entered));
            verdict.expect(inside == entered.contains(id) || lost, || {
                format!("at the end node {node} has {id} as {held:?}, gates differ")
            });
        }
    }
    verdict
}
