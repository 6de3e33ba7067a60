//! I10: while people wait and the site has room, at least 95 % of the rate is used.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::model::Micros;

use super::Verdict;
use super::policies::Policies;
use super::reading::{Reading, sec};
use crate::room::house::START;
use crate::sim::history::Answer;
use crate::sim::ledger::Deed;
use crate::sim::visitor::Habit;

/// After a fault so much is forgiven: a circuit is open for twelve seconds at most.
const RECOVERY: Duration = Duration::from_secs(16);
/// Shorter stretches tell nothing.
const SHORTEST: Duration = Duration::from_secs(3);
/// Gates are not asked more often than this.
const PERIOD: Duration = Duration::from_millis(2);
/// What time pays between two questions is given with the second: a node that is alone asks this often,
/// and one of a fleet, whose gates are asked over the network, this often.
const ASKED: Duration = Duration::from_millis(100);
const FLEET_ASKED: Duration = Duration::from_millis(250);
/// A stretch begins so long after somebody was first told to wait, since gates are asked and
/// leases come back.
const SETTLES: Duration = Duration::from_secs(1);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I10 use");
    let policies = Policies::of(reading);
    for (from, to) in waits(reading) {
        let from = from.after(SETTLES);
        let lasts = to.since(from);
        let before = Micros(from.0 - RECOVERY.as_micros() as u64);
        let quiet = policies
            .changes()
            .all(|at| at >= to || at.after(RECOVERY) <= from);
        if lasts < SHORTEST || reading.disturbed(before, to) || !quiet {
            continue;
        }
        let mut of = policies.between(from, to);
        let Some(policy) = of.next().filter(|_| of.next().is_none()) else {
            continue;
        };
        if policy.max_active > 0 || policy.paused {
            continue;
        }
        let given = |deed: Deed| match deed {
            Deed::Given { .. } => 1.0,
            Deed::Ended => -1.0,
            _ => 0.0,
        };
        let lines = reading.run.ledger.iter();
        let within = lines.filter(|line| line.at > from && line.at <= to);
        let turns: f64 = within.clone().map(|line| given(line.deed)).sum();
        let mut allowed = policy.rate * lasts.as_secs_f64();
        if policy.burst == 1 {
            // The bucket is full while the question for what is in it is on its way.
            let way = Duration::from_millis(reading.run.plan.setting.latency) + PERIOD;
            allowed /= 1.0 + policy.rate * way.as_secs_f64();
        }
        // The turn that is being saved up, and what came back to a bucket that had no room for it.
        let mut back: BTreeMap<Micros, u32> = BTreeMap::new();
        for line in within.filter(|line| line.deed == Deed::Ended) {
            *back.entry(line.at).or_default() += 1;
        }
        let lost = |back: &u32| f64::from((back + 1).saturating_sub(policy.burst).min(*back));
        let lost: f64 = back.values().map(lost).sum();
        let asked = if reading.run.plan.setting.nodes > 1 {
            FLEET_ASKED
        } else {
            ASKED
        };
        let least = 0.95 * allowed - 1.0 - policy.rate * asked.as_secs_f64() - lost;
        verdict.expect(turns >= least, || {
            let (from, to) = (sec(from), sec(to));
            format!("{turns} turns from {from} to {to}, of {allowed:.1}")
        });
    }
    verdict
}

/// Stretches in which somebody surely waited, by what visitors were told.
fn waits(reading: &Reading<'_>) -> Vec<(Micros, Micros)> {
    let mut waits = Vec::new();
    let end = START.after(Duration::from_millis(reading.run.plan.active + 1_000_000));
    for op in &reading.run.plan.ops {
        let crate::sim::plan::What::Visit(visit) = &op.what else {
            continue;
        };
        if !matches!(visit.habit, Habit::Waits) {
            continue;
        }
        let told = reading.calls.get(&visit.who).into_iter().flatten();
        let told = told.filter(|seen| match seen.answer {
            Answer::Joined { place, .. } | Answer::Place { place, .. } => place > 0,
            _ => false,
        });
        let told: Vec<_> = told.map(|seen| seen.sent).collect();
        if let (Some(first), Some(last)) = (told.first(), told.last()) {
            waits.push((*first, (*last).min(end)));
        }
    }
    waits.sort_unstable();
    let mut stretches: Vec<(Micros, Micros)> = Vec::new();
    for (from, to) in waits {
        match stretches.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => stretches.push((from, to)),
        }
    }
    stretches
}
