//! A table of deliberate mistakes, and how many seeds it takes to find each.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::mutants::{Mutant, make};

use super::check::{self, Verdict};
use super::plan::Plan;
use super::run::{note_panics, run};

/// A mistake that so many seeds do not find is not found.
const SEEDS_MAX: u64 = 400;

const ALL: [Mutant; 27] = [
    Mutant::TurnForFree,
    Mutant::RefundTwice,
    Mutant::RefillShort,
    Mutant::LeaseForFree,
    Mutant::CapForgotten,
    Mutant::EnterTwice,
    Mutant::LastFirst,
    Mutant::ToldForgotten,
    Mutant::NotPutBack,
    Mutant::TombstoneForgotten,
    Mutant::DeafExpires,
    Mutant::SightingsKept,
    Mutant::TailNotSent,
    Mutant::NotRewound,
    Mutant::RefillSkipped,
    Mutant::NotSettled,
    Mutant::NoShowKept,
    Mutant::StatusNeedsStore,
    Mutant::JournalUnbounded,
    Mutant::FailedIsDone,
    Mutant::RefreshLeaves,
    Mutant::HomeIgnored,
    Mutant::HorizonIgnored,
    Mutant::ShareUndivided,
    Mutant::ShareAtOnce,
    Mutant::ShareUntold,
    Mutant::ShareNotWithheld,
];

/// The first seed that finds a mistake, and the rules that it breaks.
fn caught(mutant: Mutant) -> Option<(u64, Vec<&'static str>)> {
    make(Some(mutant));
    let caught = (1..=SEEDS_MAX).find_map(|seed| {
        let plan = Plan::of(seed);
        let verdicts = check::all(&run(&plan));
        let broken = verdicts.iter().filter(|verdict| !verdict.broken.is_empty());
        let rules: Vec<_> = broken.map(|verdict: &Verdict| verdict.of).collect();
        // By the mistake, and not anyway.
        make(None);
        let sound = || check::all(&run(&plan)).iter().all(|v| v.broken.is_empty());
        let found = !rules.is_empty() && sound();
        make(Some(mutant));
        found.then_some((seed, rules))
    });
    make(None);
    caught
}

#[test]
fn every_mistake_is_found() {
    note_panics();
    println!("mistake               seeds  breaks");
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(mutant) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let caught = caught(*mutant);
                    let name = format!("{mutant:?}");
                    match &caught {
                        Some((seed, rules)) => {
                            println!("{name:<22}{seed:>5}  {}", rules.join(", "))
                        }
                        None => println!("{name:<22}    -  found by none of {SEEDS_MAX}"),
                    }
                    found.lock().expect("no worker panics").push(caught);
                }
            });
        }
    });
    let found = found.into_inner().expect("no worker panics");
    let missed = found.iter().filter(|caught| caught.is_none());
    assert_eq!(missed.count(), 0, "some mistakes are not found");
    let broken = found.iter().flatten();
    let broken: BTreeSet<_> = broken.flat_map(|(_, rules)| rules).collect();
    // Nothing but a bug of ours makes a task panic.
    let mut rules = check::RULES.iter().filter(|rule| **rule != "no panic");
    let idle = rules.find(|rule| !broken.contains(rule));
    assert_eq!(idle, None, "no mistake breaks this rule");
}
