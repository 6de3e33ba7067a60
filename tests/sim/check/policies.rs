//! Which policy gates may go by at a moment.

use std::time::Duration;

use tidegate::model::{Micros, Policy, PolicyPatch};

use super::reading::Reading;
use crate::room::house::START;
use crate::sim::net::Trouble;
use crate::sim::plan::{Op, What};

/// What is known of a change everywhere after this, mostly.
/// (a node that cannot hear of changes goes on for ten seconds).
const SPREADS: Duration = Duration::from_secs(13);
/// Requests may be this late when the plan has late ones.
const LATE: Duration = Duration::from_secs(30);
/// A node that lives so long after a loss has told the store what it forgot, in milliseconds.
const DIES_BY: u64 = 10_000;

/// Policies, from when on each holds, and until when some gate may go by it.
pub struct Policies {
    of: Vec<(Micros, Option<Micros>, Policy)>,
}

impl Policies {
    pub fn of(reading: &Reading<'_>) -> Self {
        let plan = &reading.run.plan;
        let base = &plan.setting.policy;
        let mut changes = vec![(START, base.clone(), false)];
        let mut late = false;
        for op in &plan.ops {
            match &op.what {
                What::Patch(patch) => {
                    let lost = may_be_lost(&plan.ops, op);
                    changes.push((moment(op.at), patched(base, patch), lost));
                }
                What::Trouble { trouble, .. } => late |= *trouble == Trouble::Late,
                _ => {}
            }
        }
        if plan.pauses {
            let paused = Policy {
                paused: true,
                ..base.clone()
            };
            changes.push((moment(plan.active), paused, false));
        }
        changes.push((reading.run.healed, base.clone(), false));
        let lingers = if late { LATE } else { SPREADS };
        let over = |after: usize| {
            let next = changes[after + 1..].iter().find(|(.., lost)| !lost);
            next.map(|(at, ..)| at.after(lingers))
        };
        let changed = changes.iter().enumerate();
        let of = changed.map(|(number, (from, policy, _))| (*from, over(number), policy.clone()));
        Self { of: of.collect() }
    }

    /// All that some gate may have gone by between two moments.
    pub fn between(&self, from: Micros, to: Micros) -> impl Iterator<Item = &Policy> {
        let held = self.of.iter();
        held.filter(move |(begin, until, _)| {
            *begin <= to && until.is_none_or(|until| until >= from)
        })
        .map(|(_, _, policy)| policy)
    }

    /// The highest rate of a moment.
    pub fn rate(&self, at: Micros) -> f64 {
        self.between(at, at).map(|p| p.rate).fold(0.0, f64::max)
    }

    /// The greatest burst of a moment.
    pub fn burst(&self, at: Micros) -> u32 {
        self.between(at, at).map(|p| p.burst).max().unwrap_or(0)
    }

    /// The highest cap between two moments; `None` when there may be none.
    pub fn cap(&self, from: Micros, to: Micros) -> Option<u32> {
        let caps = self.between(from, to).map(|policy| policy.max_active);
        caps.map(|cap| (cap > 0).then_some(cap))
            .try_fold(0, |most, cap| cap.map(|cap| most.max(cap)))
    }

    /// The moments at which something changes.
    pub fn changes(&self) -> impl Iterator<Item = Micros> {
        self.of.iter().skip(1).map(|(at, ..)| *at)
    }
}

fn moment(millis: u64) -> Micros {
    START.after(Duration::from_millis(millis))
}

/// Whether the store lost a change before all nodes looked for it, and a node died meanwhile: that may
/// have been the only one to know.
fn may_be_lost(ops: &[Op], change: &Op) -> bool {
    let lost_at = |op: &&Op| {
        let forgets = match op.what {
            What::Lose { back, .. } => back,
            What::Wipe { .. } => u64::MAX,
            _ => 0,
        };
        op.at >= change.at && op.at - change.at < forgets.min(SPREADS.as_millis() as u64)
    };
    ops.iter().filter(lost_at).any(|loss| {
        let dies = |op: &&Op| matches!(op.what, What::Crash { .. } | What::Drain { .. });
        let mut deaths = ops.iter().filter(dies).map(|op| op.at);
        deaths.any(|at| at >= change.at && at <= loss.at + DIES_BY)
    })
}

fn patched(base: &Policy, patch: &PolicyPatch) -> Policy {
    patch.apply(base).unwrap_or_else(|_| base.clone())
}
