//! Nobody twice and nobody lost, where it once went wrong: one story a test.

use std::time::Duration;

use tidegate::model::{Outage, Policy};
use tidegate::room::answer::{Phase, TokenRefusal};

use super::fleet::Fleet;
use super::history::Answer;
use super::net::{Set, Trouble};
use super::stories::still;
use super::visitor::id_of;
use super::world::Setting;
use crate::room::house::policy;

const SECOND: Duration = Duration::from_secs(1);
const NODES: u16 = 3;

/// A fleet whose node 1 goes on by itself, and a ticket that it called. Its own words arrive, and no
/// answer to them.
fn with_a_share() -> (Fleet, Vec<String>) {
    let policy = Policy {
        rate: 12.0,
        burst: 12,
        ready_ttl: 600 * SECOND,
        heartbeat_ttl: 600 * SECOND,
        outage: Outage::Share,
        ..policy()
    };
    let mut fleet = Fleet::new(NODES, policy);
    let tokens = (0..900).map(|n| {
        fleet.pass(SECOND / 1_000);
        fleet.join_with(n % NODES, &n.to_string()).token
    });
    let tokens = tokens.collect();
    fleet.pass(20 * SECOND);
    fleet.trouble(Trouble::OneWay, Set::one(1));
    (fleet, tokens)
}

fn called_by_one(fleet: &Fleet, tokens: &[String]) -> (usize, String) {
    let ours = fleet.shared_turns(1);
    let mut all = tokens.iter().enumerate();
    let found = all.find(|(_, token)| ours.contains(&id_of(token)));
    let (n, token) = found.expect("it called somebody");
    (n, token.clone())
}

#[test]
fn a_gate_is_told_of_no_turn_by_a_node_that_still_lets_in_by_it() {
    let (mut fleet, tokens) = with_a_share();
    fleet.pass(9 * SECOND);
    fleet.lose(SECOND / 10);
    fleet.pass(9 * SECOND);
    let (_, token) = called_by_one(&fleet, &tokens);
    for other in [0, 2] {
        assert_eq!(fleet.enter(other, &token), Err(Answer::Unavailable));
    }
    let pass = fleet.enter(1, &token).unwrap();
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.enter(node, &token).unwrap(), pass);
    }
}

#[test]
fn a_join_that_is_repeated_at_a_node_by_itself_shows_no_turn_to_others() {
    let (mut fleet, tokens) = with_a_share();
    fleet.pass(9 * SECOND);
    let (n, _) = called_by_one(&fleet, &tokens);
    let again = fleet.join_with(1, &n.to_string()).token;
    assert!(fleet.status(1, &again).unwrap().ready);
    assert!(!fleet.status(0, &again).unwrap().ready);
    assert_eq!(fleet.enter(0, &again), Err(Answer::Unavailable));
    fleet.enter(1, &again).unwrap();
}

#[test]
fn who_entered_has_entered_though_a_node_that_had_not_heard_gave_a_new_place() {
    let mut fleet = Fleet::new(NODES, policy());
    let token = fleet.join_with(0, "key").token;
    fleet.pass(SECOND / 10);
    fleet.trouble(Trouble::Cut, Set::one(1));
    fleet.pass(SECOND);
    fleet.enter(0, &token).unwrap();
    fleet.leave(1, &token);
    fleet.pass(SECOND);
    let anew = fleet.join_with(1, "key").token;
    assert_ne!(anew, token);
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.status(node, &anew).unwrap().phase, Phase::Entered);
    }
    fleet.start(2);
    assert_eq!(fleet.status(2, &anew).unwrap().phase, Phase::Entered);
    assert!(fleet.line().is_empty());
    assert_eq!(fleet.entries().len(), 1);
}

