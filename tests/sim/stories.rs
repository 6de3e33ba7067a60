//! What a fleet does, one story a test.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate::model::{Policy, home};
use tidegate::room::answer::{Phase, TokenRefusal};

use super::fleet::Fleet;
use super::net::{Set, Trouble};
use super::world::sale;
use crate::room::house::policy;

const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(300);

pub fn still() -> Policy {
    Policy {
        paused: true,
        ..policy()
    }
}

/// The node that asks the sale's gate, and one that does not.
fn home_and_other(size: u16) -> (u16, u16) {
    let home = home::home(home::event_key(&sale()), size).0;
    (home, (home + 1) % size)
}

#[test]
fn every_node_knows_everybody() {
    let mut fleet = Fleet::new(3, still());
    let tokens: Vec<_> = (0..30)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3).token
        })
        .collect();
    fleet.pass(SECOND);
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(fleet.places(token), [n as u64 + 1; 3]);
    }
    fleet.leave(1, &tokens[4]);
    fleet.pass(MOMENT);
    assert_eq!(fleet.places(&tokens[29]), [29; 3]);
    assert!(fleet.status(2, &tokens[4]).is_err());
}

#[test]
fn a_place_outlives_the_node_that_gave_it_before_anybody_heard() {
    let mut fleet = Fleet::new(2, still());
    let early = fleet.join(1).token;
    fleet.pass(SECOND);
    let lost = fleet.join(0).token;
    fleet.crash(0);
    fleet.pass(MOMENT);
    let late = fleet.join(1).token;
    // Right after the join the told place stands, which leaves room for what was not heard of.
    assert!((2..=3).contains(&fleet.place(1, &lost)));
    fleet.pass(SECOND);
    fleet.start(0);
    for (n, token) in [&early, &lost, &late].into_iter().enumerate() {
        assert_eq!(fleet.places(token), [n as u64 + 1; 2]);
    }
}

#[test]
fn the_same_key_through_two_nodes_is_one_place() {
    let mut fleet = Fleet::new(2, still());
    fleet.join(0);
    fleet.pass(SECOND);
    let first = fleet.join_with(0, "key").token;
    fleet.pass(STEP / 2);
    let second = fleet.join_with(1, "key").token;
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&first), [2, 2]);
    assert_eq!(fleet.places(&second), [2, 2]);
    assert_eq!(fleet.line().len(), 2);
    fleet.leave(1, &second);
    fleet.pass(MOMENT);
    assert!(fleet.status(0, &first).is_err());
    assert_eq!(fleet.line().len(), 1);
}

#[test]
fn turns_come_in_order_at_the_pace_whoever_took_the_join() {
    let mut fleet = Fleet::new(3, policy());
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3).token
        })
        .collect();
    for _ in 0..40 {
        fleet.pass(SECOND / 10);
        for node in 0..3 {
            let ready: Vec<_> = tokens
                .iter()
                .map(|t| fleet.status(node, t).unwrap().ready)
                .collect();
            assert!(ready.is_sorted_by(|a, b| a >= b), "front first");
        }
    }
    let called = fleet.turns();
    assert!((42..=47).contains(&called), "{called} turns in 4.6 seconds");
}

#[test]
fn the_next_node_asks_when_the_home_is_gone() {
    let mut fleet = Fleet::new(3, policy());
    let (home, other) = home_and_other(3);
    for _ in 0..300 {
        fleet.join(other);
    }
    fleet.pass(2 * SECOND);
    fleet.crash(home);
    fleet.pass(4 * SECOND);
    let before = fleet.turns();
    fleet.pass(5 * SECOND);
    let called = fleet.turns() - before;
    assert!((48..=52).contains(&called), "{called} turns in 5 seconds");
}

