//! Nodes that go on without the store, each at its share of the rate: one story a test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate::model::{Micros, Outage, Policy, TicketId, home};
use tidegate::room::answer::Phase;

use super::fleet::Fleet;
use super::history::Answer;
use super::ledger::{Deed, Line};
use super::net::{Set, Trouble};
use super::rulings::patched;
use super::visitor::id_of;
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
        outage: Outage::Share,
        ..policy()
    }
}

/// A fleet that has been calling for long enough to be able to share, and the tokens of a long line.
fn busy(policy: Policy) -> (Fleet, Vec<String>) {
    let mut fleet = Fleet::new(NODES, policy);
    let mut tokens = Vec::new();
    for n in 0..1_500 {
        if n % 20 == 0 {
            fleet.pass(SECOND / 1_000);
        }
        tokens.push(fleet.join(n % NODES).token);
    }
    fleet.pass(20 * SECOND);
    (fleet, tokens)
}

/// Turns given in a time, by anybody.
fn given(fleet: &mut Fleet, time: Duration) -> usize {
    let before = fleet.turns();
    fleet.pass(time);
    fleet.turns() - before
}

/// The first ticket that is ready at a node, out of that node's share.
fn ready_at(fleet: &Fleet, node: u16, tokens: &[String]) -> String {
    let ours: BTreeSet<_> = fleet.shared_turns(node).into_iter().collect();
    assert!(!ours.is_empty(), "node {node} gave turns");
    let ready = |token: &&String| {
        ours.contains(&id_of(token)) && fleet.status(node, token).expect("it is known").ready
    };
    tokens
        .iter()
        .find(ready)
        .expect("one of them is ready")
        .clone()
}

/// I2 and I3, over all that was given by whomever.
fn check(fleet: &Fleet) {
    let policy = &fleet.world.setting.policy;
    let (rate, burst) = (policy.rate, f64::from(policy.burst));
    let (mut excess, mut last) = (0.0_f64, START);
    let mut given: BTreeMap<TicketId, Micros> = BTreeMap::new();
    for line in fleet.ledger() {
        excess = (excess - rate * line.at.since(last).as_secs_f64()).max(0.0);
        last = line.at;
        match line.deed {
            Deed::Given { .. } => {
                excess += 1.0;
                let before = given.insert(line.id, line.at);
                let open = before.filter(|before| line.at.since(*before) < policy.ready_ttl);
                assert_eq!(open, None, "{} has a turn at {:?}", line.id, line.at);
            }
            Deed::Ended => {
                excess = (excess - 1.0).max(0.0);
                given.remove(&line.id);
            }
            _ => {}
        }
        let at = line.at.since(START);
        assert!(
            excess <= burst + 1e-3,
            "{excess} turns ahead of the pace at {at:?}"
        );
    }
    one_pass_each(fleet);
}

/// Who was called, turn by turn.
fn called(fleet: &Fleet) -> impl Iterator<Item = TicketId> {
    let given = |line: &Line| matches!(line.deed, Deed::Given { .. });
    fleet.ledger().into_iter().filter(given).map(|line| line.id)
}

/// Whoever was called stands before all who were not.
fn in_order(fleet: &Fleet) {
    let called: BTreeSet<_> = called(fleet).collect();
    let is_called = fleet.line().into_iter().map(|key| called.contains(&key.id));
    assert!(is_called.is_sorted_by(|a, b| a >= b), "front first");
}

fn one_pass_each(fleet: &Fleet) {
    let entries = fleet.entries();
    let once = BTreeSet::from_iter(&entries);
    assert_eq!(once.len(), entries.len(), "somebody went in twice");
}

