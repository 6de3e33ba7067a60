//! Nodes that go on without the store, each at its share of the rate: one story a test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::model::{Micros, Outage, Policy, TicketId, home};
use tidegate::room::answer::{EnterRefusal, Phase};

use super::nodes::{Fleet, sale};
use crate::room::house::{START, policy};

const SECOND: Duration = Duration::from_secs(1);
/// Nodes in these stories, and turns a second of one of them when it goes on by itself.
const NODES: u16 = 3;
const EACH: u64 = 4;

fn shared() -> Policy {
    Policy {
        rate: (EACH * u64::from(NODES)) as f64,
        burst: 12,
        ready_ttl: 600 * SECOND,
        heartbeat_ttl: 600 * SECOND,
        pass_ttl: 120 * SECOND,
        ..policy()
    }
}

/// A fleet that has been calling for long enough to be able to share, and the tokens of a long line.
fn busy(policy: Policy) -> (Fleet, Vec<String>) {
    let mut fleet = Fleet::new(NODES, policy, 1);
    let mut tokens = Vec::new();
    for n in 0..1_500 {
        fleet.now = Micros(fleet.now.0 + 50);
        tokens.push(fleet.join(n % NODES, "sale").token);
    }
    fleet.pass(20 * SECOND);
    (fleet, tokens)
}

fn cut(fleet: &mut Fleet, nodes: impl IntoIterator<Item = u16>, cut: bool) {
    for node in nodes {
        fleet.node_mut(node).cut = cut;
    }
}

/// Turns given in a time, by anybody.
fn given(fleet: &mut Fleet, time: Duration) -> usize {
    let before = fleet.store.turns.len();
    fleet.pass(time);
    let turns = fleet.store.turns[before..].iter();
    turns.filter(|turn| turn.3).count()
}

/// The first ticket that is ready at a node, out of that node's share.
fn ready_at(fleet: &Fleet, node: u16, tokens: &[String]) -> String {
    let ours: BTreeSet<_> = fleet
        .node(node)
        .room
        .shared_turns(&sale())
        .into_iter()
        .map(|turn| turn.id)
        .collect();
    assert!(!ours.is_empty(), "node {node} gave turns");
    let token = tokens.iter().find(|token| {
        let id = fleet.id_of(token);
        ours.contains(&id) && fleet.status(node, token).unwrap().ready
    });
    token.expect("one of them is ready").clone()
}

/// I2 and I3, over all that was given by whomever.
fn check(fleet: &Fleet) {
    let (rate, burst) = (fleet.policy.rate, f64::from(fleet.policy.burst));
    let (mut excess, mut last) = (0.0_f64, START);
    let mut given: BTreeMap<TicketId, Micros> = BTreeMap::new();
    for (at, _, id, is_given) in &fleet.store.turns {
        excess = (excess - rate * at.since(last).as_secs_f64()).max(0.0);
        last = *at;
        if *is_given {
            excess += 1.0;
            let before = given.insert(*id, *at);
            let open = before.filter(|before| at.since(*before) < fleet.policy.ready_ttl);
            assert!(open.is_none(), "{id} was called at {open:?} and {at:?}");
        } else {
            excess = (excess - 1.0).max(0.0);
            given.remove(id);
        }
        assert!(
            excess <= burst + 1e-3,
            "{excess} turns ahead of the pace at {:?}",
            at.since(START)
        );
    }
    let twice = fleet.granted.iter().find(|(_, times)| times.len() > 1);
    assert_eq!(twice, None, "two passes");
}

#[test]
fn with_the_store_away_each_node_lets_in_its_own_at_its_share_and_all_is_told_afterwards() {
    let (mut fleet, tokens) = busy(shared());
    cut(&mut fleet, 0..NODES, true);
    assert_eq!(given(&mut fleet, 4 * SECOND), 0);
    let called = given(&mut fleet, 21 * SECOND);
    assert!(
        (200..=240).contains(&called),
        "{called} turns in 20 seconds"
    );
    let token = ready_at(&fleet, 1, &tokens);
    let standing = fleet.status(1, &token).unwrap();
    assert!(standing.degraded && standing.position == 0);
    assert_eq!(
        home::home(home::ticket_key(&fleet.id_of(&token)), NODES).0,
        1
    );
    for other in [0, 2] {
        let refused = fleet.enter(other, &token);
        assert!(matches!(refused, Err(EnterRefusal::Unavailable { .. })));
    }
    let pass = fleet.enter(1, &token).unwrap().pass;
    assert_eq!(fleet.enter(1, &token).unwrap().pass, pass);
    assert_eq!(fleet.status(1, &token).unwrap().phase, Phase::Entered);
    let open = ready_at(&fleet, 2, &tokens);
    cut(&mut fleet, 0..NODES, false);
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.enter(node, &token).unwrap().pass, pass);
        assert_eq!(fleet.status(node, &token).unwrap().phase, Phase::Entered);
        assert!(fleet.status(node, &open).unwrap().ready);
    }
    fleet.enter(0, &open).unwrap();
    let called = given(&mut fleet, 10 * SECOND);
    assert!(
        (115..=125).contains(&called),
        "{called} turns in 10 seconds"
    );
    check(&fleet);
}

