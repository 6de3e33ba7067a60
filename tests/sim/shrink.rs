//! The smallest plan that still breaks the same rule: delta debugging (Zeller and Hildebrandt,
//! "Simplifying and Isolating Failure-Inducing Input", 2002) over the operations.

use super::check::{self, Verdict};
use super::plan::{Op, Plan};
use super::run::run;

/// The most runs that one search takes.
const RUNS_MAX: usize = 400;

/// What a plan breaks: the rule, and how.
pub struct Broken {
    pub plan: Plan,
    pub rule: &'static str,
    pub how: Vec<String>,
}

/// Takes out of a plan what it does not need to break the same rule.
pub fn shrink(from: Broken) -> Broken {
    let mut best = from;
    let mut runs = 0;
    let still = |plan: &Plan, rule: &str, runs: &mut usize| {
        *runs += 1;
        let run = run(plan);
        let same = |verdict: &Verdict| verdict.of == rule && !verdict.broken.is_empty();
        check::all(&run).into_iter().find(same)
    };
    let mut parts = 2;
    while parts <= best.plan.ops.len() && runs < RUNS_MAX {
        let ops = best.plan.ops.clone();
        let size = ops.len().div_ceil(parts);
        let without = ops.chunks(size).enumerate().find_map(|(left_out, _)| {
            if runs >= RUNS_MAX {
                return None;
            }
            let chunks = ops.chunks(size).enumerate();
            let kept = chunks.filter(|(at, _)| *at != left_out);
            let ops: Vec<Op> = kept.flat_map(|(_, chunk)| chunk.to_vec()).collect();
            let plan = Plan {
                ops,
                ..best.plan.clone()
            };
            let verdict = still(&plan, best.rule, &mut runs)?;
            Some((plan, verdict))
        });
        match without {
            Some((plan, verdict)) => {
                best.plan = plan;
                best.how = verdict.broken;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(ops.len()),
        }
    }
    best
}
