//! Whatever is asked of a gate, honestly or not, its invariants hold.

use proptest::prelude::*;

use super::*;

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
        // Only these steps look at the clock to fill the bucket, unless it is taken for lost.
        let filled = gate.bucket.filled_at > Micros(0);
        if filled && (!entering || changes.iter().any(claimed)) {
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
                        known: None,
                        event: EventId::new("e").unwrap(),
                        node: NodeId(node),
                        policy: bench.policy,
                        id: id(number),
                        claim: claim.then_some(Turn { id: id(number), until }),
                        free: false,
                        arrival: Micros(0),
                        key: None,
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
                    let lost = request.version > bench.gate.bucket.version;
                    bench.gate.advance(now, &request, &mut changes);
                    if lost {
                        // Nothing is done before the gate is told, and no time paid out.
                        prop_assert!(changes.is_empty());
                        continue;
                    }
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
                    known: None,
                    event: EventId::new("e").unwrap(),
                    node: NodeId(who as u16),
                    policy,
                    id: turn.id,
                    claim: Some(turn),
                    free: false,
                    arrival: Micros(0),
                        key: None,
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