#[test]
fn one_node_that_is_cut_off_and_the_others_keep_the_pace_together() {
    for (way, deaf) in [("both ways", false), ("one way", true)] {
        let (mut fleet, tokens) = busy(shared());
        fleet.node_mut(2).cut = !deaf;
        fleet.node_mut(2).deaf = deaf;
        fleet.pass(6 * SECOND);
        let called = given(&mut fleet, 20 * SECOND);
        assert!(
            (230..=245).contains(&called),
            "{way}: {called} turns in 20 s"
        );
        let token = ready_at(&fleet, 2, &tokens);
        assert!(!fleet.status(0, &token).unwrap().ready);
        let refused = fleet.enter(0, &token);
        assert!(matches!(refused, Err(EnterRefusal::Unavailable { .. })));
        let pass = fleet.enter(2, &token).unwrap().pass;
        fleet.node_mut(2).cut = false;
        fleet.node_mut(2).deaf = false;
        let called = given(&mut fleet, 10 * SECOND);
        assert!(
            (110..=135).contains(&called),
            "{way}: {called} turns in 10 s"
        );
        assert_eq!(fleet.enter(0, &token).unwrap().pass, pass);
        check(&fleet);
    }
}

#[test]
fn what_a_stopped_store_does_late_breaks_nothing() {
    let (mut fleet, tokens) = busy(shared());
    fleet.stopped = true;
    fleet.pass(20 * SECOND);
    for node in 0..NODES {
        let token = ready_at(&fleet, node, &tokens);
        fleet.enter(node, &token).unwrap();
    }
    fleet.stopped = false;
    fleet.pass(10 * SECOND);
    check(&fleet);
    // Once more, and one node stays behind.
    fleet.stopped = true;
    fleet.pass(20 * SECOND);
    fleet.node_mut(1).cut = true;
    fleet.stopped = false;
    fleet.pass(10 * SECOND);
    check(&fleet);
    assert_eq!(fleet.node(1).room.sharing(), 1);
    fleet.node_mut(1).cut = false;
    fleet.pass(10 * SECOND);
    assert_eq!(fleet.node(1).room.sharing(), 0);
    check(&fleet);
}

#[test]
fn nodes_return_in_any_order() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let (mut fleet, tokens) = busy(shared());
        cut(&mut fleet, 0..NODES, true);
        fleet.pass(20 * SECOND);
        for node in order {
            let token = ready_at(&fleet, node, &tokens);
            fleet.enter(node, &token).unwrap();
        }
        for node in order {
            fleet.node_mut(node).cut = false;
            fleet.pass(3 * SECOND);
        }
        fleet.pass(5 * SECOND);
        check(&fleet);
        assert_eq!(fleet.granted.len(), 3);
    }
}

#[test]
fn a_dead_nodes_share_is_kept_until_it_is_back_or_cannot_be_sharing_any_more() {
    for back in [true, false] {
        let (mut fleet, _) = busy(shared());
        fleet.nodes[1] = None;
        fleet.pass(5 * SECOND);
        let called = given(&mut fleet, 10 * SECOND);
        assert!((75..=85).contains(&called), "{called} turns of two thirds");
        if back {
            fleet.start(1, 0);
            fleet.pass(3 * SECOND);
        } else {
            for _ in 0..330 {
                fleet.pass(SECOND);
                for n in 0..12 {
                    fleet.join(2 * (n % 2), "sale");
                }
            }
        }
        let called = given(&mut fleet, 10 * SECOND);
        assert!((115..=135).contains(&called), "{called} turns of all");
        check(&fleet);
    }
}

