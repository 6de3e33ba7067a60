//! The same sale with a fault in its middle, one a test: every place is kept, nobody enters twice, the
//! pace holds, status never fails, and at the end all nodes and the store agree.
//!
//! `FLEET_VISITORS` sizes them (1,600 unless set); `FAULT_SECONDS` is for how long all of Redis is away
//! (10 unless set).

pub mod all_frozen;
pub mod all_killed;
pub mod connections_cut;
pub mod master_frozen;
pub mod master_killed;
pub mod master_paused;
pub mod node_cut;
pub mod node_frozen;
pub mod node_killed;
pub mod node_stopped;
pub mod replica_killed;
pub mod slots_move;
pub mod still;
pub mod wiped;

use std::time::Duration;

use super::NODES;
use super::nodes::Fleet;
use crate::kit::client::{Connection, Request};
use crate::sale::{Call, Down, End, Outage, SECOND, Sale, Seen, Sold, Terms, What};
use crate::sale::{alone, drive_to_the_end};
use still::Still;

/// Events on sale: enough for every master to have the gates of some.
const EVENTS: usize = 8;
/// After which part of the visitors has entered the fault comes.
const ENTERED_PERCENT: usize = 20;
/// How often a fleet is looked at that does not agree yet, and how long.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const AGREED_WITHIN: u64 = 60 * SECOND;

fn terms() -> Terms {
    let visitors = std::env::var("FLEET_VISITORS").ok();
    let visitors = visitors.and_then(|n| n.parse().ok()).unwrap_or(1_600);
    let rate = (visitors as f64 / EVENTS as f64 / 30.0).max(1.0);
    Terms {
        events: EVENTS,
        visitors,
        nodes: NODES,
        lag: super::LAG,
        rate,
        burst: (rate / 2.0).ceil() as u32 + 2,
        ..Terms::SALE
    }
}

/// What a fault was: `what` was down from one moment to another, as the sale counts time.
pub struct Fault {
    pub what: Down,
    pub from: u64,
    pub to: u64,
}

/// Holds a sale, has `fault` happen in its middle, and checks everything.
async fn sale(name: &str, fault: impl AsyncFnOnce(&mut Fleet, &Sale) -> Fault) {
    let _alone = alone().await;
    let terms = terms();
    let mut settings = terms.settings();
    settings.extend(still::settings());
    let mut fleet = Fleet::start_apart(NODES, &settings).await;
    let mut still = Still::start(fleet.address()).await;
    let address = fleet.address();
    let (mut ended, mut agreed) = (0, 0);
    let sold = drive_to_the_end(name, terms, address, async |sale: &Sale| {
        let mut entered = sale.entered.subscribe();
        let enough = terms.visitors * ENTERED_PERCENT / 100;
        let waited = entered.wait_for(|entered| *entered >= enough).await;
        assert!(waited.is_ok_and(|entered| *entered < terms.visitors));
        let stir = still.stir(address);
        let Fault { what, from, to } = fault(&mut fleet, sale).await;
        still.rest(stir, address, what == Down::Node).await;
        ended = to;
        let well = until_well(&fleet, &still, sale).await;
        agreed = well.unwrap_or_else(|word| panic!("{word}"));
        vec![Outage {
            killed: from,
            ready: agreed,
            what,
        }]
    });
    let sold = ended_well(sold.await, &fleet, &still).await;
    tell(name, &sold, agreed - ended);
    let Sold { report, wrong, .. } = sold;
    println!("{report}");
    if wrong > 0 {
        println!("the nodes' last words:\n{}", fleet.output());
    }
    assert_eq!(wrong, 0, "{report}");
}

/// Waits until all nodes say that the store is well and agree with it on the event at rest. Answers
/// when, as the sale counts time; or in what they do not.
pub async fn until_well(fleet: &Fleet, still: &Still, sale: &Sale) -> Result<u64, String> {
    let stopwatch = sale.pool.stopwatch;
    let end = stopwatch.us() + AGREED_WITHIN;
    loop {
        let apart = match ailing(fleet).await {
            Some(word) => word,
            None => match still.apart(fleet).await {
                Some(word) => word,
                None => return Ok(stopwatch.us()),
            },
        };
        if stopwatch.us() > end {
            let said = fleet.output();
            return Err(format!("nodes and store do not agree: {apart}\n{said}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a node says that is not well.
async fn ailing(fleet: &Fleet) -> Option<String> {
    for node in &fleet.nodes {
        let mut connection = match Connection::open(node.address).await {
            Ok(connection) => connection,
            Err(error) => return Some(error.to_string()),
        };
        match connection.call(&Request::get("/readyz")).await {
            Ok(answer) if answer.json()["dependencies"]["store"] == "up" => {}
            other => return Some(format!("{other:?}")),
        }
    }
    None
}

/// After the sale: the store holds nobody who is inside or has left, and the event at rest is as it
/// was.
async fn ended_well(mut sold: Sold, fleet: &Fleet, still: &Still) -> Sold {
    let apart = still.apart(fleet).await;
    let mut wrong: Vec<String> = apart.into_iter().collect();
    let over = sold.run.stories.iter();
    let over = over.filter(|story| matches!(story.end, End::Entered | End::Left));
    let tokens: Vec<&str> = over.filter_map(|story| story.token()).collect();
    wrong.extend(still::in_line(fleet, &tokens));
    sold.wrong += wrong.len() as u64;
    for word in wrong {
        sold.report += &format!("  WRONG at the end: {word}\n");
    }
    sold
}

/// One line of the table.
fn tell(name: &str, sold: &Sold, agreed_after: u64) {
    let run = &sold.run;
    let seen = || run.stories.iter().flat_map(|story| &story.seen);
    let polls = || seen().filter(|seen| seen.call == Call::Status);
    let in_it = |seen: &&Seen| {
        run.outages
            .iter()
            .any(|o| o.touches(seen.sent, seen.received))
    };
    let worst = polls().filter(in_it).map(|s| s.received - s.sent).max();
    let failed = |seen: &&Seen| matches!(seen.what, What::Failed { .. } | What::Odd { .. });
    let refused = seen().filter(|seen| seen.call == Call::Enter && failed(seen));
    let entries = run.stories.iter().filter(|story| story.end == End::Entered);
    println!(
        "| fault | places checked | entries | polls | worst status during it | failed statuses | \
         entries refused meanwhile | agreed after |"
    );
    println!(
        "| {name} | {} | {} | {} | {:.0} ms | {} | {} | {:.1} s |",
        sold.places,
        entries.count(),
        polls().count(),
        worst.unwrap_or(0) as f64 / 1e3,
        polls().filter(failed).count(),
        refused.count(),
        agreed_after as f64 / 1e6,
    );
}

/// For how long all of Redis is away.
fn seconds() -> u64 {
    let seconds = std::env::var("FAULT_SECONDS").ok();
    seconds.and_then(|n| n.parse().ok()).unwrap_or(10)
}

/// Now, as the sale counts time.
pub fn now(sale: &Sale) -> u64 {
    sale.pool.stopwatch.us()
}

/// Lets the fault last.
pub async fn lasting(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Runs what waits on the system, beside the sale.
pub fn blocking<T>(run: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(run)
}
