//! Many seeds, side by side: each run is on one thread and knows nothing of the others.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::check::{self, Verdict};
use super::plan::Plan;
use super::run::{note_panics, run, run_told};
use super::shrink::{Broken, shrink};

/// Seeds of a run that nobody asked more of.
const SEEDS: u64 = 40;
/// After so many broken seeds the rest is not looked at.
const BROKEN_MAX: usize = 4;

/// What all runs came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    ops: u64,
    calls: u64,
    faults: BTreeMap<&'static str, u64>,
    struck: BTreeMap<String, u64>,
    checks: BTreeMap<&'static str, u64>,
    broken: BTreeMap<u64, String>,
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

#[test]
fn every_seed_keeps_every_rule() {
    note_panics();
    let one = number("SIM_SEED");
    let from = one.or(number("SIM_SEED_START")).unwrap_or(1);
    let count = one.map_or_else(|| number("SIM_SEEDS").unwrap_or(SEEDS), |_| 1);
    let begun = Instant::now();
    let (next, sum) = (AtomicU64::new(from), Mutex::new(Sum::default()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = sum.lock().expect("no worker panics").broken.len() >= BROKEN_MAX;
                    if seed >= from + count || enough {
                        return;
                    }
                    one_seed(seed, &sum);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("no worker panics");
    tell(&sum, begun.elapsed().as_secs_f64());
    let broken: Vec<_> = sum.broken.into_values().collect();
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
}

fn one_seed(seed: u64, sum: &Mutex<Sum>) {
    let plan = Plan::of(seed);
    let run = run(&plan);
    let verdicts = check::all(&run);
    {
        let mut sum = sum.lock().expect("no worker panics");
        sum.seeds += 1;
        sum.ops += plan.ops.len() as u64;
        sum.calls += run.history.len() as u64;
        for op in &plan.ops {
            if let Some(fault) = op.what.fault() {
                *sum.faults.entry(fault).or_default() += 1;
            }
        }
        for (trouble, calls) in &run.struck {
            *sum.struck.entry(format!("{trouble:?}")).or_default() += calls;
        }
        for verdict in &verdicts {
            *sum.checks.entry(verdict.of).or_default() += verdict.checks;
        }
    }
    let first = |verdict: &Verdict| !verdict.broken.is_empty();
    let Some(verdict) = verdicts.into_iter().find(first) else {
        return;
    };
    let broken = Broken {
        plan,
        rule: verdict.of,
        how: verdict.broken,
    };
    let told = story(if std::env::var_os("SIM_WHOLE").is_some() {
        broken
    } else {
        shrink(broken)
    });
    sum.lock()
        .expect("no worker panics")
        .broken
        .insert(seed, told);
}

/// A broken plan, told.
fn story(broken: Broken) -> String {
    let Broken { plan, rule, how } = broken;
    let run = run_told(&plan);
    let mut written: Vec<_> = run
        .written
        .iter()
        .filter(|(id, _)| how.iter().any(|how| how.contains(&id.to_string())))
        .flat_map(|(id, lines)| lines.iter().map(move |(at, line)| (*at, *id, line)))
        .collect();
    written.sort();
    written.truncate(60);
    let calls: Vec<_> = run
        .history
        .iter()
        .filter(|seen| how[0].contains(&format!("visitor {} ", seen.who)))
        .map(|seen| {
            let (at, node, call, answer) =
                (check::sec(seen.sent), seen.node, seen.call, &seen.answer);
            format!("  {at} node {node:?} {call:?} {answer:?}")
        })
        .collect();
    let deeds: Vec<_> = run
        .ledger
        .iter()
        .filter(|_| rule.starts_with("I3") || rule == "liveness")
        .map(|line| format!("  {} {} {:?}", check::sec(line.at), line.id, line.deed))
        .collect();
    let written: Vec<_> = written
        .into_iter()
        .map(|(at, id, line)| format!("  {} {id} {line}", check::sec(at)))
        .collect();
    format!(
        "{rule} is broken: {}\n\nSIM_SEED={} make sim replays it; this much of it is enough:\n{plan}\n\
         written of these tickets:\n{}\ncalls of this visitor:\n{}\n\
         turns:\n{}",
        how.join("\n  "),
        plan.seed,
        written.join("\n"),
        calls.join("\n"),
        deeds.join("\n"),
    )
}

fn tell(sum: &Sum, seconds: f64) {
    let Sum {
        seeds, ops, calls, ..
    } = sum;
    let rate = *seeds as f64 / seconds;
    println!("{seeds} seeds, {rate:.1} a second, {ops} operations, {calls} calls of visitors");
    println!("faults:");
    for (fault, count) in &sum.faults {
        println!("  {fault:<28} {count:>8}");
    }
    println!("calls to the store that were struck:");
    for (trouble, count) in &sum.struck {
        println!("  {trouble:<28} {count:>8}");
    }
    println!("checks:");
    for (of, count) in &sum.checks {
        println!("  {of:<28} {count:>8}");
    }
}