#[test]
fn with_the_store_away_each_node_lets_in_its_own_at_its_share_and_all_is_told_afterwards() {
    let (mut fleet, tokens) = busy(shared());
    fleet.trouble(Trouble::Cut, Set::ALL);
    // What was on its way when the store went was given.
    assert!(given(&mut fleet, 4 * SECOND) <= 2);
    let called = given(&mut fleet, 21 * SECOND);
    assert!(
        (200..=240).contains(&called),
        "{called} turns in 20 seconds"
    );
    let token = ready_at(&fleet, 1, &tokens);
    let standing = fleet.status(1, &token).unwrap();
    assert!(standing.degraded && standing.position == 0);
    assert_eq!(home::home(home::ticket_key(&id_of(&token)), NODES).0, 1);
    for other in [0, 2] {
        assert_eq!(fleet.enter(other, &token), Err(Answer::Unavailable));
    }
    let pass = fleet.enter(1, &token).unwrap();
    assert_eq!(fleet.enter(1, &token).unwrap(), pass);
    assert_eq!(fleet.status(1, &token).unwrap().phase, Phase::Entered);
    let open = ready_at(&fleet, 2, &tokens);
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.enter(node, &token).unwrap(), pass);
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
    for trouble in [Trouble::Cut, Trouble::Refused, Trouble::OneWay] {
        let (mut fleet, tokens) = busy(shared());
        fleet.trouble(trouble, Set::one(2));
        fleet.pass(7 * SECOND);
        let called = given(&mut fleet, 20 * SECOND);
        assert!(
            (230..=245).contains(&called),
            "{trouble:?}: {called} turns in 20 s"
        );
        let token = ready_at(&fleet, 2, &tokens);
        assert!(!fleet.status(0, &token).unwrap().ready);
        assert_eq!(fleet.enter(0, &token), Err(Answer::Unavailable));
        let pass = fleet.enter(2, &token).unwrap();
        fleet.heal();
        fleet.until_heard();
        let called = given(&mut fleet, 10 * SECOND);
        assert!(
            (110..=135).contains(&called),
            "{trouble:?}: {called} turns in 10 s"
        );
        assert_eq!(fleet.enter(0, &token).unwrap(), pass);
        check(&fleet);
    }
}

/// Nothing is saved up, so a turn too many shows at once.
#[test]
pub fn a_node_that_is_cut_off_waits_until_its_part_is_withheld() {
    let bare = Policy {
        burst: u32::from(NODES),
        ..shared()
    };
    for node in 0..NODES {
        let (mut fleet, _) = busy(bare.clone());
        fleet.trouble(Trouble::Refused, Set::one(node));
        let called = given(&mut fleet, 15 * SECOND);
        assert!(called > 100, "{called} turns in 15 s");
        check(&fleet);
    }
}

#[test]
fn what_a_stopped_store_does_late_breaks_nothing() {
    let (mut fleet, tokens) = busy(shared());
    let stop = |fleet: &mut Fleet| {
        // What it is asked it does many seconds later.
        fleet.trouble(Trouble::Late, Set::ALL);
        fleet.trouble(Trouble::Deaf, Set::ALL);
    };
    stop(&mut fleet);
    fleet.pass(20 * SECOND);
    for node in 0..NODES {
        let token = ready_at(&fleet, node, &tokens);
        fleet.enter(node, &token).unwrap();
    }
    fleet.heal();
    fleet.until_heard();
    fleet.pass(20 * SECOND);
    check(&fleet);
    // Once more, and one node stays behind.
    stop(&mut fleet);
    fleet.pass(20 * SECOND);
    fleet.heal();
    fleet.trouble(Trouble::Cut, Set::one(1));
    fleet.pass(20 * SECOND);
    check(&fleet);
    assert_eq!(fleet.sharing(1), 1);
    fleet.heal();
    fleet.until_heard();
    assert_eq!(fleet.sharing(1), 0);
    fleet.pass(10 * SECOND);
    check(&fleet);
}

#[test]
fn nodes_return_in_any_order() {
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let (mut fleet, tokens) = busy(shared());
        fleet.trouble(Trouble::Cut, Set::ALL);
        fleet.pass(20 * SECOND);
        for node in order {
            let token = ready_at(&fleet, node, &tokens);
            fleet.enter(node, &token).unwrap();
        }
        for node in order {
            fleet.heal_one(node);
            fleet.pass(5 * SECOND);
        }
        fleet.until_heard();
        fleet.pass(5 * SECOND);
        check(&fleet);
        assert_eq!(fleet.entries().len(), 3);
    }
}

#[test]
fn a_dead_nodes_share_is_kept_until_it_is_back_or_cannot_be_sharing_any_more() {
    for back in [true, false] {
        let (mut fleet, _) = busy(shared());
        fleet.crash(1);
        fleet.pass(5 * SECOND);
        let called = given(&mut fleet, 10 * SECOND);
        assert!((75..=85).contains(&called), "{called} turns of two thirds");
        if back {
            fleet.start(1);
            fleet.pass(3 * SECOND);
        } else {
            for _ in 0..330 {
                fleet.pass(SECOND);
                for n in 0..12 {
                    fleet.join(2 * (n % 2));
                }
            }
        }
        let called = given(&mut fleet, 10 * SECOND);
        assert!((115..=135).contains(&called), "{called} turns of all");
        check(&fleet);
    }
}

