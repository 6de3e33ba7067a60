//! The gate's scripts are the gate: whatever is asked of both, they answer alike.

use proptest::prelude::*;
use tidegate::model::gate::{
    AdvanceRequest, EnterRequest, GatePolicy, GateView, Home, Presence, SettleRequest, Turn,
};
use tidegate::model::{EventId, Micros, NodeId};
use tidegate::store::gate::Gate;
use tidegate::store::redis::Mode;
use tidegate::store::{Redis, Store};

use crate::kit::cluster::shared_server;
use crate::store::kit::{Clock, SECOND, START, event, id, ids, redis_settings};

const POLICY: GatePolicy = GatePolicy {
    rate: 2.0,
    burst: 4,
    max_active: 0,
    paused: false,
    ready_ttl: 10 * SECOND,
    late_grace: 100 * SECOND,
    ticket_ttl: 500 * SECOND,
    pass_ttl: 20 * SECOND,
    nodes: 3,
    share_limit: 60 * SECOND,
};

/// What may be asked of a gate, honest or not.
#[derive(Debug, Clone)]
enum Ask {
    Advance {
        node: u16,
        serial: u64,
        ahead: i64,
        candidates: Vec<u128>,
        given_back: Vec<u128>,
        claims: Vec<(u128, i64)>,
        lease: (u32, u32),
        homes: Vec<(u16, u64)>,
        presence: Word,
    },
    Enter {
        node: u16,
        id: u128,
        claim: Option<(u128, i64)>,
        free: bool,
        known: bool,
        /// How long before, in microseconds.
        joined: u64,
    },
    Settle {
        called: Vec<(u128, i64)>,
        entered: Vec<(u128, i64)>,
        shared: bool,
    },
    /// Tickets enter at the same time: whose, whether out of a lease, free, known.
    Together(Vec<(u128, Option<i64>, bool, bool)>),
    Complete(u128),
    Policy(GatePolicy),
    Pass(i64),
    /// The server is another one than before.
    FallBack,
}

/// What a node says of itself: how long ago it was sent, and the horizon.
#[derive(Debug, Clone, Copy)]
enum Word {
    Quiet,
    Gone,
    Here(i64, u64),
}

fn words() -> impl Strategy<Value = Word> {
    let ago = prop_oneof![
        3 => Just(0_i64),
        1 => -3_000_000..3_000_000_i64,
        1 => (0..2_i64, -1..=1_i64).prop_map(|(two, off)| 1_500_000 + two * 500_000 + off),
    ];
    prop_oneof![
        3 => Just(Word::Quiet),
        1 => Just(Word::Gone),
        4 => (ago, 0..9_u64).prop_map(|(ago, horizon)| Word::Here(ago, horizon)),
    ]
}

fn number() -> impl Strategy<Value = u128> {
    0..14_u128
}

/// A turn out of a lease: whose, and when it ends, counted from now.
fn claim() -> impl Strategy<Value = (u128, i64)> {
    let ends = prop_oneof![
        3 => 0..4_000_000_i64,
        1 => -3_000_000..0_i64,
        1 => Just(-1_000_000_i64),
    ];
    (number(), ends)
}

