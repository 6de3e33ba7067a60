use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
/// When the tests begin; not 0, which means "never filled".
const START: u64 = 1_000 * SECOND;

fn policy() -> GatePolicy {
    GatePolicy {
        rate: 2.0,
        burst: 4,
        max_active: 0,
        paused: false,
        ready_ttl: 10 * SECOND,
        late_grace: 100 * SECOND,
        ticket_ttl: 10_000 * SECOND,
        pass_ttl: 20 * SECOND,
    }
}

fn ids(range: std::ops::Range<u128>) -> Vec<TicketId> {
    range.map(TicketId::from_u128).collect()
}

fn id(number: u128) -> TicketId {
    TicketId::from_u128(number)
}

/// A gate, the clock it sees, and one honest way to ask it.
struct Bench {
    gate: Gate,
    now: u64,
    serial: u64,
    policy: GatePolicy,
    changes: Vec<Change>,
}

impl Bench {
    fn new(policy: GatePolicy) -> Self {
        Self {
            gate: Gate::default(),
            now: START,
            serial: 0,
            policy,
            changes: Vec::new(),
        }
    }

    fn request(&mut self, candidates: Vec<TicketId>) -> AdvanceRequest {
        self.serial += 1;
        AdvanceRequest {
            event: EventId::new("e").unwrap(),
            node: NodeId(0),
            serial: self.serial,
            policy: self.policy,
            version: self.gate.bucket.version,
            candidates,
            given_back: vec![],
            claims: vec![],
            lease_held: 0,
            lease_wanted: 0,
        }
    }

    fn ask(&mut self, request: &AdvanceRequest) -> Advanced {
        self.gate
            .advance(Micros(self.now), request, &mut self.changes)
    }

    fn call(&mut self, candidates: Vec<TicketId>) -> Vec<TicketId> {
        let request = self.request(candidates);
        self.ask(&request)
            .called
            .iter()
            .map(|turn| turn.id)
            .collect()
    }

    fn enter(&mut self, id: TicketId, claim: Option<Turn>) -> Entry {
        let request = EnterRequest {
            event: EventId::new("e").unwrap(),
            node: NodeId(0),
            policy: self.policy,
            id,
            claim,
            free: false,
            pass: format!("pass {id} {}", self.now),
        };
        self.gate
            .enter(Micros(self.now), &request, &mut self.changes)
    }
}

#[test]
fn a_quiet_gate_gives_its_burst_and_then_its_rate() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.call(ids(0..9)), ids(0..4));
    assert_eq!(bench.call(ids(4..9)), vec![]);
    bench.now += SECOND;
    assert_eq!(bench.call(ids(4..9)), ids(4..6));
}

#[test]
fn many_short_fillings_pay_what_one_long_one_pays() {
    let slow = GatePolicy {
        rate: 0.000_7,
        ready_ttl: 10_000 * SECOND,
        ..policy()
    };
    let mut bench = Bench::new(slow);
    bench.call(ids(0..4));
    for _ in 0..150_000 {
        bench.now += 10_000;
        bench.gate.refill(Micros(bench.now), &slow);
    }
    // 1,500 s at 0.0007 a second.
    assert_eq!(bench.call(ids(4..9)), ids(4..5));
}

#[test]
fn a_new_rate_counts_from_when_it_is_heard_of() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..4));
    bench.now += SECOND / 2;
    bench.policy.rate = 1_000.0;
    assert_eq!(bench.call(ids(4..99)), ids(4..5));
}

#[test]
fn a_paused_gate_gives_nothing_and_takes_nothing_away() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.call(ids(0..1)), ids(0..1));
    bench.policy.paused = true;
    bench.now += SECOND;
    assert_eq!(bench.call(ids(1..4)), vec![]);
    assert!(matches!(bench.enter(id(0), None), Entry::Granted { .. }));
    bench.policy.paused = false;
    assert_eq!(bench.call(ids(1..9)), ids(1..5));
}

#[test]
fn a_clock_that_goes_back_a_little_pays_no_moment_twice() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..4));
    for _ in 0..10 {
        bench.now -= SECOND;
        assert_eq!(bench.call(ids(4..99)), vec![]);
        bench.now += SECOND;
        assert_eq!(bench.call(ids(4..99)), vec![]);
        bench.policy.rate += 1.0;
    }
}

#[test]
fn a_clock_that_was_set_back_far_does_not_stop_the_gate() {
    let mut bench = Bench::new(policy());
    bench.now += 3_600 * SECOND;
    bench.call(ids(0..4));
    bench.now -= 3_600 * SECOND;
    assert_eq!(bench.call(ids(4..9)), vec![]);
    bench.now += SECOND;
    assert_eq!(bench.call(ids(4..9)), ids(4..6));
}

