use super::*;
use crate::model::gate::{Presence, SettleRequest};

mod properties;
mod shares;

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
        nodes: 0,
        share_limit: 0,
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
            homes: vec![],
            presence: Presence::Quiet,
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

    fn nothing_to_tell(&self) -> SettleRequest {
        SettleRequest {
            event: EventId::new("e").unwrap(),
            node: NodeId(0),
            policy: self.policy,
            version: self.gate.bucket.version,
            called: vec![],
            entered: vec![],
            shared: false,
        }
    }

    fn enter(&mut self, id: TicketId, claim: Option<Turn>) -> Entry {
        let request = EnterRequest {
            known: None,
            event: EventId::new("e").unwrap(),
            node: NodeId(0),
            policy: self.policy,
            id,
            claim,
            free: false,
            arrival: Micros(0),
            key: None,
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
        bench.gate.refill(Micros(bench.now), &slow, true);
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
    assert_eq!(answer.missed.len(), 1);
    assert_eq!(answer.missed[0].id, id(0));
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
    assert_eq!((answer.lease, answer.level), (1, 3 * TURN));
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
    assert_eq!((answer.lease, answer.level), (0, -TURN));
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
        (vec![claim], 0, 4 * TURN)
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
fn entering_again_answers_the_same_moment() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..1));
    assert!(matches!(bench.enter(id(0), None), Entry::Granted { .. }));
    let first = Micros(START);
    for later in [SECOND, 40 * SECOND] {
        bench.now += later;
        let again = bench.enter(id(0), None);
        assert!(matches!(again, Entry::Again { at, .. } if at == first));
    }
    let request = bench.request(ids(0..1));
    let answer = bench.ask(&request);
    assert_eq!(
        (answer.entered, answer.called),
        (vec![(id(0), first)], vec![])
    );
}