fn policies() -> impl Strategy<Value = GatePolicy> {
    let rate = prop::sample::select(vec![
        0.0,
        0.3,
        1.0,
        1.0 / 3.0,
        7.5,
        1e5,
        1e300,
        f64::INFINITY,
    ]);
    let counts = (
        prop::sample::select(vec![1, 4, 9, u32::MAX]),
        prop::sample::select(vec![0, 0, 3, 6]),
        prop::bool::weighted(0.1),
        prop::sample::select(vec![0, 1, 3, 7]),
    );
    let ttls = (
        prop::sample::select(vec![0, 3 * SECOND, 10 * SECOND]),
        prop::sample::select(vec![0, 100 * SECOND]),
        prop::sample::select(vec![5 * SECOND, 500 * SECOND]),
        prop::sample::select(vec![0, 20 * SECOND]),
    );
    (rate, counts, ttls).prop_map(|(rate, (burst, max_active, paused, nodes), ttls)| {
        let (ready_ttl, late_grace, ticket_ttl, pass_ttl) = ttls;
        GatePolicy {
            rate,
            burst,
            max_active,
            paused,
            ready_ttl,
            late_grace,
            ticket_ttl,
            pass_ttl,
            nodes,
            share_limit: 60 * SECOND,
        }
    })
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let advance = (
        (
            0..3_u16,
            0..40_u64,
            prop::sample::select(vec![0, 0, 0, 0, 0, 0, 0, -1, -1, 1]),
        ),
        prop::collection::vec(number(), 0..7),
        prop::collection::vec(number(), 0..3),
        prop::collection::vec(claim(), 0..3),
        (0..4_u32, 0..4_u32),
        prop::collection::vec((0..4_u16, 0..9_u64), 0..7),
        words(),
    );
    let advance = advance.prop_map(
        |((node, serial, ahead), candidates, given_back, claims, lease, homes, presence)| {
            Ask::Advance {
                homes,
                presence,
                node,
                serial,
                ahead,
                candidates,
                given_back,
                claims,
                lease,
            }
        },
    );
    let claims = prop::option::weighted(0.4, claim());
    let rarely = || prop::bool::weighted(0.1);
    let enter = (
        0..3_u16,
        number(),
        claims,
        rarely(),
        rarely(),
        0..70_000_000_u64,
    )
        .prop_map(|(node, id, claim, free, known, joined)| Ask::Enter {
            node,
            id,
            claim,
            free,
            known,
            joined,
        });
    let some = || prop::collection::vec(claim(), 0..5);
    let settle = (some(), some(), any::<bool>());
    let settle = settle.prop_map(|(called, entered, shared)| Ask::Settle {
        called,
        entered,
        shared,
    });
    let own = prop::option::weighted(0.4, 0..4_000_000_i64);
    let company = prop::collection::btree_map(number(), (own, rarely(), rarely()), 2..7);
    let together = company.prop_map(|company| {
        let each = company.into_iter();
        let each = each.map(|(id, (claim, free, known))| (id, claim, free, known));
        Ask::Together(each.collect())
    });
    let ask = prop_oneof![
        2 => together,
        6 => advance,
        4 => enter,
        1 => settle,
        1 => number().prop_map(Ask::Complete),
        1 => policies().prop_map(Ask::Policy),
        1 => Just(Ask::FallBack),
        4 => prop_oneof![
            0..3_000_000_i64,
            -2_000_000..0_i64,
            Just(15_000_000),
            Just(70_000_000),
            Just(-70_000_000),
            Just(600_000_000),
            // To the microsecond at which something ends, or one off.
            (prop::sample::select(vec![1, 2, 3, 4, 5, 10, 11, 20, 60, 90, 100, 500]), -1..=1_i64)
                .prop_map(|(seconds, off)| seconds * 1_000_000 + off),
        ].prop_map(Ask::Pass),
    ];
    prop::collection::vec(ask, 1..60)
}

/// The gate of the reference, and the scripts' gate of one event.
struct Pair<'a> {
    store: &'a Redis,
    clock: &'a Clock,
    event: EventId,
    gate: Gate,
    policy: GatePolicy,
    version: u64,
    now: u64,
}

