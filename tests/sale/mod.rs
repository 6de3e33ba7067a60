//! The sale: ten thousand visitors of a hundred events against the real binary over real sockets.
//! The driver knows the visitor API and nothing else; what the visitors saw is then checked.
//!
//! `SALE_SEED` draws another crowd.

mod check;
mod figures;
mod plan;
mod reading;
mod story;
mod visitor;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::kit::client::Pool;
use crate::kit::server::Server;
use crate::kit::stopwatch::Stopwatch;
use plan::{CONNECTIONS, crowd};
use story::Late;
use visitor::{look_back, visit};

pub use plan::SECOND;
pub use plan::{Terms, event_name};
pub use story::{Call, Down, End, Outage, Run, Seen, Story, What};
pub use visitor::Sale;

/// The crowd that is drawn unless `SALE_SEED` says otherwise.
const SEED: u64 = 20_261_201;

/// After which part of the visitors has entered the server is killed.
const ENTERED_AT_KILL_PERCENT: usize = 35;

/// Nobody calls any more so long after the most patient has given up, whatever happens.
const CLOSES_AFTER: u64 = 20 * plan::SECOND;

/// One sale at a time: each is sized for the whole machine.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits for the machine, and keeps it for as long as the guard lives.
pub async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

#[test]
fn a_sale_goes_through() {
    hold("a sale", false);
}

#[test]
fn a_sale_survives_a_kill_in_the_middle() {
    hold("a sale, killed in the middle", true);
}

/// Runs one sale and checks it.
fn hold(name: &str, kill: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.expect("the system has threads");
    let (report, wrong) = runtime.block_on(async {
        let _alone = alone().await;
        sale(name, kill).await
    });
    println!("{report}");
    assert_eq!(wrong, 0, "{report}");
}

async fn sale(name: &str, kill: bool) -> (String, u64) {
    let terms = Terms::SALE;
    let mut server = Server::start(&terms.settings()).await;
    let address = server.address;
    let ended = drive(name, terms, address, async |sale: &Sale| {
        if !kill {
            return Vec::new();
        }
        let mut entered = sale.entered.subscribe();
        let enough = terms.visitors * ENTERED_AT_KILL_PERCENT / 100;
        if entered
            .wait_for(|entered| *entered >= enough)
            .await
            .is_err()
        {
            return Vec::new();
        }
        let stopwatch = sale.pool.stopwatch;
        let killed = stopwatch.us();
        server.kill();
        sale.pool.reset();
        server.restart().await;
        vec![Outage {
            killed,
            ready: stopwatch.us(),
            what: Down::Server,
        }]
    });
    let (report, wrong) = ended.await;
    if wrong > 0 {
        println!("the server's last words:\n{}", server.output());
    }
    (report, wrong)
}

/// Drives a sale against whatever answers at `address`, with some trouble meanwhile, and checks it.
/// Answers the report and how much was wrong.
pub async fn drive(
    name: &str,
    terms: Terms,
    address: SocketAddr,
    trouble: impl AsyncFnOnce(&Sale) -> Vec<Outage>,
) -> (String, u64) {
    let sold = drive_to_the_end(name, terms, address, trouble).await;
    (sold.report, sold.wrong)
}

/// A sale that is over.
pub struct Sold {
    pub run: Run,
    pub report: String,
    /// How much was wrong, and when each of it happened.
    pub wrong: u64,
    pub wrong_at: Vec<u64>,
    /// How many of the places told were looked at.
    pub places: u64,
}

/// The same, with all that was seen. Trouble that waits for entries is woken when the sale is over.
pub async fn drive_to_the_end(
    name: &str,
    terms: Terms,
    address: SocketAddr,
    trouble: impl AsyncFnOnce(&Sale) -> Vec<Outage>,
) -> Sold {
    let seed = seed();
    println!("{name}: seed {seed}");
    let stopwatch = Stopwatch::start();
    let sale = Arc::new(Sale {
        seed,
        terms,
        pool: Pool::new(
            address,
            CONNECTIONS,
            stopwatch,
            terms.patience + CLOSES_AFTER,
        ),
        entered: watch::Sender::new(0),
        closed: AtomicU64::new(u64::MAX),
        closing: AtomicBool::new(false),
    });
    let mut visits = JoinSet::new();
    for person in crowd(seed, &terms) {
        let sale = sale.clone();
        visits.spawn(async move { visit(&sale, person).await });
    }
    // The visits run on as tasks of their own, whatever the trouble is.
    let visits = async {
        let stories = visits.join_all().await;
        sale.entered.send_replace(usize::MAX);
        stories
    };
    let (over, watched) = oneshot::channel();
    let late = tokio::spawn(lateness(stopwatch, watched));
    let (stories, outages) = tokio::join!(visits, trouble(&sale));
    drop(over);
    let late = late.await.expect("it only looks at the clock");
    let sold = stopwatch.us();
    let stories = look_back_all(&sale, stories).await;
    let run = Run {
        terms,
        stories,
        outages,
        late,
        closed: sale.closed.load(Ordering::Relaxed),
    };
    let connections = sale.pool.opened.load(Ordering::Relaxed);
    report(name, seed, sold, connections, run)
}

/// Notes when and by how much timers are late here: how busy the machine is with something else.
async fn lateness(stopwatch: Stopwatch, mut over: oneshot::Receiver<()>) -> Vec<Late> {
    const EVERY: u64 = plan::SECOND / 20;
    const NOTED: u64 = plan::SECOND / 50;
    let mut late = Vec::new();
    loop {
        let due = stopwatch.us() + EVERY;
        tokio::select! {
            () = tokio::time::sleep_until(stopwatch.at(due)) => {}
            _ = &mut over => return late,
        }
        let by = stopwatch.us() - due;
        if by > NOTED {
            late.push(Late { due, by });
        }
    }
}

async fn look_back_all(sale: &Arc<Sale>, stories: Vec<Story>) -> Vec<Story> {
    let mut looks = JoinSet::new();
    for story in stories {
        let sale = sale.clone();
        looks.spawn(async move { look_back(&sale, story).await });
    }
    looks.join_all().await
}

fn report(name: &str, seed: u64, sold: u64, connections: u64, run: Run) -> Sold {
    let verdicts = check::all(&run);
    let wrong_at = verdicts
        .iter()
        .flat_map(|verdict| verdict.wrong_at.iter().copied());
    let wrong_at = wrong_at.collect();
    let wrong = verdicts.iter().map(|verdict| verdict.wrong).sum();
    let mut report = format!("{name}: seed {seed}, {} s\n", sold / plan::SECOND);
    report += &figures::table(&run);
    let _ = writeln!(report, "  {:<44} {connections}", "connections opened");
    for verdict in &verdicts {
        let _ = write!(report, "{verdict}");
    }
    let _ = writeln!(report, "  {:<44} {wrong}", "wrong in all");
    let places = verdicts.iter().find(|v| v.name == check::PLACES);
    Sold {
        places: places.map_or(0, |verdict| verdict.examined),
        run,
        report,
        wrong,
        wrong_at,
    }
}

fn seed() -> u64 {
    std::env::var("SALE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(SEED)
}
