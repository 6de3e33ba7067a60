//! Turns in the join's own answer, out of what nodes put aside: one story a test.

use std::time::Duration;

use tidegate::model::Policy;

use super::fleet::Fleet;
use crate::room::house::policy;

const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

/// Somebody came and went lately and nobody waits, so nodes hold turns for who comes.
fn with_leases(size: u16) -> Fleet {
    let policy = Policy {
        rate: 100.0,
        burst: 40,
        ..policy()
    };
    let mut fleet = Fleet::new(size, policy);
    let token = fleet.join(0).token;
    fleet.pass(SECOND);
    fleet.enter(0, &token).unwrap();
    fleet.pass(2 * SECOND);
    fleet
}

#[test]
fn who_is_ready_in_the_joins_own_answer_enters_at_any_node_at_once() {
    let mut fleet = with_leases(2);
    let joined = fleet.join(0);
    assert!(joined.standing.ready);
    assert!(
        fleet.status(1, &joined.token).unwrap().ready,
        "the token says so"
    );
    fleet.enter(1, &joined.token).unwrap();
    let joined = fleet.join(0);
    fleet.pass(2 * STEP);
    let standing = fleet.status(1, &joined.token).unwrap();
    assert_eq!(
        (standing.ready, standing.position),
        (true, 0),
        "and the feed says so"
    );
    fleet.enter(1, &joined.token).unwrap();
}

#[test]
fn a_node_that_stops_tells_of_the_turns_it_gave_with_joins() {
    let mut fleet = with_leases(2);
    let before = fleet.turns();
    assert!(fleet.join(0).standing.ready);
    fleet.drain(0);
    fleet.pass(SECOND);
    assert_eq!(fleet.turns(), before + 1);
}

#[test]
fn a_turn_of_the_join_is_good_whatever_the_stores_clock_says() {
    for by in [20_000_000, -20_000_000] {
        let mut fleet = with_leases(2);
        fleet.world.jump_store(by);
        fleet.pass(2 * SECOND);
        let joined = fleet.join(0);
        assert!(joined.standing.ready);
        fleet.pass(SECOND);
        for node in 0..2 {
            assert!(fleet.status(node, &joined.token).unwrap().ready);
        }
        fleet.enter(1, &joined.token).unwrap();
    }
}