#[test]
fn a_lapsed_turn_goes_to_the_next_and_its_owner_has_missed_it() {
    let mut bench = Bench::new(GatePolicy {
        rate: 0.0,
        burst: 1,
        ..policy()
    });
    assert_eq!(bench.call(ids(0..2)), ids(0..1));
    bench.now += 10 * SECOND + LAPSE_GRACE - 1;
    assert_eq!(bench.call(ids(1..2)), vec![]);
    bench.now += 1;
    assert_eq!(bench.enter(id(0), None), Entry::Missed);
    let request = bench.request(ids(1..2));
    let answer = bench.ask(&request);
    assert_eq!(answer.missed, ids(0..1));
    assert_eq!(answer.called[0].id, id(1));
    assert_eq!(bench.enter(id(0), None), Entry::NotCalled);
}

#[test]
fn who_saw_an_older_version_calls_nobody_and_learns_the_open_turns() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..2));
    let mut request = bench.request(ids(5..6));
    request.version = 0;
    let answer = bench.ask(&request);
    assert!(answer.stale);
    assert_eq!(answer.called.len(), 2);
    assert_eq!(bench.call(ids(5..6)), ids(5..6));
}

#[test]
fn offering_a_called_ticket_again_changes_nothing() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..1));
    let version = bench.gate.bucket.version;
    assert_eq!(bench.call(ids(0..1)), ids(0..1));
    assert_eq!(bench.gate.bucket.version, version);
}

#[test]
fn a_repeated_request_gives_and_takes_nothing() {
    let mut bench = Bench::new(GatePolicy {
        rate: 0.0,
        ..policy()
    });
    bench.call(ids(0..2));
    let mut back = bench.request(vec![]);
    back.given_back = ids(0..1);
    back.lease_wanted = 1;
    assert_eq!(bench.ask(&back).lease, 1);
    // The same ticket came back and was called anew before the repetition arrives.
    let mut again = bench.request(ids(0..1));
    (again.lease_held, again.lease_wanted) = (1, 1);
    assert_eq!(bench.ask(&again).called[0].id, id(0));
    let before = bench.gate.bucket.clone();
    let answer = bench.ask(&back);
    assert!(answer.stale);
    assert_eq!((answer.lease, answer.open_turns), (1, 2));
    assert_eq!(bench.gate.bucket, before);
    assert!(matches!(bench.enter(id(0), None), Entry::Granted { .. }));
}

#[test]
fn an_idle_lease_is_not_refilled_behind_its_back() {
    let mut bench = Bench::new(policy());
    let mut request = bench.request(vec![]);
    request.lease_wanted = 3;
    assert_eq!(bench.ask(&request).lease, 3);
    bench.now += 30 * SECOND;
    let mut request = bench.request(ids(0..9));
    (request.lease_held, request.lease_wanted) = (3, 3);
    let answer = bench.ask(&request);
    assert_eq!((answer.called.len(), answer.lease), (1, 3));
}

#[test]
fn what_a_lease_gives_up_returns_to_the_bucket() {
    let mut bench = Bench::new(GatePolicy {
        rate: 0.0,
        ..policy()
    });
    let mut request = bench.request(vec![]);
    request.lease_wanted = 4;
    assert_eq!(bench.ask(&request).lease, 4);
    let mut request = bench.request(vec![]);
    (request.lease_held, request.lease_wanted) = (4, 1);
    let answer = bench.ask(&request);
    assert_eq!((answer.lease, answer.level), (1, 3));
}

#[test]
fn a_dropped_lease_owes_what_is_claimed_of_it_later() {
    let mut bench = Bench::new(GatePolicy {
        rate: 0.0,
        ..policy()
    });
    let mut request = bench.request(vec![]);
    request.lease_wanted = 4;
    bench.ask(&request);
    bench.now += LEASE_DROPPED_AFTER + 1;
    let until = Micros(bench.now + SECOND);
    let claim = Turn { id: id(7), until };
    assert!(matches!(
        bench.enter(id(7), Some(claim)),
        Entry::Granted { .. }
    ));
    let late = Turn { id: id(8), until };
    let mut request = bench.request(vec![]);
    request.claims = vec![late];
    let answer = bench.ask(&request);
    // The lease paid for the first; for the second nothing was left.
    assert_eq!((answer.lease, answer.level), (0, -1));
}