#[test]
fn who_missed_the_turn_of_a_share_and_is_back_holds_up_nobody() {
    let (mut fleet, tokens) = busy(Policy {
        ready_ttl: 3 * SECOND,
        late_grace: 600 * SECOND,
        ..shared()
    });
    fleet.trouble(Trouble::Cut, Set::ALL);
    fleet.pass(15 * SECOND);
    let missed: BTreeSet<_> = (0..NODES)
        .flat_map(|node| fleet.shared_turns(node))
        .collect();
    assert!(!missed.is_empty());
    fleet.heal();
    fleet.until_heard();
    fleet.pass(5 * SECOND);
    let is_back = |token: &&String| missed.contains(&id_of(token));
    for token in tokens.iter().filter(is_back) {
        assert!(!fleet.status(0, token).unwrap().ready);
    }
    let before = fleet.turns();
    fleet.pass(10 * SECOND);
    let turns: Vec<_> = called(&fleet).collect();
    assert!(turns.len() >= before + 100);
    let again: BTreeSet<_> = turns[before..].iter().copied().collect();
    assert!(missed.is_subset(&again), "who is back is called first");
}

/// A share's turn may lapse at a node that its owner did not ask meanwhile: they never knew of it, and
/// are put before nobody for it.
#[test]
fn who_was_not_told_of_a_turn_of_a_share_keeps_their_own_place() {
    let (mut fleet, tokens) = busy(Policy {
        ready_ttl: 3 * SECOND,
        ..shared()
    });
    fleet.trouble(Trouble::Cut, Set::ALL);
    fleet.pass(15 * SECOND);
    fleet.heal();
    fleet.until_heard();
    let before: BTreeSet<_> = called(&fleet).collect();
    let mut untold = 0;
    for token in &tokens {
        if let Ok(standing) = fleet.status(0, token) {
            let is_back = before.contains(&id_of(token)) && !standing.ready;
            untold += usize::from(is_back && standing.position > 1);
        }
    }
    assert!(
        untold > 20,
        "{untold} of those who were called are in the midst of the line"
    );
    let turns = fleet.turns();
    fleet.pass(20 * SECOND);
    let keys: BTreeMap<_, _> = fleet.line().into_iter().map(|key| (key.id, key)).collect();
    let order: Vec<_> = called(&fleet).skip(turns).map(|id| keys[&id]).collect();
    assert!(
        order.len() > 200 && order.is_sorted(),
        "in the order of joining"
    );
    check(&fleet);
}

#[test]
fn who_cannot_read_the_feeds_holds_up_nobody() {
    let (mut fleet, _) = busy(shared());
    fleet.trouble(Trouble::Deaf, Set::one(1));
    fleet.pass(8 * SECOND);
    let called = given(&mut fleet, 20 * SECOND);
    assert!((235..=245).contains(&called), "{called} turns in 20 s");
    fleet.heal();
    fleet.pass(5 * SECOND);
    in_order(&fleet);
    check(&fleet);
}

#[test]
fn the_tickets_of_a_node_that_starts_anew_are_called_though_nobody_else_waits() {
    let (mut fleet, _) = busy(shared());
    fleet.crash(1);
    fleet.pass(150 * SECOND);
    assert_eq!(given(&mut fleet, 5 * SECOND), 0, "all others were called");
    assert!(fleet.waiting(0) > 200);
    fleet.start(1);
    fleet.pass(SECOND);
    let called = given(&mut fleet, 10 * SECOND);
    assert!((115..=135).contains(&called), "{called} turns of all");
    check(&fleet);
}

