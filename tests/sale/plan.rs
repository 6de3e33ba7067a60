//! The sale on paper: its terms, and who comes when and behaves how, all drawn from one seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Connections that all visitors share.
pub const CONNECTIONS: usize = 256;
/// Polls a refreshing visitor makes without waiting.
pub const REFRESHES: u32 = 100;
/// Within how long the crowd arrives.
const BURST_US: u64 = 2 * SECOND;

/// One second.
pub const SECOND: u64 = 1_000_000;

/// What the driver holds the server to; the server is started with the same numbers.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Events on sale at once.
    pub events: usize,
    /// Visitors of all events together.
    pub visitors: usize,
    /// Nodes that answer, in turn.
    pub nodes: usize,
    /// How long one node may take to hear of what another one did. Answers closer together than
    /// this are not held against each other.
    pub lag: u64,
    /// Turns per second and event.
    pub rate: f64,
    /// Turns an event may give at once.
    pub burst: u32,
    /// How long a turn waits for its visitor.
    pub ready_ttl: u64,
    /// Within which those who missed a turn are called again.
    pub late_grace: u64,
    /// For how long a pass holds.
    pub pass_ttl: u64,
    /// After which silence a visitor counts as gone.
    pub heartbeat_ttl: u64,
    /// For how long a goodbye by the beacon can be taken back.
    pub leave_grace: u64,
    /// The longest wait that a visitor is asked for between two polls.
    pub poll_max: u64,
    /// Of a hundred visitors so many come later than the first rush,
    pub late_percent: u32,
    /// within so long after the start.
    pub late_within: u64,
    /// Of a hundred visitors so many send an `Idempotency-Key`; latecomers do in any case.
    pub keyed_percent: u32,
    /// When the most patient visitor gives up, after the start.
    pub patience: u64,
}

impl Terms {
    /// The terms of both runs: about 40 s of line per event, and turns that lapse while it lasts.
    pub const SALE: Self = Self {
        events: 100,
        visitors: 10_000,
        nodes: 1,
        lag: 0,
        rate: 2.5,
        burst: 3,
        ready_ttl: 8 * SECOND,
        late_grace: 120 * SECOND,
        pass_ttl: 300 * SECOND,
        heartbeat_ttl: 15 * SECOND,
        leave_grace: 5 * SECOND,
        poll_max: 5 * SECOND,
        late_percent: 2,
        late_within: 25 * SECOND,
        keyed_percent: 80,
        patience: 180 * SECOND,
    };

    /// The same as the server's settings.
    pub fn settings(&self) -> Vec<String> {
        let seconds = |us: u64| us / SECOND;
        vec![
            format!("defaults.rate={:?}", self.rate),
            format!("defaults.burst={}", self.burst),
            format!("defaults.ready_ttl={}s", seconds(self.ready_ttl)),
            format!("defaults.heartbeat_ttl={}s", seconds(self.heartbeat_ttl)),
            format!("defaults.late_grace={}s", seconds(self.late_grace)),
            "defaults.ticket_ttl=30m".to_owned(),
            format!("defaults.pass_ttl={}s", seconds(self.pass_ttl)),
            format!("defaults.leave_grace={}s", seconds(self.leave_grace)),
            "polling.min=500ms".to_owned(),
            format!("polling.max={}s", seconds(self.poll_max)),
        ]
    }
}

/// How a visitor behaves, apart from polling as told and entering when ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing else.
    Plain,
    /// Closes the tab this long after joining, without a word.
    ClosesTab(u64),
    /// Sees the turn and closes the tab.
    Shirks,
    /// This long after joining, leaves by the browser's beacon, and polls again soon.
    ComesBack(u64),
    /// This long after joining, leaves for good and says so.
    Leaves(u64),
    /// Makes every call twice.
    Repeats,
    /// Polls without waiting, [`REFRESHES`] times.
    Refreshes,
    /// Sees the turn, lets it lapse, then polls again.
    Dawdles,
}

/// One visitor before the sale.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    pub event: usize,
    pub visitor: usize,
    pub kind: Kind,
    /// When they join, after the start.
    pub arrives: u64,
    /// Whether they send an `Idempotency-Key`.
    pub keyed: bool,
    /// For what they draw themselves.
    pub seed: u64,
}

/// Everybody who comes, in no order.
pub fn crowd(seed: u64, terms: &Terms) -> Vec<Person> {
    let mut rng = StdRng::seed_from_u64(seed);
    let people = (0..terms.visitors).map(|visitor| person(visitor, terms, &mut rng));
    people.collect()
}

fn person(visitor: usize, terms: &Terms, rng: &mut StdRng) -> Person {
    let later = rng.random_range(SECOND / 2..30 * SECOND);
    let kind = match rng.random_range(0..100) {
        0..5 => Kind::ClosesTab(later),
        5..10 => Kind::Shirks,
        10..14 => Kind::ComesBack(later),
        14..16 => Kind::Leaves(later),
        16..18 => Kind::Repeats,
        18 => Kind::Refreshes,
        19 => Kind::Dawdles,
        _ => Kind::Plain,
    };
    let latecomer = rng.random_ratio(terms.late_percent, 100);
    let within = if latecomer {
        terms.late_within
    } else {
        BURST_US
    };
    let arrives = rng.random_range(0..within);
    // A join without a key cannot be repeated safely, so who repeats it, and who might have to when
    // the server is down, has one.
    let keyed = latecomer || kind == Kind::Repeats || rng.random_ratio(terms.keyed_percent, 100);
    Person {
        event: visitor % terms.events,
        visitor,
        kind,
        arrives,
        keyed,
        seed: rng.random(),
    }
}

/// The name of event number `event`.
pub fn event_name(event: usize) -> String {
    format!("sale-{event:03}")
}