#[test]
fn a_claim_that_lapsed_on_its_way_is_missed_and_goes_back_to_the_bucket() {
    let mut bench = Bench::new(GatePolicy {
        rate: 0.0,
        ..policy()
    });
    let mut request = bench.request(vec![]);
    request.lease_wanted = 4;
    bench.ask(&request);
    let until = Micros(bench.now + SECOND);
    let claim = Turn { id: id(7), until };
    bench.now += SECOND + LAPSE_GRACE;
    assert_eq!(bench.enter(id(7), Some(claim)), Entry::Missed);
    let mut request = bench.request(vec![]);
    (request.claims, request.lease_held) = (vec![claim], 3);
    let answer = bench.ask(&request);
    assert_eq!(
        (answer.missed, answer.lease, answer.level),
        (ids(7..8), 0, 4)
    );
}

#[test]
fn claims_before_the_first_filling_are_paid_out_of_it() {
    let mut bench = Bench::new(policy());
    let until = Micros(bench.now + SECOND);
    bench.enter(id(7), Some(Turn { id: id(7), until }));
    assert_eq!(bench.call(ids(0..9)).len(), 3);
}

#[test]
fn entering_again_answers_the_same_pass_and_never_a_second_one() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..1));
    assert!(matches!(bench.enter(id(0), None), Entry::Granted { .. }));
    let first = format!("pass {} {START}", id(0));
    bench.now += SECOND;
    assert!(matches!(bench.enter(id(0), None), Entry::Again { pass, .. } if pass == first));
    bench.now += 20 * SECOND;
    assert_eq!(bench.enter(id(0), None), Entry::Over);
    let request = bench.request(ids(0..1));
    let answer = bench.ask(&request);
    assert_eq!((answer.entered, answer.called), (ids(0..1), vec![]));
    assert_eq!(bench.enter(id(0), None), Entry::Over);
}

#[test]
fn who_is_free_to_pass_is_not_kept_by_a_lapsed_turn() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..1));
    bench.now += 60 * SECOND;
    let request = EnterRequest {
        event: EventId::new("e").unwrap(),
        node: NodeId(0),
        policy: bench.policy,
        id: id(0),
        claim: None,
        free: true,
        pass: String::new(),
    };
    let entry = bench.gate.enter(Micros(bench.now), &request, &mut vec![]);
    assert!(matches!(entry, Entry::Granted { .. }));
}

#[test]
fn the_cap_counts_promises_and_completing_frees_a_place() {
    let mut bench = Bench::new(GatePolicy {
        max_active: 2,
        ..policy()
    });
    assert_eq!(bench.call(ids(0..9)), ids(0..2));
    bench.enter(id(0), None);
    bench.now += SECOND;
    assert_eq!(bench.call(ids(2..9)), vec![]);
    assert!(bench.gate.complete(&id(0), &mut vec![]));
    assert!(!bench.gate.complete(&id(0), &mut vec![]));
    assert_eq!(bench.call(ids(2..9)), ids(2..3));
}

#[test]
fn a_visitor_who_never_completes_frees_the_place_with_the_end_of_the_pass() {
    let mut bench = Bench::new(GatePolicy {
        max_active: 1,
        ..policy()
    });
    bench.call(ids(0..1));
    bench.enter(id(0), None);
    bench.now += 20 * SECOND - 1;
    assert_eq!(bench.call(ids(1..2)), vec![]);
    bench.now += 1;
    assert_eq!(bench.call(ids(1..2)), ids(1..2));
}

/// What may be asked of a gate, honest or not.
#[derive(Debug, Clone)]
enum Ask {
    Advance {
        node: u16,
        serial: u64,
        fresh: bool,
        first: u128,
        given_back: Option<u128>,
        claim: Option<u128>,
        lease: (u32, u32),
        repeat: bool,
    },
    Enter {
        node: u16,
        id: u128,
        claim: bool,
    },
    Complete {
        id: u128,
    },
    Rate(f64),
    Pause(bool),
    Pass {
        micros: i64,
    },
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let number = 0..12_u128;
    let lease = (0..4_u32, 0..4_u32);
    let advance = (
        (0..3_u16, 0..40_u64, any::<bool>(), number.clone()),
        prop::option::of(number.clone()),
        prop::option::of(number.clone()),
        (lease, any::<bool>()),
    );
    let advance = advance.prop_map(|((node, serial, fresh, first), given_back, claim, rest)| {
        let (lease, repeat) = rest;
        Ask::Advance {
            node,
            serial,
            fresh,
            first,
            given_back,
            claim,
            lease,
            repeat,
        }
    });
    let enter = (0..3_u16, number.clone(), any::<bool>())
        .prop_map(|(node, id, claim)| Ask::Enter { node, id, claim });
    let ask = prop_oneof![
        5 => advance,
        3 => enter,
        1 => number.prop_map(|id| Ask::Complete { id }),
        1 => prop::sample::select(vec![0.0, 0.3, 1.0, 7.5]).prop_map(Ask::Rate),
        1 => any::<bool>().prop_map(Ask::Pause),
        4 => prop_oneof![
            0..3_000_000_i64,
            -2_000_000..0_i64,
            Just(15_000_000),
            Just(70_000_000),
        ].prop_map(|micros| Ask::Pass { micros }),
    ];
    prop::collection::vec(ask, 1..60)
}

