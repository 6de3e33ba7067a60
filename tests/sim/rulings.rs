//! What operators rule at one node, all nodes go by.

use std::time::Duration;

use tidegate::model::{Change, Order, Policy};
use tidegate::room::answer::TokenRefusal;

use super::fleet::Fleet;
use super::net::{Set, Trouble};
use crate::room::house::policy;

const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
/// A node looks every second, and takes a step to hear.
const SPREAD: Duration = Duration::from_millis(1100);

fn still() -> Policy {
    Policy {
        paused: true,
        ..policy()
    }
}

pub fn patched(patch: &str) -> Change {
    Change::Policy {
        patch: Some(patch.to_owned()),
        over: None,
    }
}

/// The rates that the nodes which are up go by.
fn rates(fleet: &Fleet) -> Vec<f64> {
    let up = fleet.world.up();
    up.iter()
        .map(|live| fleet.policy(live.number).rate)
        .collect()
}

#[test]
fn a_change_at_one_node_holds_at_all_within_a_second() {
    let mut fleet = Fleet::new(3, still());
    fleet.join(0);
    fleet.pass(3 * SECOND);
    fleet.rule(1, &patched(r#"{"rate": 7}"#));
    fleet.pass(SPREAD);
    assert_eq!(rates(&fleet), [7.0; 3]);
    let none = Change::Policy {
        patch: None,
        over: None,
    };
    fleet.rule(2, &none);
    fleet.pass(SPREAD);
    assert_eq!(rates(&fleet), [policy().rate; 3]);
}

#[test]
fn of_two_changes_at_once_the_stores_last_one_wins_everywhere() {
    let mut fleet = Fleet::new(3, still());
    fleet.crash(1);
    fleet.world.jump(1, 900_000);
    fleet.start(1);
    fleet.join(0);
    fleet.pass(3 * SECOND);
    // The first one's clock is ahead.
    fleet.rule(1, &patched(r#"{"rate": 1}"#));
    fleet.rule(0, &patched(r#"{"rate": 2}"#));
    fleet.pass(SPREAD);
    assert_eq!(rates(&fleet), [2.0; 3]);
}

#[test]
fn a_node_that_was_away_goes_by_what_was_ruled_meanwhile() {
    let mut fleet = Fleet::new(3, still());
    fleet.join(0);
    fleet.pass(3 * SECOND);
    fleet.trouble(Trouble::Cut, Set::one(1));
    fleet.crash(2);
    fleet.pass(20 * SECOND);
    fleet.rule(0, &patched(r#"{"rate": 7}"#));
    fleet.pass(60 * SECOND);
    assert_eq!(rates(&fleet), [7.0, policy().rate]);
    fleet.heal();
    fleet.start(2);
    assert_eq!(fleet.policy(2).rate, 7.0);
    fleet.until_heard();
    fleet.pass(SPREAD);
    assert_eq!(rates(&fleet), [7.0; 3]);
}

#[test]
fn a_pause_outlives_a_store_that_loses_it() {
    for wipe in [false, true] {
        let mut fleet = Fleet::new(3, policy());
        fleet.join(0);
        fleet.pass(3 * SECOND);
        fleet.rule(0, &patched(r#"{"paused": true}"#));
        fleet.pass(SPREAD);
        if wipe {
            fleet.wipe();
        } else {
            fleet.lose(2 * SPREAD);
        }
        assert!(fleet.store(|store| store.rulings(0).is_none_or(|r| r.events.is_empty())));
        fleet.pass(SPREAD);
        assert!(fleet.store(|store| store.rulings(0).is_some_and(|r| r.events.len() == 1)));
        fleet.crash(1);
        fleet.start(1);
        let mut up = fleet.world.up().into_iter();
        let paused = up.all(|live| fleet.policy(live.number).paused);
        assert!(paused, "wiped: {wipe}");
    }
}

#[test]
fn nobody_is_called_by_a_node_that_cannot_hear_of_a_pause() {
    let mut fleet = Fleet::new(2, policy());
    fleet.trouble(Trouble::Blind, Set::ALL);
    fleet.pass(15 * SECOND);
    let token = fleet.join(0).token;
    fleet.pass(10 * SECOND);
    assert!(!fleet.status(0, &token).unwrap().ready);
    fleet.heal();
    fleet.trouble(Trouble::Blind, Set::one(0));
    let called = (0..100).any(|_| {
        fleet.pass(SECOND / 10);
        fleet.status(0, &token).unwrap().ready
    });
    assert!(called, "by the other one");
}

#[test]
fn a_forgotten_event_is_gone_at_all_nodes_and_in_the_store() {
    let mut fleet = Fleet::new(3, policy());
    let tokens: Vec<_> = (0..300)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3).token
        })
        .collect();
    fleet.pass(SECOND);
    // One that nobody has heard of yet, in a lane of its node.
    let last = fleet.join(1).token;
    // Later, if by less than it takes to hear of it.
    fleet.pass(STEP / 2);
    assert!(fleet.forget(0) > 0);
    fleet.pass(3 * SECOND);
    for token in tokens.iter().chain([&last]) {
        for number in 0..3 {
            let refused = fleet.status(number, token).map(drop);
            assert_eq!(refused, Err(TokenRefusal::NotFound));
        }
    }
    assert_eq!(fleet.line(), []);
    assert!(fleet.store(|store| store.gates().is_empty()));
    // All feeds are read once more, and what was written lately is written once more.
    fleet.lose(Duration::ZERO);
    fleet.pass(3 * SECOND);
    assert_eq!(fleet.line(), []);
    fleet.crash(2);
    fleet.start(2);
    for number in 0..3 {
        assert!(fleet.status(number, &last).is_err());
        assert_eq!(fleet.waiting(number), 0);
    }
    // A new life of it.
    let fresh = fleet.join(1).token;
    fleet.pass(3 * SECOND);
    for number in 0..3 {
        assert!(fleet.status(number, &fresh).unwrap().ready);
    }
}

#[test]
fn a_node_that_was_away_brings_nothing_of_a_forgotten_event_back() {
    let mut fleet = Fleet::new(3, policy());
    for n in 0..300 {
        fleet.pass(STEP / 10);
        fleet.join(n % 3);
    }
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Cut, Set::one(2));
    let kept_there = fleet.join(2).token;
    fleet.pass(20 * SECOND);
    fleet.forget(0);
    fleet.pass(5 * SECOND);
    let fresh: Vec<_> = (0..30).map(|n| fleet.join(n % 2).token).collect();
    fleet.pass(5 * SECOND);
    fleet.heal();
    fleet.until_heard();
    fleet.pass(5 * SECOND);
    for number in 0..3 {
        let refused = fleet.status(number, &kept_there).map(drop);
        assert_eq!(refused, Err(TokenRefusal::NotFound), "node {number}");
        for token in &fresh {
            fleet.status(number, token).unwrap();
        }
    }
    assert_eq!(fleet.line().len(), 30);
}

#[test]
fn what_joined_after_the_forgetting_stays_wherever_it_joined() {
    let mut fleet = Fleet::new(3, still());
    fleet.join(0);
    fleet.pass(3 * SECOND);
    let before = fleet.join(1).token;
    fleet.pass(STEP);
    fleet.forget(0);
    fleet.pass(STEP);
    // This node has not heard of it yet.
    let after = fleet.join(1).token;
    fleet.pass(5 * SECOND);
    for number in 0..3 {
        assert!(fleet.status(number, &before).is_err());
        assert_eq!(fleet.place(number, &after), 1);
    }
    assert_eq!(fleet.line().len(), 1);
}

#[test]
fn places_that_were_yet_to_be_drawn_are_forgotten_too() {
    let opens = crate::room::house::START.after(1_000 * SECOND);
    let draw = Policy {
        order: Order::Lottery,
        opens: Some(opens),
        ..policy()
    };
    let mut fleet = Fleet::new(2, draw);
    let old: Vec<_> = (0..20).map(|n| fleet.join(n % 2).token).collect();
    fleet.pass(SECOND);
    fleet.forget(0);
    fleet.pass(3 * SECOND);
    let fresh: Vec<_> = (0..20).map(|n| fleet.join(n % 2).token).collect();
    fleet.pass(SECOND);
    for number in 0..2 {
        assert!(old.iter().all(|token| fleet.status(number, token).is_err()));
        assert!(
            fresh
                .iter()
                .all(|token| fleet.status(number, token).is_ok())
        );
    }
    assert_eq!(fleet.line().len(), 20);
}