#[test]
fn a_ticket_enters_once_though_two_nodes_let_it_in_at_once() {
    let mut fleet = Fleet::new(2, policy());
    let token = fleet.join(0).token;
    fleet.pass(SECOND);
    let first = fleet.enter(0, &token).unwrap();
    let second = fleet.enter(1, &token).unwrap();
    assert_eq!(first, second);
    fleet.pass(MOMENT);
    for node in 0..2 {
        assert_eq!(fleet.status(node, &token).unwrap().phase, Phase::Entered);
    }
    assert!(fleet.line().is_empty());
}

#[test]
fn an_entry_is_written_down_though_its_node_dies_at_once() {
    let mut fleet = Fleet::new(2, policy());
    let (home, other) = home_and_other(2);
    let token = fleet.join(other).token;
    fleet.pass(SECOND);
    fleet.enter(other, &token).unwrap();
    fleet.crash(other);
    fleet.pass(MOMENT);
    assert_eq!(fleet.status(home, &token).unwrap().phase, Phase::Entered);
    assert!(fleet.line().is_empty());
}

#[test]
fn a_turn_told_by_one_node_is_good_at_another_that_has_not_heard() {
    let mut fleet = Fleet::new(2, policy());
    let (home, other) = home_and_other(2);
    let token = fleet.join(other).token;
    fleet.pass(MOMENT / 3);
    fleet.trouble(Trouble::Deaf, Set::one(other));
    while !fleet.status(home, &token).unwrap().ready {
        fleet.pass(STEP);
    }
    assert!(!fleet.status(other, &token).unwrap().ready);
    fleet.enter(other, &token).unwrap();
}

#[test]
fn a_turn_is_heard_of_though_the_answer_was_lost() {
    let mut fleet = Fleet::new(2, policy());
    let token = fleet.join(0).token;
    fleet.trouble(Trouble::Unanswered, Set::ALL);
    fleet.pass(2 * SECOND);
    assert!(fleet.status(0, &token).unwrap().ready);
    assert!(fleet.status(1, &token).unwrap().ready);
}

#[test]
fn what_a_store_lost_is_told_again() {
    let mut fleet = Fleet::new(3, policy());
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3).token
        })
        .collect();
    fleet.pass(SECOND);
    let pass = fleet.enter(0, &tokens[0]).unwrap();
    fleet.pass(STEP);
    fleet.lose(SECOND / 2);
    assert_eq!(fleet.enter(0, &tokens[0]).unwrap(), pass);
    fleet.pass(3 * SECOND);
    let open = tokens
        .iter()
        .filter(|token| fleet.status(1, token).unwrap().ready)
        .count();
    // All are waited for once, who say every second that they are there.
    assert!(
        (36..=46).contains(&open),
        "{open} turns after 4.6 seconds, one of them used"
    );
    assert_eq!(fleet.entries().len(), 1);
    assert_eq!(fleet.line().len(), 59);
    fleet.start(2);
    // Turns are called every quarter of a second, and all have heard of them before the next.
    let places = |fleet: &Fleet| -> Vec<_> {
        let places = tokens[50..].iter().map(|token| fleet.places(token));
        places.collect()
    };
    let alike = |places: &[Vec<u64>]| {
        let same = |all: &Vec<u64>| all[0] > 0 && all.iter().all(|place| *place == all[0]);
        places.iter().all(same)
    };
    let settled = (0..25).any(|_| {
        fleet.pass(STEP);
        alike(&places(&fleet))
    });
    assert!(settled, "{:?}", places(&fleet));
}

#[test]
pub fn what_a_store_lost_is_told_by_others_when_its_writer_is_gone() {
    let mut fleet = Fleet::new(3, still());
    let left = fleet.join(0).token;
    fleet.pass(3 * SECOND);
    let joined = fleet.join(1).token;
    fleet.leave(1, &left);
    fleet.pass(SECOND);
    fleet.crash(1);
    fleet.lose(2 * SECOND);
    fleet.start(1);
    assert_eq!(fleet.place(1, &left), 1, "nobody has told it");
    fleet.pass(11 * SECOND);
    assert!(fleet.status(1, &left).is_err());
    assert_eq!(fleet.line().len(), 1);
    assert_eq!(fleet.places(&joined), [1; 3]);
}

