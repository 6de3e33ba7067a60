//! A table of deliberate mistakes, and which seed or story finds each first.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::mutants::{Mutant, make};

use super::check::{self, Verdict};
use super::plan::Plan;
use super::run::{note_panics, run};
use super::{lost, shares, stories};

/// A mistake that so many seeds do not find is a story's to find.
const SEEDS_MAX: u64 = 200;

const ALL: [Mutant; 29] = [
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
    Mutant::OrphansLeft,
    Mutant::RefillSkipped,
    Mutant::NotSettled,
    Mutant::NotTakenOver,
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

/// What finds mistakes that hardly any seed meets.
const STORIES: [(&str, fn()); 5] = [
    (
        "what takes the place of what was lost is heard of",
        lost::what_takes_the_place_of_what_was_lost_is_heard_of,
    ),
    (
        "what a failover lost is written again",
        lost::what_a_failover_lost_is_written_again,
    ),
    (
        "a wiped store is filled from memory",
        lost::a_wiped_store_is_filled_from_memory,
    ),
    (
        "what a store lost is told by others when its writer is gone",
        stories::what_a_store_lost_is_told_by_others_when_its_writer_is_gone,
    ),
    (
        "a node that is cut off waits until its part is withheld",
        shares::a_node_that_is_cut_off_waits_until_its_part_is_withheld,
    ),
];

/// What finds a mistake first.
enum Caught {
    Seed(u64, Vec<&'static str>),
    Story(&'static str),
}

fn caught(mutant: Mutant) -> Option<Caught> {
    make(Some(mutant));
    let mut seeds = 1..=SEEDS_MAX;
    let by_seed = seeds.find_map(|seed| {
        let plan = Plan::of(seed);
        let verdicts = check::all(&run(&plan));
        let broken = verdicts.iter().filter(|verdict| !verdict.broken.is_empty());
        let rules: Vec<_> = broken.map(|verdict: &Verdict| verdict.of).collect();
        // By the mistake, and not anyway.
        make(None);
        let sound = || check::all(&run(&plan)).iter().all(|v| v.broken.is_empty());
        let found = !rules.is_empty() && sound();
        make(Some(mutant));
        found.then_some(Caught::Seed(seed, rules))
    });
    let caught = by_seed.or_else(|| {
        let breaks = |(_, story): &&(&str, fn())| catch_unwind(story).is_err();
        let broken = STORIES.iter().find(breaks);
        broken.map(|(name, _)| Caught::Story(name))
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
                        Some(Caught::Seed(seed, rules)) => {
                            println!("{name:<22}{seed:>5}  {}", rules.join(", "))
                        }
                        Some(Caught::Story(story)) => println!("{name:<22}story  {story}"),
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
    let broken = found.iter().flatten().flat_map(|caught| match caught {
        Caught::Seed(_, rules) => &rules[..],
        Caught::Story(_) => &[],
    });
    let broken: BTreeSet<_> = broken.collect();
    // Nothing but a bug of ours makes a task panic.
    let mut rules = check::RULES.iter().filter(|rule| **rule != "no panic");
    let idle = rules.find(|rule| !broken.contains(rule));
    assert_eq!(idle, None, "no mistake breaks this rule");
}