#[test]
fn what_was_kept_for_a_node_is_free_as_soon_as_it_is_back_though_nobody_is_called() {
    let (mut fleet, _) = busy(shared());
    fleet.crash(1);
    fleet.rule(0, &patched(r#"{"paused": true}"#));
    fleet.pass(4 * SECOND);
    fleet.start(1);
    fleet.pass(3 * SECOND);
    fleet.rule(0, &patched(r#"{"paused": false}"#));
    assert!(given(&mut fleet, 3 * SECOND) > 20);
    in_order(&fleet);
}

#[test]
fn a_wiped_gate_waits_for_the_nodes_before_it_passes_anybody_over() {
    let (mut fleet, _) = busy(shared());
    fleet.wipe();
    assert!(given(&mut fleet, 5 * SECOND) > 20);
    in_order(&fleet);
    check(&fleet);
}

#[test]
fn a_failover_meanwhile_brings_no_second_call() {
    for lost in [100, 900, 4_000] {
        let (mut fleet, tokens) = busy(shared());
        fleet.trouble(Trouble::Cut, Set::one(2));
        fleet.pass(3 * SECOND);
        fleet.lose(Duration::from_millis(lost));
        fleet.pass(6 * SECOND);
        let token = ready_at(&fleet, 2, &tokens);
        let pass = fleet.enter(2, &token).unwrap();
        fleet.pass(5 * SECOND);
        fleet.heal();
        while fleet.sharing(2) > 0 {
            fleet.pass(SECOND / 100);
        }
        fleet.pass(Duration::from_millis(400));
        // What it told on its return is lost, and told again.
        fleet.lose(Duration::from_millis(600));
        fleet.pass(5 * SECOND);
        for node in 0..NODES {
            assert_eq!(fleet.status(node, &token).unwrap().phase, Phase::Entered);
            let again = fleet.enter(node, &token);
            assert!(again.is_err() || again.unwrap() == pass);
        }
        one_pass_each(&fleet);
    }
}

/// Who leaves at a node that is cut off and joins anew is still in line elsewhere, where the gate calls.
#[test]
fn who_leaves_and_joins_anew_meanwhile_is_not_called_by_both() {
    let mut fleet = Fleet::new(NODES, shared());
    let mut joined = Vec::new();
    for n in 0..800 {
        if n % 20 == 0 {
            fleet.pass(SECOND / 1_000);
        }
        let key = format!("key {n}");
        let token = fleet.join_with(n % NODES, &key).token;
        joined.push((key, token));
    }
    fleet.pass(20 * SECOND);
    fleet.trouble(Trouble::Cut, Set::one(0));
    joined.retain(|(_, token)| {
        let home = home::home(home::ticket_key(&id_of(token)), NODES);
        home.0 == 0 && !fleet.status(0, token).unwrap().ready
    });
    for (_, token) in &joined {
        fleet.leave(0, token);
    }
    let (key, token) = &joined[0];
    let anew = fleet.join_with(0, key).token;
    fleet.pass(12 * SECOND);
    let passes = [fleet.enter(0, &anew), fleet.enter(1, token)];
    assert_eq!(passes.iter().flatten().count(), 1, "{passes:?}");
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    one_pass_each(&fleet);
}

#[test]
fn a_wiped_gate_gives_nothing_of_a_node_that_may_be_going_by_itself() {
    let (mut fleet, tokens) = busy(shared());
    fleet.trouble(Trouble::Cut, Set::one(0));
    fleet.pass(10 * SECOND);
    fleet.wipe();
    fleet.notice();
    let called = given(&mut fleet, 10 * SECOND);
    assert!(
        (105..=125).contains(&called),
        "{called} turns in 10 seconds"
    );
    let token = ready_at(&fleet, 0, &tokens);
    fleet.enter(0, &token).unwrap();
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    assert_eq!(fleet.status(2, &token).unwrap().phase, Phase::Entered);
    one_pass_each(&fleet);
}

#[test]
fn who_joins_meanwhile_is_let_in_too_and_ends_with_the_limit() {
    let (mut fleet, _) = busy(shared());
    fleet.pass(120 * SECOND);
    fleet.trouble(Trouble::Cut, Set::ALL);
    // What joins with a key earlier than that may be a repeated join of who was handed to the gate.
    fleet.pass(65 * SECOND);
    let joined: Vec<_> = (0..30).map(|n| fleet.join(n % 3).token).collect();
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
    fleet.pass(225 * SECOND);
    assert_eq!(fleet.sharing(0), 0);
    let late = fleet.join(0).token;
    assert_eq!(given(&mut fleet, 10 * SECOND), 0);
    fleet.heal();
    fleet.until_heard();
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
        fleet.crash(2);
        fleet.trouble(Trouble::Cut, Set::ALL);
        fleet.pass(SECOND / 10);
        assert_eq!(given(&mut fleet, 30 * SECOND), 0);
        fleet.heal();
        fleet.until_heard();
        // What operators ruled meanwhile is looked for before anybody is called.
        fleet.pass(2 * SECOND);
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
    let mut fleet = Fleet::new(NODES, shared());
    for n in 0..600 {
        fleet.join(n % NODES);
    }
    fleet.pass(8 * SECOND);
    fleet.trouble(Trouble::Cut, Set::ALL);
    fleet.pass(SECOND / 10);
    assert_eq!(given(&mut fleet, 30 * SECOND), 0);
    check(&fleet);
}