#[test]
fn a_failover_meanwhile_brings_no_second_call() {
    for lost in [100_000, 900_000, 4_000_000] {
        let (mut fleet, tokens) = busy(shared());
        fleet.node_mut(2).cut = true;
        fleet.pass(3 * SECOND);
        fleet.store.lose_after(Micros(fleet.now.0 - lost));
        fleet.pass(5 * SECOND);
        let token = ready_at(&fleet, 2, &tokens);
        let pass = fleet.enter(2, &token).unwrap().pass;
        fleet.pass(5 * SECOND);
        fleet.node_mut(2).cut = false;
        fleet.pass(Duration::from_millis(400));
        // What it told on its return is lost, and told again.
        fleet.store.lose_after(Micros(fleet.now.0 - 600_000));
        fleet.pass(5 * SECOND);
        for node in 0..NODES {
            assert_eq!(fleet.status(node, &token).unwrap().phase, Phase::Entered);
            let again = fleet.enter(node, &token);
            assert!(again.is_err() || again.unwrap().pass == pass);
        }
        let twice = fleet.granted.iter().find(|(_, times)| times.len() > 1);
        assert_eq!(twice, None, "two passes");
    }
}

#[test]
fn a_wiped_gate_gives_nothing_of_a_node_that_may_be_going_by_itself() {
    let (mut fleet, tokens) = busy(shared());
    fleet.node_mut(0).cut = true;
    fleet.pass(10 * SECOND);
    fleet.store.wipe();
    let called = given(&mut fleet, 10 * SECOND);
    assert!(
        (105..=125).contains(&called),
        "{called} turns in 10 seconds"
    );
    let token = ready_at(&fleet, 0, &tokens);
    fleet.enter(0, &token).unwrap();
    fleet.node_mut(0).cut = false;
    fleet.pass(5 * SECOND);
    assert_eq!(fleet.status(2, &token).unwrap().phase, Phase::Entered);
    let twice = fleet.granted.iter().find(|(_, times)| times.len() > 1);
    assert_eq!(twice, None, "two passes");
}

#[test]
fn who_joins_meanwhile_is_let_in_too_and_ends_with_the_limit() {
    let (mut fleet, _) = busy(shared());
    fleet.pass(120 * SECOND);
    cut(&mut fleet, 0..NODES, true);
    fleet.pass(10 * SECOND);
    let joined: Vec<_> = (0..30).map(|n| fleet.join(n % 3, "sale").token).collect();
    let mut entered = 0;
    for second in 0..20 {
        fleet.pass(SECOND);
        for (n, token) in (0..).zip(&joined) {
            let node = (n + second) % NODES;
            if fleet.status(node, token).unwrap().ready {
                entered += u32::from(fleet.enter(node, token).is_ok());
            }
        }
    }
    assert_eq!(entered, 30);
    fleet.pass(280 * SECOND);
    assert_eq!(fleet.node(0).room.sharing(), 0);
    let late = fleet.join(0, "sale").token;
    assert_eq!(given(&mut fleet, 10 * SECOND), 0);
    cut(&mut fleet, 0..NODES, false);
    fleet.pass(5 * SECOND);
    fleet.enter(1, &late).unwrap();
    check(&fleet);
}

#[test]
fn what_cannot_be_shared_is_held() {
    let held = [
        Policy {
            outage: Outage::Hold,
            ..shared()
        },
        Policy {
            max_active: 10_000,
            ..shared()
        },
        Policy {
            burst: u32::from(NODES) - 1,
            ..shared()
        },
    ];
    for policy in held {
        let (mut fleet, _) = busy(policy);
        fleet.nodes[2] = None;
        cut(&mut fleet, 0..2, true);
        assert_eq!(given(&mut fleet, 30 * SECOND), 0);
        cut(&mut fleet, 0..2, false);
        fleet.pass(SECOND);
        let called = given(&mut fleet, 10 * SECOND);
        assert!(
            (115..=125).contains(&called),
            "{called}: nothing is withheld"
        );
        check(&fleet);
    }
}

#[test]
fn who_has_just_begun_does_not_go_on_by_itself() {
    let mut fleet = Fleet::new(NODES, shared(), 1);
    for n in 0..600 {
        fleet.join(n % NODES, "sale");
    }
    fleet.pass(8 * SECOND);
    cut(&mut fleet, 0..NODES, true);
    assert_eq!(given(&mut fleet, 30 * SECOND), 0);
    check(&fleet);
}