#[test]
fn a_wiped_gate_starts_with_an_empty_bucket_and_knows_who_entered() {
    let mut fleet = Fleet::new(
        2,
        Policy {
            burst: 20,
            ..policy()
        },
    );
    let tokens: Vec<_> = (0..100).map(|n| fleet.join(n % 2).token).collect();
    fleet.pass(SECOND);
    let pass = fleet.enter(0, &tokens[0]).unwrap();
    fleet.pass(SECOND);
    fleet.wipe();
    fleet.notice();
    // Nothing is paid before the gate was told, then what a quarter of a second pays at a time.
    let wiped = fleet.turns();
    let passed = (1..=50).find(|_| {
        fleet.pass(STEP);
        fleet.turns() > wiped
    });
    let first = fleet.turns() - wiped;
    assert!((1..=3).contains(&first), "{first} turns at first");
    assert!(passed >= Some(10), "{passed:?} steps until the first turn");
    fleet.pass(SECOND);
    let called = fleet.turns() - wiped - first;
    assert!(called <= 10, "{called} turns in the second after the first");
    // What the last quarter of the second pays may be asked for just after it.
    fleet.pass(SECOND / 4);
    let called = fleet.turns() - wiped - first;
    assert!(
        (10..=12).contains(&called),
        "{called} turns in 1.25 seconds"
    );
    assert_eq!(fleet.enter(1, &tokens[0]).unwrap(), pass);
    assert_eq!(fleet.line().len(), 99, "filled from memory");
    fleet.start(0);
    for token in &tokens[60..] {
        let places = fleet.places(token);
        assert!(places[0] > 0 && places[0] == places[1]);
    }
}

#[test]
fn a_wiped_gate_learns_who_missed_a_turn() {
    let dawdling = Policy {
        heartbeat_ttl: 3600 * SECOND,
        ready_ttl: 2 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(2, dawdling);
    let tokens: Vec<_> = (0..300).map(|n| fleet.join(n % 2).token).collect();
    fleet.pass(8 * SECOND);
    fleet.wipe();
    fleet.notice();
    fleet.pass(3 * SECOND);
    // Who starts now counts nobody who missed a turn, as those do who saw it.
    fleet.start(0);
    for token in &tokens[200..] {
        let places = fleet.places(token);
        // Who was called a moment ago may still be on the feed.
        let alike = places[0].abs_diff(places[1]) <= 3;
        assert!(places[0] > 0 && alike, "{places:?}");
    }
    // And calls them again when they come back.
    assert!(!fleet.status(0, &tokens[0]).unwrap().ready);
    fleet.pass(2 * SECOND);
    assert!(fleet.status(1, &tokens[0]).unwrap().ready);
}

#[test]
fn a_wiped_gate_does_not_pay_for_what_it_gave_before() {
    let patient = Policy {
        heartbeat_ttl: 3600 * SECOND,
        ready_ttl: 60 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(2, patient);
    let tokens: Vec<_> = (0..1_600).map(|n| fleet.join(n % 2).token).collect();
    for token in &tokens[..1_300] {
        while !fleet.status(0, token).unwrap().ready {
            fleet.pass(SECOND / 10);
        }
        fleet.enter(0, token).unwrap();
    }
    // First a gate is noticed that fell back, then what follows in the feeds, then the name.
    // Both times the others are waited for, who say once a second that they are there.
    let rate_holds = |fleet: &mut Fleet, waited: usize| {
        let before = fleet.turns();
        fleet.pass(3 * SECOND);
        let called = fleet.turns() - before;
        let expected = 26 - waited..=32;
        assert!(expected.contains(&called), "{called} turns in 3 seconds");
    };
    fleet.wipe();
    rate_holds(&mut fleet, 10);
    fleet.notice();
    rate_holds(&mut fleet, 10);
    rate_holds(&mut fleet, 0);
}

#[test]
fn a_store_that_is_away_for_long_costs_nobody_a_place_or_a_second_turn() {
    let mut fleet = Fleet::new(3, policy());
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3).token
        })
        .collect();
    fleet.pass(2 * SECOND);
    fleet.trouble(Trouble::Cut, Set::ALL);
    // Longer than a turn, than the late grace, than the heartbeat time; everybody polls somewhere.
    for second in 0..80 {
        fleet.pass(SECOND);
        for (n, token) in (0..).zip(&tokens) {
            let standing = fleet.status((n + second) % 3, token).unwrap();
            assert!(second < 6 || standing.degraded);
            if standing.ready {
                assert!(fleet.enter((n + second) % 3, token).is_err());
            }
        }
    }
    assert_eq!(fleet.entries().len(), 0);
    let late = fleet.join(1).token;
    let tokens = [tokens, vec![late]].concat();
    fleet.heal();
    // The store is left alone until it is tried again.
    let before = fleet.turns();
    while fleet.turns() == before {
        fleet.pass(STEP);
    }
    fleet.pass(SECOND);
    let called = fleet.turns() - before;
    assert!(
        called <= 32,
        "{called} turns: those that lapsed, and a second's own"
    );
    for second in 0..12 {
        fleet.pass(SECOND);
        for (n, token) in (0..).zip(&tokens) {
            let node = (n + second) % 3;
            if fleet.status(node, token).unwrap().ready {
                fleet.enter(node, token).unwrap();
            }
        }
    }
    let entries = fleet.entries();
    assert_eq!(entries.len(), 61);
    assert_eq!(BTreeSet::from_iter(entries).len(), 61, "each once");
}

