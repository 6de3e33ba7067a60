//! A long sale in which one fault follows another, drawn from a seed: `make soak`. At the end all is at
//! rest, and every ticket that still waits is compared at all nodes and in the store (I6).
//!
//! `SOAK_SECONDS` (60 unless set; `make soak` takes 600), `SOAK_SEED`.

mod schedule;
mod table;

use super::faults::still::{self, Still};
use super::faults::{lasting, now, until_well};
use super::nodes::Fleet;
use super::{LAG, NODES, agree, pause};
use crate::sale::{Down, Outage, SECOND, Sale, Terms, alone, drive_to_the_end};
use table::{Happened, table};

const SEED: u64 = 20_261_202;
const EVENTS: usize = 8;
/// Turns a second and event.
const RATE: f64 = 2.5;
/// How much of the rate comes, when the first rush is over. With what faults hold up the line grows.
const COMES: f64 = 0.85;
/// The first rush is so many seconds of line.
const RUSH: f64 = 60.0;
/// Before the first fault, in seconds.
const QUIET: u64 = 5;

fn number(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

fn terms(seconds: u64) -> Terms {
    let rush = RUSH * RATE * EVENTS as f64;
    let later = COMES * RATE * EVENTS as f64 * seconds as f64;
    Terms {
        events: EVENTS,
        visitors: (rush + later) as usize,
        nodes: NODES,
        lag: LAG,
        rate: RATE,
        burst: NODES as u32 + 1,
        // A beacon to a node that hangs is heard when it wakes, and must not outlive the next poll.
        leave_grace: 2 * Terms::SALE.poll_max,
        late_percent: (100.0 * later / (rush + later)) as u32,
        late_within: seconds * SECOND,
        // A balancer repeats what a node that hangs was asked.
        keyed_percent: 100,
        patience: (seconds + 300) * SECOND,
        ..Terms::SALE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_sale_with_one_fault_after_another() {
    let _alone = alone().await;
    let (seconds, seed) = (number("SOAK_SECONDS", 60), number("SOAK_SEED", SEED));
    let terms = terms(seconds);
    println!(
        "soak: SOAK_SEED={seed}, {seconds} s, {} visitors",
        terms.visitors
    );
    let mut settings = terms.settings();
    settings.extend(still::settings());
    settings.push(pause::settings());
    let mut fleet = Fleet::start_apart(NODES, &settings).await;
    let mut still = Still::start(fleet.address()).await;
    let mut happened = Vec::new();
    let address = fleet.address();
    let sold = drive_to_the_end("soak", terms, address, async |sale: &Sale| {
        lasting(QUIET).await;
        for round in schedule::rounds(seed) {
            tokio::time::sleep(round.rest).await;
            if now(sale) > seconds * SECOND {
                break;
            }
            let one = go_through(&round, &mut fleet, &mut still, sale).await;
            println!("{one}");
            happened.push(one);
        }
        pause::close(&fleet, sale).await;
        happened.iter().flat_map(Happened::outages).collect()
    });
    let mut sold = sold.await;
    println!("{}", sold.report);
    let mut wrong: Vec<String> = still.apart(&fleet).await.into_iter().collect();
    let lines = agree::waiting(EVENTS, &sold.run.stories);
    match agree::until_agreed(&fleet, &lines).await {
        Ok(agreed) => println!("at the end {agreed}"),
        Err(word) => wrong.push(word),
    }
    for word in &wrong {
        println!("WRONG at the end: {word}");
    }
    let not_agreed = happened.iter().filter_map(|one| one.wrong.as_ref());
    wrong.extend(not_agreed.cloned());
    sold.wrong += wrong.len() as u64;
    if sold.wrong > 0 {
        println!("the nodes' last words:\n{}", fleet.output());
    }
    println!("{}", table(&happened, &sold));
    assert_eq!(sold.wrong, 0, "SOAK_SEED={seed} SOAK_SECONDS={seconds}");
}

/// One round: what happens, and the time until all is well again.
async fn go_through(
    round: &schedule::Round,
    fleet: &mut Fleet,
    still: &mut Still,
    sale: &Sale,
) -> Happened {
    let address = fleet.address();
    let begun = now(sale);
    let stir = still.stir(address);
    let faults = round.happen(fleet, sale).await;
    let killed = faults.iter().any(|fault| fault.what == Down::Node);
    still.rest(stir, address, killed).await;
    let ended = faults.iter().map(|fault| fault.to).max().unwrap_or(begun);
    let well = until_well(fleet, still, sale).await;
    let agreed = *well.as_ref().unwrap_or(&now(sale));
    still.thin(address).await;
    let outages = faults.iter().map(|fault| Outage {
        killed: fault.from,
        ready: agreed,
        what: fault.what,
    });
    Happened {
        name: round.name(),
        told: round.faults.iter().map(ToString::to_string).collect(),
        kinds: round.faults.iter().map(|fault| fault.kind).collect(),
        outages: outages.collect(),
        ended,
        agreed,
        wrong: well.err(),
    }
}
