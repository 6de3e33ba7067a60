//! When faults have ended, everything drains and agrees within bounded time.

use super::Verdict;
use super::reading::Reading;
use crate::sim::history::Answer;

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("liveness");
    let (run, setting) = (reading.run, &reading.run.plan.setting);
    verdict.expect(run.through.is_some(), || {
        let last = reading.calls.values().filter_map(|calls| calls.last());
        let still = last.filter(|seen| {
            matches!(
                seen.answer,
                Answer::Place { .. } | Answer::Silence | Answer::Full | Answer::Joined { .. }
            )
        });
        let still = still.take(3).map(|seen| {
            let ticket = reading.tickets.get(&seen.who);
            let id = ticket.map(|key| format!("{} ", key.id)).unwrap_or_default();
            id + &reading.told(seen)
        });
        let still: Vec<_> = still.collect();
        format!("not all are through: {}", still.join("; "))
    });
    // A node that is stopped while all is well leaves nothing behind.
    let ops = || run.plan.ops.iter().filter_map(|op| op.what.fault());
    if ops().all(|fault| fault == "node drained") {
        verdict.expect(run.left_behind == 0, || {
            format!("stopped nodes left {} records behind", run.left_behind)
        });
    }
    let up = run.end.nodes.len();
    verdict.expect(up == usize::from(setting.nodes), || {
        format!("{up} of {} nodes are up at the end", setting.nodes)
    });
    for (node, depth) in &run.depths {
        verdict.expect(*depth == 0, || {
            format!("the journal of node {node} holds {depth} records at the end")
        });
    }
    for (node, degraded) in &run.degraded {
        verdict.expect(!degraded, || {
            format!("node {node} says at the end that the store is away")
        });
    }
    verdict
}