#[test]
fn who_is_seen_by_one_node_is_alive_for_all_and_the_dead_are_removed() {
    let mut fleet = Fleet::new(3, still());
    let dead = fleet.join(0).token;
    let alive = fleet.join(0).token;
    for _ in 0..100 {
        fleet.pass(SECOND);
        fleet.status(2, &alive).unwrap();
    }
    assert_eq!(fleet.places(&alive), [1; 3]);
    assert!(matches!(
        fleet.status(1, &dead),
        Err(TokenRefusal::Gone(Some(_)))
    ));
    assert_eq!(fleet.line().len(), 1);
}

#[test]
fn the_dead_are_removed_while_the_store_is_slow() {
    let mut fleet = Fleet::new(3, still());
    let dead = fleet.join(0).token;
    let alive = fleet.join(0).token;
    fleet.trouble_some(Trouble::Slow, Set::ALL, 200);
    for _ in 0..50 {
        fleet.pass(SECOND);
        fleet.status(2, &alive).unwrap();
    }
    for node in 0..3 {
        assert!(
            fleet.status(node, &dead).is_err(),
            "node {node} still has it"
        );
    }
    assert_eq!(fleet.places(&alive), [1; 3]);
}

#[test]
fn nobody_expires_while_a_node_cannot_be_heard() {
    let mut fleet = Fleet::new(2, still());
    let token = fleet.join(0).token;
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Cut, Set::one(1));
    // 200 seconds of polling at the node that is cut off; the other hears nothing.
    for _ in 0..200 {
        fleet.pass(SECOND);
        fleet.status(1, &token).unwrap();
    }
    fleet.heal();
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&token), [1, 1]);
}

