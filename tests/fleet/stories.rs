//! What a fleet does, one story a test.

use std::time::Duration;

use tidegate::model::{Micros, Policy, home};
use tidegate::room::answer::{Phase, TokenRefusal};

use super::nodes::{Fleet, STEP, sale};
use crate::room::house::policy;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(300);

fn still() -> Policy {
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
    let mut fleet = Fleet::new(3, still(), 1);
    let tokens: Vec<_> = (0..30)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3, "sale").token
        })
        .collect();
    fleet.pass(SECOND);
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(fleet.places(token), [n as u64 + 1; 3]);
    }
    fleet.node(1).room.leave(fleet.now, &tokens[4]);
    fleet.pass(MOMENT);
    assert_eq!(fleet.places(&tokens[29]), [29; 3]);
    assert!(fleet.status(2, &tokens[4]).is_err());
}

#[test]
fn a_place_outlives_the_node_that_gave_it_before_anybody_heard() {
    let mut fleet = Fleet::new(2, still(), 1);
    let early = fleet.join(1, "sale").token;
    fleet.pass(SECOND);
    let lost = fleet.join(0, "sale").token;
    fleet.nodes[0] = None;
    fleet.pass(MOMENT);
    let late = fleet.join(1, "sale").token;
    // Right after the join the told place stands, which leaves room for what was not heard of.
    assert!((2..=3).contains(&fleet.place(1, &lost)));
    fleet.pass(SECOND);
    fleet.start(0, 0);
    for (n, token) in [&early, &lost, &late].into_iter().enumerate() {
        assert_eq!(fleet.places(token), [n as u64 + 1; 2]);
    }
}

#[test]
fn the_same_key_through_two_nodes_is_one_place() {
    let mut fleet = Fleet::new(2, still(), 1);
    fleet.join(0, "sale");
    fleet.pass(SECOND);
    let first = fleet.join_with(0, "sale", Some("key")).token;
    fleet.pass(STEP / 2);
    let second = fleet.join_with(1, "sale", Some("key")).token;
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&first), [2, 2]);
    assert_eq!(fleet.places(&second), [2, 2]);
    assert_eq!(fleet.store.line(&sale()).len(), 2);
    fleet
        .node(1)
        .room
        .leave(fleet.node(1).now(fleet.now), &second);
    fleet.pass(MOMENT);
    assert!(fleet.status(0, &first).is_err());
    assert_eq!(fleet.store.line(&sale()).len(), 1);
}

#[test]
fn turns_come_in_order_at_the_pace_whoever_took_the_join() {
    let mut fleet = Fleet::new(3, policy(), 1);
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3, "sale").token
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
    let called = fleet.store.turns.iter().filter(|turn| turn.3).count();
    assert!((42..=47).contains(&called), "{called} turns in 4.6 seconds");
}

#[test]
fn the_next_node_asks_when_the_home_is_gone() {
    let mut fleet = Fleet::new(3, policy(), 1);
    let (home, other) = home_and_other(3);
    for _ in 0..300 {
        fleet.join(other, "sale");
    }
    fleet.pass(2 * SECOND);
    fleet.nodes[usize::from(home)] = None;
    fleet.pass(4 * SECOND);
    let before = fleet.store.turns.iter().filter(|turn| turn.3).count();
    fleet.pass(5 * SECOND);
    let called = fleet.store.turns.iter().filter(|turn| turn.3).count() - before;
    assert!((48..=52).contains(&called), "{called} turns in 5 seconds");
}

#[test]
fn a_ticket_enters_once_though_two_nodes_let_it_in_at_once() {
    let mut fleet = Fleet::new(2, policy(), 1);
    let token = fleet.join(0, "sale").token;
    fleet.pass(SECOND);
    let first = fleet.enter(0, &token).unwrap();
    let second = fleet.enter(1, &token).unwrap();
    assert_eq!(first.pass, second.pass);
    fleet.pass(MOMENT);
    for node in 0..2 {
        assert_eq!(fleet.status(node, &token).unwrap().phase, Phase::Entered);
    }
    assert!(fleet.store.line(&sale()).is_empty());
}

#[test]
fn an_entry_is_written_down_though_its_node_dies_at_once() {
    let mut fleet = Fleet::new(2, policy(), 1);
    let (home, other) = home_and_other(2);
    let token = fleet.join(other, "sale").token;
    fleet.pass(SECOND);
    fleet.enter(other, &token).unwrap();
    fleet.nodes[usize::from(other)] = None;
    fleet.pass(MOMENT);
    assert_eq!(fleet.status(home, &token).unwrap().phase, Phase::Entered);
    assert!(fleet.store.line(&sale()).is_empty());
}