#[test]
fn who_is_free_to_pass_is_not_kept_by_a_lapsed_turn() {
    let mut bench = Bench::new(policy());
    bench.call(ids(0..1));
    bench.now += 60 * SECOND;
    let request = EnterRequest {
        known: None,
        event: EventId::new("e").unwrap(),
        node: NodeId(0),
        policy: bench.policy,
        id: id(0),
        claim: None,
        free: true,
        arrival: Micros(0),
        key: None,
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
    // The turn could have been used for eleven seconds.
    bench.now += 31 * SECOND - 1;
    assert_eq!(bench.call(ids(1..2)), vec![]);
    bench.now += 1;
    assert_eq!(bench.call(ids(1..2)), ids(1..2));
}

/// A gate that fell back to when it had given its burst, and turns given since that only a node knows.
fn fallen_back(bench: &mut Bench, passed: u64, given: &[(u128, u64)]) {
    assert_eq!(bench.call(ids(0..4)), ids(0..4));
    bench.now += passed;
    bench.gate.fall_back();
    let until = |at: u64| Micros(START + at + bench.policy.ready_ttl);
    let called = given.iter().map(|&(number, at)| Turn {
        id: id(number),
        until: until(at),
    });
    let told = SettleRequest {
        version: bench.gate.bucket.version + 9,
        called: called.collect(),
        ..bench.nothing_to_tell()
    };
    let mut early = bench.request(ids(20..30));
    early.version = told.version;
    let answer = bench.ask(&early);
    let open = answer
        .called
        .iter()
        .all(|turn| ids(0..4).contains(&turn.id));
    assert!(answer.stale && open, "told first");
    assert!(answer.version >= told.version, "another life");
    for _ in 0..2 {
        bench
            .gate
            .settle(Micros(bench.now), &told, &mut bench.changes);
    }
}

#[test]
fn a_gate_that_was_taken_over_begins_empty_whoever_asks_first() {
    let mut bench = Bench::new(policy());
    assert_eq!(bench.call(ids(0..1)), ids(0..1));
    bench.now += 100 * SECOND;
    bench.gate.fall_back();
    assert_eq!(bench.call(ids(1..9)), vec![], "nobody knows what was given");
    bench.now += SECOND;
    assert_eq!(bench.call(ids(1..9)), ids(1..3));
    bench.now += 100 * SECOND;
    assert_eq!(bench.call(ids(3..9)), ids(3..7), "a new burst");
}

#[test]
fn what_was_given_before_a_gate_was_taken_over_is_not_paid_again_and_comes_back_to_no_bucket() {
    let mut bench = Bench::new(policy());
    let half = SECOND / 2;
    fallen_back(&mut bench, half, &[(10, 0), (11, half)]);
    assert_eq!(bench.gate.bucket.level, 0);
    let mut request = bench.request(vec![]);
    request.given_back = [ids(0..2), ids(10..11)].concat();
    bench.ask(&request);
    assert_eq!(bench.gate.bucket.level, 0);
    bench.now += bench.policy.ready_ttl + SECOND;
    bench.policy.rate = 0.0;
    bench.gate.bucket.rate = 0.0;
    assert_eq!(bench.call(ids(20..30)), vec![], "nor when it lapses");
}

#[test]
fn a_lease_of_before_a_gate_was_taken_over_gives_nothing_back() {
    let mut bench = Bench::new(policy());
    let mut request = bench.request(vec![]);
    request.lease_wanted = 2;
    assert_eq!(bench.ask(&request).lease, 2);
    bench.gate.fall_back();
    let answer = bench.call(ids(0..4));
    assert_eq!((answer, bench.gate.bucket.level), (vec![], 0));
}

#[test]
fn a_turn_that_is_news_though_it_was_given_since_is_paid_for_below_zero_if_it_must() {
    let mut bench = Bench::new(policy());
    fallen_back(&mut bench, SECOND / 2, &[(10, SECOND), (11, SECOND)]);
    assert_eq!(bench.gate.bucket.level, -2 * TURN);
}

#[test]
fn a_gate_that_took_itself_for_new_is_emptied_when_it_is_told_of_what_was_before() {
    let mut bench = Bench::new(policy());
    let until = Micros(START + 5 * SECOND);
    assert_eq!(bench.call(ids(0..1)), ids(0..1));
    let turn = Turn { id: id(10), until };
    let told = SettleRequest {
        called: vec![turn],
        ..bench.nothing_to_tell()
    };
    let now = Micros(bench.now);
    bench.gate.settle(now, &told, &mut bench.changes);
    assert_eq!(bench.gate.bucket.level, 0);
}

#[test]
fn a_turn_that_nobody_can_have_given_is_not_claimed() {
    let mut bench = Bench::new(policy());
    bench.call(vec![]);
    let until = Micros(bench.now + bench.policy.ready_ttl + 2 * SECOND);
    let turn = Turn { id: id(1), until };
    assert_eq!(bench.enter(id(1), Some(turn)), Entry::Missed);
}

#[test]
fn a_turn_that_was_given_back_is_not_claimed_once_more() {
    let mut bench = Bench::new(policy());
    let mut leased = bench.request(vec![]);
    leased.lease_wanted = 1;
    bench.ask(&leased);
    let until = Micros(bench.now + bench.policy.ready_ttl);
    let turn = Turn { id: id(1), until };
    let mut claiming = bench.request(vec![]);
    claiming.claims = vec![turn];
    bench.ask(&claiming);
    let mut back = bench.request(vec![]);
    back.given_back = ids(1..2);
    bench.ask(&back);
    let level = bench.gate.bucket.level;
    // Sent before, and on its way for long.
    assert_eq!(bench.ask(&claiming).open_turns, 0);
    let read_elsewhere = Turn {
        until: Micros(until.0 + 5_000),
        ..turn
    };
    assert_eq!(bench.enter(id(1), Some(read_elsewhere)), Entry::Missed);
    assert_eq!(bench.gate.bucket.level, level);
    // Who joins again under the same name may have another.
    let anew = Turn {
        until: Micros(until.0 + SECOND),
        ..turn
    };
    assert!(matches!(
        bench.enter(id(1), Some(anew)),
        Entry::Granted { .. }
    ));
}

#[test]
fn a_turn_that_is_over_when_it_is_told_is_not_open_again() {
    let mut bench = Bench::new(policy());
    let ttl = bench.policy.ready_ttl;
    fallen_back(&mut bench, ttl, &[(10, 0)]);
    assert!(!bench.gate.called.by_id.contains_key(&id(10)));
    assert!(bench.gate.missed.by_id.contains_key(&id(10)));
}