/// A store forgets that somebody entered, with or without the turn, and the node that knows is cut off.
#[test]
fn who_is_let_in_again_by_the_same_turn_gets_the_same_pass() {
    for back in [SECOND / 100, 3 * SECOND] {
        let mut fleet = Fleet::with(Setting {
            nodes: NODES,
            partitions: 4,
            policy: policy(),
            latency: 0,
            journal: 100_000,
            clocks: vec![(0, 0), (150_000, 0), (-180_000, 0)],
            seed: 1,
        });
        fleet.pass(5 * SECOND);
        let token = fleet.join(1).token;
        fleet.pass(2 * SECOND);
        let pass = fleet.enter(0, &token).unwrap();
        fleet.trouble(Trouble::Cut, Set::one(0));
        fleet.lose(back);
        fleet.pass(SECOND);
        assert_eq!(fleet.enter(2, &token).unwrap(), pass);
        fleet.heal();
        fleet.until_heard();
        fleet.pass(SECOND);
        for node in 0..NODES {
            assert_eq!(fleet.enter(node, &token).unwrap(), pass);
        }
    }
}

#[test]
fn a_node_that_has_just_started_takes_nobody_for_gone_before_it_heard_all() {
    let mut fleet = Fleet::new(NODES, still());
    let token = fleet.join(1).token;
    fleet.pass(3 * SECOND);
    fleet.trouble(Trouble::Cut, Set::one(0));
    fleet.start(1);
    fleet.leave_softly(1, &token);
    fleet.pass(SECOND);
    fleet.status(0, &token).unwrap();
    for _ in 0..8 {
        fleet.pass(SECOND);
        let at_two = fleet.status(2, &token);
        assert!(!matches!(at_two, Err(TokenRefusal::Gone(_))));
    }
}

/// A store is wiped, and the only node that knows of an entry does not hear it yet. The others tell the
/// gate what they know before they ask it, so that no answer is news to them.
#[test]
fn nobody_is_called_by_a_wiped_gate_before_all_have_told_who_entered() {
    let hasty = Policy {
        ready_ttl: SECOND,
        pass_ttl: 60 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(NODES, hasty);
    // It was just looked at whether the store is still the same.
    fleet.pass(5 * SECOND);
    let token = fleet.join(0).token;
    fleet.pass(SECOND / 2);
    fleet.trouble(Trouble::Cut, Set(0b110));
    let pass = fleet.enter(0, &token).unwrap();
    fleet.wipe();
    fleet.heal();
    fleet.trouble(Trouble::Cut, Set::one(0));
    fleet.notice();
    // The turn lapses unused, as far as the others know.
    fleet.pass(5 * SECOND / 2);
    fleet.heal();
    for _ in 0..24 {
        fleet.pass(SECOND / 2);
        for node in 1..NODES {
            if let Ok(again) = fleet.enter(node, &token) {
                assert_eq!(again, pass, "it was called anew");
            }
        }
    }
    fleet.until_heard();
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.enter(node, &token).unwrap(), pass);
    }
}

/// A failover forgets an entry, and the only node that knows of it does not hear the store yet.
#[test]
fn nobody_is_called_anew_after_a_failover_before_all_have_told_who_entered() {
    let hasty = Policy {
        ready_ttl: SECOND,
        pass_ttl: 60 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(NODES, hasty);
    fleet.pass(5 * SECOND);
    let token = fleet.join(0).token;
    fleet.pass(SECOND / 2);
    fleet.trouble(Trouble::Cut, Set(0b110));
    fleet.pass(SECOND / 10);
    let pass = fleet.enter(0, &token).unwrap();
    fleet.lose(SECOND / 20);
    fleet.heal();
    fleet.trouble(Trouble::Cut, Set::one(0));
    fleet.pass(5 * SECOND / 2);
    fleet.heal();
    for _ in 0..24 {
        fleet.pass(SECOND / 2);
        for node in 1..NODES {
            if let Ok(again) = fleet.enter(node, &token) {
                assert_eq!(again, pass, "it was called anew");
            }
        }
    }
    fleet.until_heard();
    fleet.pass(SECOND);
    for node in 0..NODES {
        assert_eq!(fleet.enter(node, &token).unwrap(), pass);
    }
}