/// Watches what a gate does and holds it to the invariants.
#[derive(Default)]
struct Watch {
    /// Turns given less turns given back, and what time had paid, after each step.
    steps: Vec<(i64, f64)>,
    net: i64,
    paid: f64,
    /// The latest moment that paid.
    latest: u64,
    called: std::collections::BTreeSet<TicketId>,
    entered: std::collections::BTreeSet<TicketId>,
    copy: Gate,
}

impl Watch {
    fn see(
        &mut self,
        gate: &Gate,
        changes: &[Change],
        entering: bool,
        (now, rate): (u64, f64),
    ) -> Result<(), TestCaseError> {
        let claimed = |change: &Change| matches!(change, Change::Called(_, Some(_)));
        // Only these steps look at the clock to fill the bucket.
        if !entering || changes.iter().any(claimed) {
            let since = self.latest;
            self.latest = since.max(now);
            if since > 0 {
                self.paid += rate * now.saturating_sub(since) as f64 / 1e6;
            }
        }
        for change in changes {
            match change {
                Change::Called(id, Some(_)) => {
                    prop_assert!(
                        self.called.insert(*id),
                        "{id} was called while it was called"
                    );
                    prop_assert!(!self.entered.contains(id), "{id} was called after entering");
                    self.net += 1;
                }
                Change::Called(id, None) => {
                    prop_assert!(self.called.remove(id));
                    self.net -= i64::from(!entering);
                }
                Change::Entered(id, Some(_)) => {
                    prop_assert!(self.entered.insert(*id), "{id} entered twice");
                }
                _ => {}
            }
            self.copy.restore(change.clone());
        }
        self.copy.restore_bucket(gate.bucket.clone());
        self.steps.push((self.net, self.paid));
        Ok(())
    }

