//! I3: turns given minus turns given back never pass burst + rate × t in any window, and no more
//! visitors are inside than may be.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::model::{Micros, TicketId};

use super::Verdict;
use super::policies::Policies;
use super::reading::{Reading, sec};
use crate::room::house::START;
use crate::sim::history::Answer;
use crate::sim::ledger::Deed;

/// What a turn is kept beyond what its owner was told.
const KEPT: Duration = Duration::from_secs(1);

pub fn check(reading: &Reading<'_>) -> Verdict {
    let mut verdict = Verdict::new("I3 pace");
    let policies = Policies::of(reading);
    turns(reading, &policies, &mut verdict);
    cap(reading, &policies, &mut verdict);
    entries(reading, &policies, &mut verdict);
    verdict
}

/// Turns ahead of the pace, in windows that are allowed one burst.
struct Ahead {
    burst: f64,
    turns: f64,
}

/// By what gates did.
fn turns(reading: &Reading<'_>, policies: &Policies, verdict: &mut Verdict) {
    let mut last = START;
    // Windows that began before a burst was made smaller are allowed the greater one.
    let mut windows: Vec<Ahead> = Vec::new();
    let mut open: BTreeMap<TicketId, Micros> = BTreeMap::new();
    for line in &reading.run.ledger {
        let burst = f64::from(policies.burst(line.at));
        if windows.last().is_none_or(|last| burst < last.burst) {
            windows.push(Ahead { burst, turns: 0.0 });
        }
        // By the rate of the whole stretch, which may have changed in it.
        let rates = policies.between(last, line.at).map(|policy| policy.rate);
        let rate = rates.fold(0.0, f64::max);
        // It is the store's clock that pays.
        let time = line.at.since(last).as_secs_f64() + reading.store_jumped(last, line.at);
        last = line.at;
        let turns = match line.deed {
            Deed::Given { until } => {
                // One that a node gave by itself may have lapsed with nobody told.
                let before = open.insert(line.id, until);
                let is_new = before.is_none_or(|before| before.after(KEPT) < line.at);
                if is_new { 1.0 } else { 0.0 }
            }
            Deed::Ended if open.remove(&line.id).is_some() => -1.0,
            Deed::Entered => {
                open.remove(&line.id);
                0.0
            }
            _ => 0.0,
        };
        for ahead in &mut windows {
            ahead.burst = ahead.burst.max(burst);
            ahead.turns = ((ahead.turns - rate * time).max(0.0) + turns).max(0.0);
            let Ahead { burst, turns } = *ahead;
            verdict.expect(turns <= burst + 1e-3, || {
                let (id, at) = (line.id, sec(line.at));
                format!("{turns:.2} turns ahead of the pace, of {burst}, with {id} at {at}")
            });
        }
    }
}

/// Visitors inside, by what gates did.
fn cap(reading: &Reading<'_>, policies: &Policies, verdict: &mut Verdict) {
    let mut inside: BTreeMap<TicketId, Micros> = BTreeMap::new();
    let policy = &reading.run.plan.setting.policy;
    let stay = policy.ready_ttl + KEPT + policy.pass_ttl;
    for line in &reading.run.ledger {
        match line.deed {
            // Nobody knows any more.
            Deed::Inside { .. } if reading.is_forgotten(&line.id) => continue,
            Deed::Inside { until } => drop(inside.insert(line.id, until)),
            Deed::Outside => drop(inside.remove(&line.id)),
            _ => continue,
        }
        inside.retain(|_, until| *until > line.clock);
        // Who is inside was promised it under the policy of then, and a lower cap puts nobody out.
        let promised = Micros(line.at.0 - stay.as_micros() as u64);
        let Some(cap) = policies.cap(promised, line.at) else {
            continue;
        };
        verdict.expect(inside.len() <= cap as usize, || {
            format!("{} inside of {cap} at {}", inside.len(), sec(line.at))
        });
    }
}

/// By what clients saw alone: who enters was given a turn at most so long before.
fn entries(reading: &Reading<'_>, policies: &Policies, verdict: &mut Verdict) {
    let policy = &reading.run.plan.setting.policy;
    let mut first: BTreeMap<&str, Micros> = BTreeMap::new();
    for seen in &reading.run.history {
        if let Answer::Pass { pass, .. } = &seen.answer {
            first.entry(pass).or_insert(seen.got);
        }
    }
    let mut at: Vec<_> = first.into_values().collect();
    at.sort_unstable();
    // A turn, what is kept beyond it, and what a client waits for the answer.
    let held = (policy.ready_ttl + KEPT).as_secs_f64() + 3.0;
    for (n, from) in at.iter().enumerate() {
        for (m, to) in at.iter().enumerate().skip(n) {
            let rates = policies.between(*from, *to).map(|policy| policy.rate);
            let rate = rates.fold(0.0, f64::max).max(policies.rate(*from));
            let burst = policies.between(*from, *to).map(|policy| policy.burst);
            let burst = f64::from(burst.max().unwrap_or(0));
            let jumped = reading.store_jumped(START, *to);
            let most = burst + rate * (to.since(*from).as_secs_f64() + held + jumped) + 1.0;
            let count = (m - n + 1) as f64;
            verdict.expect(count <= most, || {
                let (from, to) = (sec(*from), sec(*to));
                format!("{count} entered from {from} to {to}, of {most:.1}")
            });
        }
    }
}