impl Pair<'_> {
    fn turn(&self, (number, ends): (u128, i64)) -> Turn {
        Turn {
            id: id(number),
            until: Micros(self.now.saturating_add_signed(ends)),
        }
    }

    async fn ask(&mut self, ask: &Ask) -> Result<(), TestCaseError> {
        let now = Micros(self.now);
        self.clock.set(self.now);
        let mut changes = Vec::new();
        match ask {
            Ask::Pass(micros) => self.now = self.now.saturating_add_signed(*micros),
            Ask::Policy(policy) => self.policy = *policy,
            Ask::FallBack => {
                self.gate.fall_back();
                let script = "for _, k in ipairs(redis.call('KEYS', ARGV[1])) do \
                    redis.call('HSET', k, 'run', 'another') end return 0";
                let key = format!("*gate:{}", self.event.as_str());
                shared_server().run::<i64>(&["EVAL", script, "0", &key]);
            }
            Ask::Complete(number) => {
                let expected = self.gate.complete(&id(*number), &mut changes);
                let answer = self.store.complete(self.event.clone(), id(*number)).await;
                prop_assert_eq!(answer.unwrap(), expected);
            }
            Ask::Enter {
                node,
                id: number,
                claim,
                free,
                known,
                joined,
            } => {
                let request = EnterRequest {
                    known: known.then_some(Micros(self.now.saturating_sub(*joined))),
                    event: self.event.clone(),
                    node: NodeId(*node),
                    policy: self.policy,
                    id: id(*number),
                    claim: claim.map(|claim| self.turn(claim)),
                    free: *free,
                    arrival: Micros(self.now.saturating_sub(*joined)),
                    key: None,
                };
                let expected = self.gate.enter(now, &request, &mut changes);
                prop_assert_eq!(self.store.enter(request).await.unwrap(), expected);
            }
            Ask::Together(all) => {
                let requests = all
                    .iter()
                    .map(|&(number, claim, free, known)| EnterRequest {
                        known: known.then_some(Micros(self.now)),
                        event: self.event.clone(),
                        node: NodeId(0),
                        policy: self.policy,
                        id: id(number),
                        claim: claim.map(|ends| self.turn((number, ends))),
                        free,
                        arrival: Micros(self.now.saturating_sub(10 * SECOND)),
                        key: None,
                    });
                let requests: Vec<_> = requests.collect();
                let mut enter = |request| self.gate.enter(now, request, &mut changes);
                let expected: Vec<_> = requests.iter().map(&mut enter).collect();
                let asked = requests.into_iter().map(|request| {
                    let store = self.store.clone();
                    tokio::spawn(async move { store.enter(request).await })
                });
                let asked: Vec<_> = asked.collect();
                for (asked, expected) in asked.into_iter().zip(expected) {
                    prop_assert_eq!(asked.await.unwrap().unwrap(), expected);
                }
            }
            Ask::Settle {
                called,
                entered,
                shared,
            } => {
                let entered = entered.iter().map(|entry| self.turn(*entry));
                let request = SettleRequest {
                    event: self.event.clone(),
                    node: NodeId(0),
                    policy: self.policy,
                    version: self.version,
                    called: called.iter().map(|turn| self.turn(*turn)).collect(),
                    entered: entered.map(|turn| (turn.id, turn.until)).collect(),
                    shared: *shared,
                };
                self.gate.settle(now, &request, &mut changes);
                self.store.settle(request).await.unwrap();
            }
            Ask::Advance {
                node,
                serial,
                ahead,
                candidates,
                given_back,
                claims,
                lease,
                homes,
                presence,
            } => {
                let home = |&(node, arrival): &(u16, u64)| Home {
                    node: NodeId(node),
                    arrival: Micros(arrival),
                };
                let request = AdvanceRequest {
                    event: self.event.clone(),
                    node: NodeId(*node),
                    serial: *serial,
                    policy: self.policy,
                    version: self.version.saturating_add_signed(*ahead),
                    candidates: candidates.iter().copied().map(id).collect(),
                    homes: homes.iter().map(home).collect(),
                    presence: match *presence {
                        Word::Quiet => Presence::Quiet,
                        Word::Gone => Presence::Gone,
                        Word::Here(ago, horizon) => Presence::Here {
                            sent_at: Micros(self.now.saturating_add_signed(-ago)),
                            horizon: Micros(horizon),
                        },
                    },
                    given_back: given_back.iter().copied().map(id).collect(),
                    claims: claims.iter().map(|claim| self.turn(*claim)).collect(),
                    lease_held: lease.0,
                    lease_wanted: lease.1,
                };
                let expected = self.gate.advance(now, &request, &mut changes);
                self.version = expected.version;
                prop_assert_eq!(self.store.advance(request).await.unwrap(), expected);
            }
        }
        Ok(())
    }

    /// What a node would read of them after a start.
    async fn compare(&self) -> Result<(), TestCaseError> {
        self.clock.set(self.now);
        let read = self.store.gates().await.unwrap();
        let read = read.into_iter().find(|view| view.event == self.event);
        let expected = self.gate.view(Micros(self.now), self.event.clone());
        // A gate that refused all it was asked has left nothing.
        let nothing = || GateView {
            event: self.event.clone(),
            version: 0,
            now: Micros(self.now),
            lost_at: Micros(0),
            called: vec![],
            missed: vec![],
            entered: vec![],
            active: 0,
        };
        prop_assert_eq!(read.unwrap_or_else(nothing), expected);
        let until = Micros((1 << 52) + self.now);
        self.store.erase(self.event.clone(), until).await.unwrap();
        Ok(())
    }
}