/// Somebody came and went lately and nobody waits, so nodes hold turns for who comes.
fn with_leases(size: u16) -> Fleet {
    let policy = Policy {
        rate: 100.0,
        burst: 40,
        ..policy()
    };
    let mut fleet = Fleet::new(size, policy, 1);
    let token = fleet.join(0, "sale").token;
    fleet.pass(SECOND);
    fleet.enter(0, &token).unwrap();
    fleet.pass(2 * SECOND);
    fleet
}

#[test]
fn who_is_ready_in_the_joins_own_answer_enters_at_any_node_at_once() {
    let mut fleet = with_leases(2);
    let joined = fleet.join(0, "sale");
    assert!(joined.standing.ready);
    assert!(
        fleet.status(1, &joined.token).unwrap().ready,
        "the token says so"
    );
    fleet.enter(1, &joined.token).unwrap();
    let joined = fleet.join(0, "sale");
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
fn a_turn_told_by_one_node_is_good_at_another_that_has_not_heard() {
    let mut fleet = Fleet::new(2, policy(), 1);
    let (home, other) = home_and_other(2);
    let token = fleet.join(other, "sale").token;
    fleet.pass(MOMENT / 3);
    fleet.node_mut(other).delay = SECOND / 4;
    while !fleet.status(home, &token).unwrap().ready {
        fleet.pass(STEP);
    }
    assert!(!fleet.status(other, &token).unwrap().ready);
    fleet.enter(other, &token).unwrap();
}

#[test]
fn a_turn_is_heard_of_though_the_answer_was_lost() {
    let mut fleet = Fleet::new(2, policy(), 1);
    let token = fleet.join(0, "sale").token;
    fleet.lost_per_mille = 1000;
    fleet.pass(2 * SECOND);
    assert!(fleet.status(0, &token).unwrap().ready);
    assert!(fleet.status(1, &token).unwrap().ready);
}

#[test]
fn what_a_store_lost_is_told_again() {
    let mut fleet = Fleet::new(3, policy(), 1);
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3, "sale").token
        })
        .collect();
    fleet.pass(SECOND);
    let pass = fleet.enter(0, &tokens[0]).unwrap().pass;
    fleet.pass(STEP);
    fleet.store.lose_after(Micros(fleet.now.0 - 500_000));
    assert!(
        fleet
            .enter(0, &tokens[0])
            .is_err_and(|e| e.to_string().contains("gone"))
    );
    fleet.pass(3 * SECOND);
    let open = tokens
        .iter()
        .filter(|token| fleet.status(1, token).unwrap().ready)
        .count();
    assert!(
        (42..=46).contains(&open),
        "{open} turns after 4.6 seconds, one of them used"
    );
    assert_eq!(fleet.granted.values().flatten().count(), 1);
    assert_eq!(fleet.store.line(&sale()).len(), 59);
    fleet.start(2, 0);
    for token in &tokens[50..] {
        let places = fleet.places(token);
        assert!(places[0] > 0 && places.iter().all(|place| *place == places[0]));
    }
    drop(pass);
}

#[test]
fn a_wiped_gate_starts_with_an_empty_bucket_and_knows_who_entered() {
    let mut fleet = Fleet::new(
        2,
        Policy {
            burst: 20,
            ..policy()
        },
        1,
    );
    let tokens: Vec<_> = (0..100).map(|n| fleet.join(n % 2, "sale").token).collect();
    fleet.pass(SECOND);
    fleet.enter(0, &tokens[0]).unwrap();
    fleet.pass(SECOND);
    fleet.store.wipe();
    let before = fleet.store.turns.len();
    fleet.pass(SECOND);
    let called = fleet.store.turns.len() - before;
    assert!(
        (6..=10).contains(&called),
        "{called} turns in the first second"
    );
    assert!(
        fleet
            .enter(1, &tokens[0])
            .is_err_and(|e| e.to_string().contains("gone"))
    );
    assert_eq!(fleet.store.line(&sale()).len(), 99, "filled from memory");
    fleet.start(0, 0);
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
    let mut fleet = Fleet::new(2, dawdling, 1);
    let tokens: Vec<_> = (0..300).map(|n| fleet.join(n % 2, "sale").token).collect();
    fleet.pass(8 * SECOND);
    fleet.store.wipe();
    fleet.pass(3 * SECOND);
    // Who starts now counts nobody who missed a turn, as those do who saw it.
    fleet.start(0, 0);
    for token in &tokens[200..] {
        let places = fleet.places(token);
        assert!(places[0] > 0 && places[0] == places[1], "{places:?}");
    }
    // And calls them again when they come back.
    assert!(!fleet.status(0, &tokens[0]).unwrap().ready);
    fleet.pass(SECOND);
    assert!(fleet.status(1, &tokens[0]).unwrap().ready);
}