#[test]
fn a_soft_leave_is_undone_at_any_node_and_ended_by_the_one_that_took_it() {
    let mut fleet = Fleet::new(3, still());
    let refreshed = fleet.join(0).token;
    let closed = fleet.join(0).token;
    fleet.pass(STEP);
    let last = fleet.join(2).token;
    fleet.pass(2 * SECOND);
    for token in [&refreshed, &closed] {
        fleet.leave_softly(0, token);
    }
    fleet.pass(SECOND);
    fleet.status(1, &refreshed).unwrap();
    fleet.pass(8 * SECOND);
    assert_eq!(fleet.places(&last), [2; 3]);
    assert!(fleet.status(2, &closed).is_err());
    // Polled elsewhere before that node heard of the goodbye.
    fleet.trouble(Trouble::Deaf, Set::one(1));
    fleet.leave_softly(0, &refreshed);
    fleet.pass(MOMENT);
    fleet.status(1, &refreshed).unwrap();
    fleet.pass(8 * SECOND);
    assert_eq!(fleet.places(&refreshed), [1; 3]);
}

#[test]
fn a_soft_leave_whose_node_died_ends_with_the_heartbeat() {
    let mut fleet = Fleet::new(2, still());
    let token = fleet.join(1).token;
    fleet.pass(SECOND);
    fleet.leave_softly(0, &token);
    fleet.pass(MOMENT);
    fleet.crash(0);
    fleet.pass(20 * SECOND);
    assert_eq!(fleet.line().len(), 1);
    fleet.start(0);
    fleet.pass(100 * SECOND);
    assert!(fleet.line().is_empty());
}

#[test]
fn a_join_while_others_cannot_be_heard_counts_on_as_many_of_theirs() {
    let mut fleet = Fleet::new(2, still());
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Cut, Set::ALL);
    fleet.pass(SECOND);
    let joined: Vec<_> = (0..40)
        .map(|n| {
            fleet.pass(SECOND / 10);
            fleet.join(n % 2)
        })
        .collect();
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND);
    for (n, joined) in (1..).zip(&joined) {
        assert!(joined.standing.position >= n && joined.standing.position <= n + n / 2 + 2);
        assert_eq!(fleet.place(0, &joined.token), n);
    }
}

#[test]
fn a_goodbye_is_not_undone_by_a_poll_before_it() {
    let mut fleet = Fleet::new(3, still());
    let token = fleet.join(0).token;
    fleet.pass(2 * SECOND);
    fleet.trouble(Trouble::Deaf, Set::one(0));
    fleet.leave_softly(1, &token);
    fleet.pass(MOMENT);
    fleet.status(0, &token).unwrap();
    fleet.pass(2 * MOMENT);
    fleet.leave_softly(0, &token);
    fleet.pass(STEP);
    // Hears only now of the first goodbye, after which somebody came back here.
    fleet.heal();
    fleet.pass(SECOND);
    fleet.status(2, &token).unwrap();
    fleet.pass(8 * SECOND);
    assert_eq!(fleet.places(&token), [1; 3]);
}

#[test]
fn a_clock_that_is_off_is_told_and_drags_nobody() {
    let mut fleet = Fleet::new(3, still());
    fleet.crash(2);
    fleet.world.jump(2, 3_600_000_000);
    fleet.start(2);
    let ahead = fleet.join(2).token;
    fleet.pass(2 * SECOND);
    let right = fleet.join(0).token;
    fleet.pass(2 * SECOND);
    assert!(fleet.clocks_off(0) > 0);
    assert_eq!(
        fleet.place(0, &right),
        1,
        "it stands where its own clock says"
    );
    assert_eq!(fleet.places(&ahead), [2; 3]);
}

#[test]
fn a_node_whose_view_is_old_calls_nobody() {
    let mut fleet = Fleet::new(2, policy());
    let (home, other) = home_and_other(2);
    for _ in 0..100 {
        fleet.join(other);
    }
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Deaf, Set::ALL);
    fleet.pass(SECOND);
    let before = fleet.turns();
    fleet.pass(2 * SECOND);
    assert_eq!(fleet.turns(), before);
    fleet.heal();
    fleet.trouble(Trouble::Deaf, Set::one(home));
    fleet.pass(8 * SECOND);
    assert!(fleet.turns() > before, "one with a fresh view does");
}