#[test]
fn scripts_answer_as_the_gate_in_the_process_does() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Clock::new();
    let settings = redis_settings(
        shared_server().port,
        Mode::Single,
        Some(clock.as_store_clock()),
    );
    let store = runtime.block_on(Redis::open(settings)).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(300)
    });
    let case = std::cell::Cell::new(0_u32);
    let run = runner.run(&asks(), |asks| {
        case.set(case.get() + 1);
        let mut pair = Pair {
            store: &store,
            clock: &clock,
            event: event(&format!("case-{}", case.get())),
            gate: Gate::default(),
            policy: POLICY,
            version: 0,
            now: START,
        };
        runtime.block_on(async {
            for (n, ask) in asks.iter().enumerate() {
                let asked = pair.ask(ask).await;
                asked.map_err(|error| TestCaseError::fail(format!("ask {n}: {error}")))?;
            }
            pair.compare().await
        })
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}

/// Chance rarely meets the microsecond at which something ends: here each is met, and both beside it.
#[tokio::test]
async fn what_ends_ends_at_the_same_microsecond() {
    let clock = Clock::new();
    let settings = redis_settings(
        shared_server().port,
        Mode::Single,
        Some(clock.as_store_clock()),
    );
    let store = Redis::open(settings).await.unwrap();
    let advance = |node, serial, last| Ask::Advance {
        node,
        serial,
        ahead: 0,
        candidates: (1..=last).collect(),
        given_back: vec![],
        claims: vec![],
        lease: (2, 2),
        homes: vec![(node, 5); 8],
        presence: Word::Here(0, 5),
    };
    let enter = Ask::Enter {
        node: 0,
        id: 1,
        claim: None,
        free: false,
        known: false,
        joined: 0,
    };
    for (case, seconds) in [1, 2, 10, 11, 20, 60, 90, 100, 500].into_iter().enumerate() {
        for passed in
            (-1..=1_i64).flat_map(|off| [1, -1].map(|way| way * (seconds * 1_000_000 + off)))
        {
            let mut pair = Pair {
                store: &store,
                clock: &clock,
                event: event(&format!("{case}:{}", passed.unsigned_abs())),
                gate: Gate::default(),
                policy: POLICY,
                version: 0,
                now: START,
            };
            let asks = [
                advance(0, 1, 2),
                enter.clone(),
                Ask::Pass(passed),
                advance(1, 1, 8),
                enter.clone(),
                Ask::Pass(20_000_000),
                advance(1, 2, 8),
                Ask::Pass(1_000_000),
                advance(2, 1, 8),
            ];
            for (n, ask) in asks.iter().enumerate() {
                let asked = pair.ask(ask).await;
                asked.unwrap_or_else(|error| panic!("{passed} us, ask {n}: {error}"));
            }
            pair.compare().await.unwrap();
        }
    }
}

#[tokio::test]
async fn large_steps_are_taken_whole() {
    let clock = Clock::new();
    let settings = redis_settings(
        shared_server().port,
        Mode::Single,
        Some(clock.as_store_clock()),
    );
    let store = Redis::open(settings).await.unwrap();
    let policy = GatePolicy {
        burst: 10_000,
        ..POLICY
    };
    let mut gate = Gate::default();
    let mut version = 0;
    for (serial, passed) in [(1, 0), (2, SECOND), (3, 20 * SECOND), (4, SECOND)] {
        clock.pass(passed);
        let now = clock.as_store_clock()();
        let request = AdvanceRequest {
            event: event("e"),
            node: NodeId(0),
            serial,
            policy,
            version,
            candidates: ids(0..5_000),
            homes: vec![],
            presence: Presence::Quiet,
            given_back: ids(100..1_200),
            claims: ids(9_000..11_000)
                .into_iter()
                .map(|id| Turn {
                    id,
                    until: Micros(START + 5 * SECOND),
                })
                .collect(),
            lease_held: 0,
            lease_wanted: 7,
        };
        let expected = gate.advance(now, &request, &mut Vec::new());
        version = expected.version;
        let answer = store.advance(request).await.unwrap();
        assert_eq!(answer, expected, "step {serial}");
        let view = gate.view(now, event("e"));
        assert_eq!(store.gates().await.unwrap(), [view]);
    }
}