    /// I3: in any window, turns given less those given back are at most the burst and what the
    /// window's time paid. Claims nobody had leased are a debt, which the level shows.
    fn check_pace(&self, burst: u32, level: i64) -> Result<(), TestCaseError> {
        let &(net, paid) = self.steps.last().expect("a step was seen");
        let debt = (-level).max(0) as f64 / TURN as f64;
        let mut before = 0;
        for (first, &(net_after, paid_then)) in self.steps.iter().enumerate() {
            let given = (net - before) as f64;
            let allowed = f64::from(burst) + paid - paid_then + debt;
            prop_assert!(
                given <= allowed + 1e-5,
                "{given} > {allowed} since step {first}"
            );
            before = net_after;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_is_asked_pace_holds_and_nobody_is_called_or_enters_twice(asks in asks()) {
        let mut bench = Bench::new(policy());
        let mut watch = Watch::default();
        for ask in asks {
            let mut changes = Vec::new();
            let rate = bench.gate.bucket.rate;
            match ask {
                Ask::Pass { micros } => {
                    bench.now = bench.now.saturating_add_signed(micros);
                    continue;
                }
                Ask::Rate(rate) => {
                    bench.policy.rate = rate;
                    continue;
                }
                Ask::Pause(paused) => {
                    bench.policy.paused = paused;
                    continue;
                }
                Ask::Complete { id: number } => {
                    bench.gate.complete(&id(number), &mut changes);
                    watch.see(&bench.gate, &changes, true, (bench.now, rate))?;
                }
                Ask::Enter { node, id: number, claim } => {
                    let until = Micros(bench.now + SECOND);
                    let request = EnterRequest {
                        event: EventId::new("e").unwrap(),
                        node: NodeId(node),
                        policy: bench.policy,
                        id: id(number),
                        claim: claim.then_some(Turn { id: id(number), until }),
                        free: false,
                        pass: String::new(),
                    };
                    bench.gate.enter(Micros(bench.now), &request, &mut changes);
                    watch.see(&bench.gate, &changes, true, (bench.now, rate))?;
                }
                Ask::Advance { node, serial, fresh, first, given_back, claim, lease, repeat } => {
                    let until = Micros(bench.now + SECOND);
                    let claims = claim.map(|number| Turn { id: id(number), until });
                    let request = AdvanceRequest {
                        node: NodeId(node),
                        serial,
                        version: bench.gate.bucket.version + u64::from(!fresh),
                        given_back: given_back.map(id).into_iter().collect(),
                        claims: claims.into_iter().collect(),
                        lease_held: lease.0,
                        lease_wanted: lease.1,
                        ..bench.request(ids(first..first + 5))
                    };
                    let now = Micros(bench.now);
                    bench.gate.advance(now, &request, &mut changes);
                    watch.see(&bench.gate, &changes, false, (bench.now, rate))?;
                    if repeat {
                        let lease = bench.gate.leased();
                        changes.clear();
                        let answer = bench.gate.advance(now, &request, &mut changes);
                        prop_assert!(answer.stale && changes.is_empty());
                        prop_assert_eq!(bench.gate.leased(), lease);
                    }
                }
            }
            watch.check_pace(bench.policy.burst, bench.gate.bucket.level)?;
            let event = EventId::new("e").unwrap();
            let now = Micros(bench.now);
            prop_assert_eq!(watch.copy.view(now, event.clone()), bench.gate.view(now, event));
        }
    }
}

/// A node as it should be: it gives out only what it was leased, and says so until it is heard.
#[derive(Debug, Clone, Default)]
struct Honest {
    serial: u64,
    version: u64,
    lease: u32,
    claims: Vec<Turn>,
}

/// What happens to one request of an honest node.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Heard,
    Lost,
    Unanswered,
    /// It arrives, is not answered, and arrives again after the node's next one.
    Late,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn honest_nodes_on_a_bad_network_never_exceed_the_cap_nor_owe(
        steps in prop::collection::vec(
            (
                0..2_usize,
                prop::sample::select(vec![Fate::Heard, Fate::Heard, Fate::Lost, Fate::Unanswered, Fate::Late]),
                0..3_u32,
                0..4_u32,
                0..900_000_u64,
                any::<bool>(),
            ),
            1..60,
        )
    ) {
        let cap = 5;
        let policy = GatePolicy { max_active: cap, rate: 5.0, ..policy() };
        let mut bench = Bench::new(policy);
        let mut nodes = [Honest::default(), Honest::default()];
        let mut late: [Option<AdvanceRequest>; 2] = [None, None];
        let mut next = 0_u128;
        for (who, fate, give, wanted, pass, enters) in steps {
            bench.now += pass;
            let node = &mut nodes[who];
            for _ in 0..give.min(node.lease) {
                node.lease -= 1;
                next += 1;
                let until = Micros(bench.now + policy.ready_ttl);
                node.claims.push(Turn { id: id(1_000 + next), until });
            }
            if enters && let Some(&turn) = node.claims.last() {
                let request = EnterRequest {
                    event: EventId::new("e").unwrap(),
                    node: NodeId(who as u16),
                    policy,
                    id: turn.id,
                    claim: Some(turn),
                    free: false,
                    pass: String::new(),
                };
                bench.gate.enter(Micros(bench.now), &request, &mut bench.changes);
            }
            node.lease = node.lease.min(wanted);
            node.serial += 1;
            let request = AdvanceRequest {
                node: NodeId(who as u16),
                serial: node.serial,
                version: node.version,
                claims: node.claims.clone(),
                lease_held: node.lease,
                lease_wanted: wanted,
                ..bench.request(ids(next..next + 3))
            };
            let answer = match fate {
                Fate::Lost => None,
                Fate::Late | Fate::Unanswered | Fate::Heard => Some(bench.ask(&request)),
            };
            if let Some(old) = late[who].take() {
                bench.ask(&old);
            }
            match (fate, answer) {
                (Fate::Heard, Some(answer)) => {
                    let node = &mut nodes[who];
                    node.claims.clear();
                    (node.version, node.lease) = (answer.version, answer.lease);
                }
                (Fate::Late, _) => late[who] = Some(request),
                _ => {}
            }
            let gate = &bench.gate;
            let taken = gate.active.len() + gate.called.len() + gate.leased();
            prop_assert!(taken <= cap, "{taken} places of {cap} are taken");
            prop_assert!(gate.bucket.level >= 0, "level {}", gate.bucket.level);
        }
    }
}
