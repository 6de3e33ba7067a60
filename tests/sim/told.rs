//! What a place told at a join holds nodes to, one story a test.

use std::time::Duration;

use tidegate::model::Policy;
use tidegate::room::answer::Joined;

use super::fleet::Fleet;
use super::net::{Set, Trouble};
use super::stories::still;
use crate::room::house::policy;

const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn a_told_place_does_not_rise_when_earlier_joins_are_heard_of() {
    let mut fleet = Fleet::new(2, still());
    fleet.pass(SECOND);
    for _ in 0..10 {
        fleet.join(0);
    }
    fleet.pass(SECOND / 1000);
    let joined = fleet.join(1);
    let told = joined.standing.position;
    assert!(told < 11, "nothing was heard of the ten yet");
    for _ in 0..20 {
        fleet.pass(MOMENT);
        assert_eq!(fleet.place(0, &joined.token), told);
        assert_eq!(fleet.place(1, &joined.token), told);
    }
    assert_eq!(fleet.places(&joined.token), [11, 11]);
    let replayed = fleet.join_with(1, "key");
    assert!((12..=13).contains(&replayed.standing.position));
    fleet.pass(MOMENT);
    let again = fleet.join_with(1, "key");
    assert_eq!(replayed.token, again.token);
}

#[test]
fn a_told_place_stands_for_as_long_as_others_are_not_heard() {
    let mut fleet = Fleet::new(2, still());
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Deaf, Set::one(1));
    for _ in 0..10 {
        fleet.join(0);
    }
    fleet.pass(SECOND / 1000);
    let early = fleet.join(1);
    fleet.pass(SECOND / 1000);
    let joined = fleet.join(1);
    let told = joined.standing.position;
    fleet.leave(1, &early.token);
    for _ in 0..10 {
        fleet.pass(MOMENT);
        assert_eq!(fleet.place(1, &joined.token), told);
    }
    fleet.heal();
    fleet.pass(2 * SECOND);
    assert_eq!(fleet.places(&joined.token), [11, 11]);
}

/// Asks nodes in turn for a place, every tenth of a second, which never rises, though troubles end in
/// between.
fn falls_across_a_heal(fleet: &mut Fleet, joined: &Joined, nodes: &[u16], heals: u32, steps: u32) {
    let mut shown = joined.standing.position;
    for step in 0..steps {
        fleet.pass(SECOND / 10);
        if step == heals {
            fleet.heal();
        }
        for node in nodes {
            let place = fleet.place(*node, &joined.token);
            assert!(
                place <= shown,
                "from {shown} back to {place} in step {step}"
            );
            shown = place;
        }
    }
}

#[test]
fn a_told_place_stands_until_all_nodes_are_back_with_their_joins() {
    let mut fleet = Fleet::new(2, still());
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Cut, Set::ALL);
    fleet.pass(10 * SECOND);
    fleet.join(0);
    fleet.pass(STEP);
    fleet.join(1);
    fleet.pass(STEP);
    let last = fleet.join(0);
    fleet.pass(10 * SECOND);
    fleet.heal_one(0);
    falls_across_a_heal(&mut fleet, &last, &[0], 60, 100);
    fleet.until_heard();
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&last.token), [3, 3]);
}

#[test]
fn a_told_place_stands_while_a_silent_node_may_have_earlier_joins() {
    let mut fleet = Fleet::new(3, still());
    fleet.pass(SECOND);
    fleet.join(1);
    fleet.join(2);
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Cut, Set::one(0));
    for _ in 0..3 {
        fleet.join(0);
    }
    fleet.pass(STEP);
    let last = fleet.join(1);
    falls_across_a_heal(&mut fleet, &last, &[1, 2], 50, 150);
    fleet.until_heard();
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&last.token), [6; 3]);
}

#[test]
fn a_place_that_fell_stays_where_it_is_while_the_store_is_away_and_after() {
    let slow = Policy {
        rate: 0.001,
        burst: 1,
        ..policy()
    };
    let mut fleet = Fleet::new(2, slow);
    fleet.pass(SECOND);
    let front: Vec<_> = (0..12).map(|_| fleet.join(0)).collect();
    fleet.pass(SECOND);
    let last = fleet.join(1);
    fleet.pass(3 * SECOND);
    for visitor in &front[6..] {
        fleet.leave(0, &visitor.token);
    }
    fleet.pass(3 * SECOND);
    let fell = fleet.place(0, &last.token);
    assert!(fell < last.standing.position);
    let held = |fleet: &Fleet| {
        let places = [0, 1].map(|node| fleet.place(node, &last.token));
        assert!(places.iter().all(|place| *place <= fell), "{places:?}");
    };
    fleet.trouble(Trouble::Cut, Set::ALL);
    for _ in 0..200 {
        fleet.pass(SECOND / 10);
        held(&fleet);
    }
    fleet.heal();
    for _ in 0..200 {
        fleet.pass(SECOND / 10);
        held(&fleet);
    }
    fleet.start(1);
    for _ in 0..20 {
        fleet.pass(SECOND / 10);
        held(&fleet);
    }
}

#[test]
fn who_starts_counts_nobody_who_missed_a_turn_however_long_ago() {
    let dawdling = Policy {
        ready_ttl: 2 * SECOND,
        late_grace: 5 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(3, dawdling);
    let tokens: Vec<_> = (0..300).map(|n| fleet.join(n % 3).token).collect();
    fleet.pass(4 * SECOND);
    // From now on silence says nothing of anybody: nobody expires.
    fleet.crash(2);
    fleet.pass(11 * SECOND);
    fleet.start(0);
    for token in &tokens[250..] {
        let places = fleet.places(token);
        // Who was called a moment ago may still be on the feed.
        let alike = places[0].abs_diff(places[1]) <= 3;
        assert!(places[0] > 0 && alike, "{places:?}");
    }
}

/// Who left and joined again at a node that was cut off, while the others had the old place called
/// before or after, is at one place for all; and a turn of the old place is the next one's at once.
#[test]
fn who_joins_again_while_nodes_are_apart_has_one_place_for_all() {
    let slow = Policy {
        rate: 0.01,
        burst: 1,
        ready_ttl: 60 * SECOND,
        late_grace: 600 * SECOND,
        ..policy()
    };
    for leaves_first in [true, false] {
        let mut fleet = Fleet::new(3, slow.clone());
        fleet.pass(SECOND);
        let _first = fleet.join(1);
        fleet.pass(SECOND);
        let old = fleet.join_with(0, "key").token;
        fleet.pass(SECOND);
        let next = fleet.join(1).token;
        fleet.pass(SECOND);
        fleet.trouble(Trouble::Cut, Set::one(0));
        let moves = |fleet: &mut Fleet| {
            fleet.leave(0, &old);
            fleet.pass(SECOND);
            fleet.join_with(0, "key").token
        };
        let early = leaves_first.then(|| moves(&mut fleet));
        while !fleet.status(1, &old).unwrap().ready {
            fleet.pass(SECOND);
        }
        let new = early.unwrap_or_else(|| moves(&mut fleet));
        fleet.heal();
        fleet.until_heard();
        fleet.pass(SECOND);
        let last = fleet.join(2).token;
        fleet.pass(2 * SECOND);
        for node in 0..3 {
            assert_eq!(fleet.status(node, &new).unwrap().ready, leaves_first);
            assert!(leaves_first || fleet.status(node, &next).unwrap().ready);
        }
        let places = fleet.places(&last);
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    }
}
