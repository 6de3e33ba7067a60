//! Which policy gates may go by at a moment.

use std::time::Duration;

use tidegate::model::{Micros, Policy, PolicyPatch};

use super::reading::Reading;
use crate::room::house::START;
use crate::sim::net::Trouble;
use crate::sim::plan::What;

/// What is known of a change everywhere after this, mostly.
/// (a node that cannot hear of changes goes on for ten seconds).
const SPREADS: Duration = Duration::from_secs(13);
/// Requests may be this late when the plan has late ones.
const LATE: Duration = Duration::from_secs(30);

/// Policies and from when on each holds.
pub struct Policies {
    of: Vec<(Micros, Policy)>,
    lingers: Duration,
}

impl Policies {
    pub fn of(reading: &Reading<'_>) -> Self {
        let plan = &reading.run.plan;
        let base = &plan.setting.policy;
        let mut of = vec![(START, base.clone())];
        let mut late = false;
        for op in &plan.ops {
            match &op.what {
                What::Patch(patch) => {
                    let at = START.after(Duration::from_millis(op.at));
                    of.push((at, patched(base, patch)));
                }
                What::Trouble { trouble, .. } => late |= *trouble == Trouble::Late,
                _ => {}
            }
        }
        of.push((reading.run.healed, base.clone()));
        let lingers = if late { LATE } else { SPREADS };
        Self { of, lingers }
    }

    /// All that some gate may have gone by between two moments.
    pub fn between(&self, from: Micros, to: Micros) -> impl Iterator<Item = &Policy> {
        let until = |at: usize| {
            self.of
                .get(at + 1)
                .map(|(next, _)| next.after(self.lingers))
        };
        let held = self.of.iter().enumerate();
        held.filter(move |(at, (begin, _))| {
            *begin <= to && until(*at).is_none_or(|until| until >= from)
        })
        .map(|(_, (_, policy))| policy)
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
        self.of.iter().skip(1).map(|(at, _)| *at)
    }
}

fn patched(base: &Policy, patch: &PolicyPatch) -> Policy {
    patch.apply(base).unwrap_or_else(|_| base.clone())
}