#[test]
fn a_wiped_gate_does_not_pay_for_what_it_gave_before() {
    let patient = Policy {
        heartbeat_ttl: 3600 * SECOND,
        ready_ttl: 60 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::new(2, patient, 1);
    let tokens: Vec<_> = (0..1_600)
        .map(|n| fleet.join(n % 2, "sale").token)
        .collect();
    for token in &tokens[..1_300] {
        while !fleet.status(0, token).unwrap().ready {
            fleet.pass(SECOND / 10);
        }
        fleet.enter(0, token).unwrap();
    }
    // First a gate is noticed that fell back, then what follows in the feeds, then the name.
    let rate_holds = |fleet: &mut Fleet| {
        let before = fleet.store.turns.iter().filter(|turn| turn.3).count();
        fleet.pass(3 * SECOND);
        let called = fleet.store.turns.iter().filter(|turn| turn.3).count() - before;
        assert!((26..=32).contains(&called), "{called} turns in 3 seconds");
    };
    fleet.store.wipe();
    fleet.store.generation -= 1;
    rate_holds(&mut fleet);
    fleet.store.wiped = false;
    fleet.store.generation += 1;
    rate_holds(&mut fleet);
    fleet.store.wiped = true;
    fleet.store.generation += 1;
    rate_holds(&mut fleet);
}

#[test]
fn a_store_that_is_away_for_long_costs_nobody_a_place_or_a_second_turn() {
    let mut fleet = Fleet::new(3, policy(), 1);
    let tokens: Vec<_> = (0..60)
        .map(|n| {
            fleet.pass(STEP);
            fleet.join(n % 3, "sale").token
        })
        .collect();
    fleet.pass(2 * SECOND);
    for node in 0..3 {
        fleet.node_mut(node).cut = true;
    }
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
    assert_eq!(fleet.granted.len(), 0);
    let late = fleet.join(1, "sale").token;
    let tokens = [tokens, vec![late]].concat();
    for node in 0..3 {
        fleet.node_mut(node).cut = false;
    }
    let before = fleet.store.turns.len();
    fleet.pass(SECOND);
    let called = fleet.store.turns[before..]
        .iter()
        .filter(|turn| turn.3)
        .count();
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
    assert_eq!(fleet.granted.len(), 61);
    assert!(fleet.granted.values().all(|times| times.len() == 1));
}

#[test]
fn who_is_seen_by_one_node_is_alive_for_all_and_the_dead_are_removed() {
    let mut fleet = Fleet::new(3, still(), 1);
    let dead = fleet.join(0, "sale").token;
    let alive = fleet.join(0, "sale").token;
    for _ in 0..100 {
        fleet.pass(SECOND);
        fleet.status(2, &alive).unwrap();
    }
    assert_eq!(fleet.places(&alive), [1; 3]);
    assert!(matches!(
        fleet.status(1, &dead),
        Err(TokenRefusal::Gone(Some(_)))
    ));
    assert_eq!(fleet.store.line(&sale()).len(), 1);
}

#[test]
fn nobody_expires_while_a_node_cannot_be_heard() {
    let mut fleet = Fleet::new(2, still(), 1);
    let token = fleet.join(0, "sale").token;
    fleet.pass(SECOND);
    fleet.node_mut(1).cut = true;
    // 200 seconds of polling at the node that is cut off; the other hears nothing.
    for _ in 0..200 {
        fleet.pass(SECOND);
        fleet.status(1, &token).unwrap();
    }
    fleet.node_mut(1).cut = false;
    fleet.pass(SECOND);
    assert_eq!(fleet.places(&token), [1, 1]);
}

#[test]
fn a_soft_leave_is_undone_at_any_node_and_ended_by_the_one_that_took_it() {
    let mut fleet = Fleet::new(3, still(), 1);
    let refreshed = fleet.join(0, "sale").token;
    let closed = fleet.join(0, "sale").token;
    fleet.pass(STEP);
    let last = fleet.join(2, "sale").token;
    fleet.pass(2 * SECOND);
    for token in [&refreshed, &closed] {
        fleet.node(0).room.leave_softly(fleet.now, token);
    }
    fleet.pass(SECOND);
    fleet.status(1, &refreshed).unwrap();
    fleet.pass(8 * SECOND);
    assert_eq!(fleet.places(&last), [2; 3]);
    assert!(fleet.status(2, &closed).is_err());
    // Polled elsewhere before that node heard of the goodbye.
    fleet.node_mut(1).delay = SECOND / 4;
    fleet.node(0).room.leave_softly(fleet.now, &refreshed);
    fleet.pass(MOMENT);
    fleet.status(1, &refreshed).unwrap();
    fleet.pass(8 * SECOND);
    assert_eq!(fleet.places(&refreshed), [1; 3]);
}

#[test]
fn a_soft_leave_whose_node_died_ends_with_the_heartbeat() {
    let mut fleet = Fleet::new(2, still(), 1);
    let token = fleet.join(1, "sale").token;
    fleet.pass(SECOND);
    fleet.node(0).room.leave_softly(fleet.now, &token);
    fleet.pass(MOMENT);
    fleet.nodes[0] = None;
    fleet.pass(20 * SECOND);
    assert_eq!(fleet.store.line(&sale()).len(), 1);
    fleet.start(0, 0);
    fleet.pass(100 * SECOND);
    assert!(fleet.store.line(&sale()).is_empty());
}

#[test]
fn a_told_place_does_not_rise_when_earlier_joins_are_heard_of() {
    let mut fleet = Fleet::new(2, still(), 1);
    fleet.pass(SECOND);
    for _ in 0..10 {
        fleet.join(0, "sale");
    }
    fleet.now = Micros(fleet.now.0 + 50);
    let joined = fleet.join(1, "sale");
    let told = joined.standing.position;
    assert!(told < 11, "nothing was heard of the ten yet");
    for _ in 0..20 {
        fleet.pass(MOMENT);
        assert_eq!(fleet.place(0, &joined.token), told);
        assert_eq!(fleet.place(1, &joined.token), told);
    }
    assert_eq!(fleet.places(&joined.token), [11, 11]);
    let replayed = fleet.join_with(1, "sale", Some("key"));
    assert!((12..=13).contains(&replayed.standing.position));
    fleet.pass(MOMENT);
    let again = fleet.join_with(1, "sale", Some("key"));
    assert_eq!(replayed.token, again.token);
}

#[test]
fn a_told_place_stands_for_as_long_as_others_are_not_heard() {
    let mut fleet = Fleet::new(2, still(), 1);
    fleet.pass(SECOND);
    fleet.node_mut(1).delay = 2 * SECOND;
    for _ in 0..10 {
        fleet.join(0, "sale");
    }
    fleet.now = Micros(fleet.now.0 + 50);
    let early = fleet.join(1, "sale");
    fleet.now = Micros(fleet.now.0 + 50);
    let joined = fleet.join(1, "sale");
    let told = joined.standing.position;
    fleet.node(1).room.leave(fleet.now, &early.token);
    for _ in 0..10 {
        fleet.pass(MOMENT);
        assert_eq!(fleet.place(1, &joined.token), told);
    }
    fleet.pass(2 * SECOND);
    assert_eq!(fleet.places(&joined.token), [11, 11]);
}

#[test]
fn a_join_while_others_cannot_be_heard_counts_on_as_many_of_theirs() {
    let mut fleet = Fleet::new(2, still(), 1);
    fleet.pass(SECOND);
    for node in 0..2 {
        fleet.node_mut(node).cut = true;
    }
    fleet.pass(SECOND);
    let joined: Vec<_> = (0..40)
        .map(|n| {
            fleet.pass(SECOND / 10);
            fleet.join(n % 2, "sale")
        })
        .collect();
    for node in 0..2 {
        fleet.node_mut(node).cut = false;
    }
    fleet.pass(SECOND);
    for (n, joined) in (1..).zip(&joined) {
        assert!(joined.standing.position >= n && joined.standing.position <= n + n / 2 + 2);
        assert_eq!(fleet.place(0, &joined.token), n);
    }
}

#[test]
fn a_clock_that_is_off_is_told_and_drags_nobody() {
    let mut fleet = Fleet::new(3, still(), 1);
    fleet.nodes[2] = None;
    fleet.start(2, 3_600_000_000);
    let ahead = fleet.join(2, "sale").token;
    fleet.pass(2 * SECOND);
    let right = fleet.join(0, "sale").token;
    fleet.pass(2 * SECOND);
    assert!(fleet.node(0).room.clocks_off() > 0);
    assert_eq!(
        fleet.place(0, &right),
        1,
        "it stands where its own clock says"
    );
    assert_eq!(fleet.places(&ahead), [2; 3]);
}

#[test]
fn a_node_whose_view_is_old_calls_nobody() {
    let mut fleet = Fleet::new(2, policy(), 1);
    let (home, other) = home_and_other(2);
    for _ in 0..100 {
        fleet.join(other, "sale");
    }
    fleet.pass(SECOND);
    for node in [home, other] {
        fleet.node_mut(node).delay = SECOND;
    }
    fleet.pass(SECOND);
    let before = fleet.store.turns.len();
    fleet.pass(2 * SECOND);
    assert_eq!(fleet.store.turns.len(), before);
    fleet.node_mut(other).delay = Duration::ZERO;
    fleet.pass(8 * SECOND);
    assert!(
        fleet.store.turns.len() > before,
        "one with a fresh view does"
    );
}
