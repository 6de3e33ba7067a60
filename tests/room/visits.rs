//! Visits: repeated, retried, broken off, taken up again, after a crash.

use std::time::Duration;

use tidegate::model::{Kind, Micros, Policy};
use tidegate::room::answer::{Phase, TokenRefusal};

use super::house::{House, kinds, policy};

const SECOND: Duration = Duration::from_secs(1);

/// Nobody is called, so that places stand still.
fn still() -> Policy {
    Policy {
        paused: true,
        ..policy()
    }
}

#[test]
fn the_dead_are_removed_by_time_and_never_block_the_line() {
    let mut house = House::new(Policy {
        paused: true,
        ..policy()
    });
    let dead = house.join("sale").token;
    let alive = house.join("sale").token;
    for _ in 0..40 {
        house.pass(SECOND);
        house.status(&alive).unwrap();
    }
    assert_eq!(house.place(&alive), 1);
    assert!(matches!(
        house.status(&dead),
        Err(TokenRefusal::Gone(Some(_)))
    ));
}

#[test]
fn a_soft_leave_is_undone_by_a_poll_and_ends_without_one() {
    let mut house = House::new(still());
    let refreshed = house.join("sale").token;
    let closed = house.join("sale").token;
    let last = house.join("sale").token;
    for token in [&refreshed, &closed] {
        assert_eq!(
            house.room.leave_softly(house.now, token),
            Duration::from_secs(5)
        );
    }
    house.pass(SECOND);
    assert_eq!(house.place(&refreshed), 1);
    house.pass(6 * SECOND);
    assert_eq!(house.place(&refreshed), 1);
    assert!(matches!(
        house.status(&closed),
        Err(TokenRefusal::Gone(Some(_)))
    ));
    assert_eq!(house.place(&last), 2);
    house.flushed();
    house.room.leave_softly(house.now, &refreshed);
    house.status(&refreshed).unwrap();
    house.room.leave_softly(house.now, &refreshed);
    house.pass(4 * SECOND);
    house.status(&refreshed).unwrap();
    let kinds = kinds(&house.flushed());
    assert_eq!(
        kinds,
        [Kind::Leaving, Kind::Seen, Kind::Leaving, Kind::Seen]
    );
}

#[test]
fn a_repeated_join_is_a_visit_as_a_poll_is() {
    let mut house = House::new(still());
    let join = |house: &House| house.try_join("sale", Some("key"), None).unwrap();
    let token = join(&house).token;
    house.room.leave_softly(house.now, &token);
    house.pass(SECOND);
    join(&house);
    house.pass(6 * SECOND);
    assert_eq!(house.place(&token), 1, "the goodbye was taken back");

    let mut house = House::new(policy());
    let token = join(&house).token;
    house.pass(60 * SECOND);
    assert_eq!(join(&house).standing.position, 1, "late, and called first");
    house.pass(20 * SECOND);
    assert!(house.status(&token).is_ok(), "and not given up for lost");
}

#[test]
fn who_says_goodbye_softly_is_passed_over_and_called_on_return() {
    let mut house = House::new(Policy {
        rate: 1.0,
        leave_grace: 20 * SECOND,
        ..policy()
    });
    let first = house.join("sale").token;
    let second = house.join("sale").token;
    house.room.leave_softly(house.now, &first);
    house.pass(SECOND / 2);
    assert!(house.is_ready(&second));
    assert!(
        !house.is_ready(&first),
        "the poll itself brings it back to its place"
    );
    house.pass(2 * SECOND);
    assert!(house.is_ready(&first));
}

#[test]
fn leaving_is_final_also_when_the_token_comes_back() {
    let mut house = House::new(still());
    let token = house.join("sale").token;
    house.room.leave(house.now, &token);
    house.room.leave(house.now, &token);
    assert!(matches!(
        house.status(&token),
        Err(TokenRefusal::Gone(Some(_)))
    ));
    assert_eq!(kinds(&house.flushed()), [Kind::Joined, Kind::Left]);
    house.pass(SECOND);
    assert!(house.status(&token).is_err());
}

#[test]
fn a_replayed_join_finds_the_same_place_and_a_later_one_a_new_one() {
    let mut house = House::new(still());
    let first = house.try_join("sale", Some("key-1"), None).unwrap();
    house.join("sale");
    house.pass(SECOND);
    let replayed = house.try_join("sale", Some("key-1"), None).unwrap();
    assert_eq!(replayed.token, first.token);
    assert_eq!(replayed.standing.position, 1);
    assert_eq!(replayed.standing.total_waiting, 2);
    house.room.leave(house.now, &first.token);
    let rejoined = house.try_join("sale", Some("key-1"), None).unwrap();
    assert_ne!(rejoined.token, first.token);
    assert_eq!(rejoined.standing.position, 2, "a new place at the end");
}

#[test]
fn a_replayed_join_after_entering_shows_the_entry() {
    let mut house = House::new(policy());
    let joined = house.try_join("sale", Some("key-1"), None).unwrap();
    house.pass(SECOND);
    house.enter(&joined.token).unwrap();
    let replayed = house.try_join("sale", Some("key-1"), None).unwrap();
    assert_eq!(replayed.standing.phase, Phase::Entered);
    house.pass(SECOND);
    assert!(
        house.enter(&replayed.token).is_ok(),
        "with the pass of then"
    );
    assert_eq!(house.called.len(), 1);
}

#[test]
fn a_place_is_put_back_where_it_was_after_a_crash_that_lost_everything() {
    let mut house = House::new(still());
    let tokens: Vec<_> = (0..20)
        .map(|_| {
            house.pass(Duration::from_millis(10));
            house.join("sale").token
        })
        .collect();
    house.room.leave(house.now, &tokens[3]);
    house.pass(SECOND);
    let mut house = house.crashed(still());
    // They come back in any order, and some do not.
    for n in [7, 2, 19, 0, 11, 5] {
        house.status(&tokens[n]).unwrap();
    }
    let places: Vec<_> = [0, 2, 5, 7, 11, 19]
        .iter()
        .map(|n| house.place(&tokens[*n]))
        .collect();
    assert_eq!(places, [1, 2, 3, 4, 5, 6]);
    // The poll is told too: other nodes may know of a goodbye.
    let told = [Kind::Joined, Kind::Seen].repeat(6);
    assert_eq!(kinds(&house.flushed()), told);
    house.pass(SECOND);
    let newcomer = house.join("sale");
    assert_eq!(newcomer.standing.position, 7, "who comes now stands behind");
}

#[test]
fn nobody_enters_twice_across_a_crash() {
    let mut house = House::new(policy());
    let token = house.join("sale").token;
    house.pass(SECOND);
    let pass = house.enter(&token).unwrap().pass;
    let mut house = house.crashed(policy());
    // The room knows nothing; the gate does.
    house.status(&token).unwrap();
    house.pass(SECOND);
    let standing = house.status(&token).unwrap();
    assert_eq!(standing.phase, Phase::Entered);
    assert_eq!(house.enter(&token).unwrap().pass, pass);
}

#[test]
fn who_left_and_joined_again_keeps_the_new_place_across_a_crash() {
    let mut house = House::new(still());
    let join = |house: &House| house.try_join("sale", Some("key"), None).unwrap().token;
    let first = join(&house);
    house.join("sale");
    house.room.leave(house.now, &first);
    let written = house.flushed();
    house.pass(SECOND);
    let second = join(&house);
    assert_eq!(house.place(&second), 2);
    // The goodbye was written, the new join was not.
    let house = house.crashed(still());
    house.restore(&written);
    assert!(matches!(house.status(&first), Err(TokenRefusal::Gone(_))));
    assert_eq!(house.place(&second), 2);
    house.room.leave(house.now, &second);
    assert!(matches!(house.status(&second), Err(TokenRefusal::Gone(_))));
}

#[test]
fn a_goodbye_to_a_place_that_only_the_token_knows_is_for_good() {
    let mut house = House::new(still());
    let join = |house: &House| house.try_join("sale", Some("key"), None).unwrap().token;
    house.room.leave(house.now, &join(&house));
    let written = house.flushed();
    house.pass(SECOND);
    let second = join(&house);
    let house = house.crashed(still());
    house.restore(&written);
    house.room.leave(house.now, &second);
    assert!(matches!(house.status(&second), Err(TokenRefusal::Gone(_))));
}

#[test]
fn what_memory_holds_can_be_written_anew() {
    let mut house = House::new(still());
    let tokens: Vec<_> = (0..50).map(|_| house.join("sale").token).collect();
    house.room.leave(house.now, &tokens[10]);
    house.flushed();
    let mut records = Vec::new();
    for partition in 0..4 {
        house
            .room
            .dump(partition, Micros(0), |_, dumped| records.extend(dumped));
    }
    let count = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!((count(Kind::Joined), count(Kind::Left)), (49, 1));
    assert_eq!((count(Kind::Seen), records.len()), (49, 99));
    house.pass(SECOND);
}

#[test]
fn old_tokens_do_not_come_back() {
    let mut house = House::new(Policy {
        ticket_ttl: 100 * SECOND,
        late_grace: 50 * SECOND,
        ..still()
    });
    let token = house.join("sale").token;
    house.room.leave(house.now, &token);
    house.pass(140 * SECOND);
    assert!(matches!(house.status(&token), Err(TokenRefusal::Gone(_))));
}

#[test]
fn status_and_join_go_on_while_the_store_is_away_and_say_so() {
    let mut house = House::new(policy());
    let token = house.join("sale").token;
    house.away = true;
    house.room.set_degraded(true);
    house.pass(100 * SECOND);
    let standing = house.status(&token).unwrap();
    assert!(standing.degraded, "and nobody has expired");
    assert_eq!(standing.position, 1);
    house.join("sale");
    house.away = false;
    house.room.set_degraded(false);
    house.pass(SECOND);
    assert!(house.is_ready(&token));
}

#[test]
fn a_restart_puts_nobody_who_missed_a_turn_in_front_of_the_others() {
    let mut house = House::new(Policy {
        rate: 0.1,
        ..policy()
    });
    let absent = house.join("sale").token;
    let tokens: Vec<_> = (0..5).map(|_| house.join("sale").token).collect();
    house.pass(8 * SECOND);
    let places: Vec<_> = tokens.iter().map(|token| house.place(token)).collect();
    assert_eq!(
        places[..2],
        [0, 1],
        "the turn of the absent one went to the next"
    );
    let mut house = house.restarted(Policy {
        rate: 0.1,
        ..policy()
    });
    let after: Vec<_> = tokens.iter().map(|token| house.place(token)).collect();
    assert_eq!(after, places);
    assert_eq!(
        house.place(&absent),
        1,
        "who may still come back to their own place"
    );
    house.pass(5 * SECOND);
    assert!(house.is_ready(&absent));
}

#[test]
fn a_lost_join_that_was_asked_for_again_keeps_its_first_place() {
    let house = House::new(still());
    let first = house.try_join("sale", Some("key"), None).unwrap().token;
    let mut house = house.crashed(still());
    house.pass(SECOND);
    house.join("sale");
    house.join("sale");
    let second = house.try_join("sale", Some("key"), None).unwrap();
    assert_eq!(
        second.standing.position, 3,
        "nothing is known of the first join"
    );
    assert_eq!(house.place(&first), 1, "but its token knows");
    assert_eq!(house.place(&second.token), 1);
    house.room.leave(house.now, &second.token);
    assert!(house.status(&first).is_err());
}

#[test]
fn polls_with_a_token_that_was_left_behind_ask_the_gate_nothing() {
    let mut house = House::new(Policy {
        rate: 0.01,
        ..policy()
    });
    house.join("sale");
    let left = house.try_join("sale", Some("key"), None).unwrap().token;
    house.pass(SECOND);
    house.room.leave(house.now, &left);
    house.try_join("sale", Some("key"), None).unwrap();
    house.pass(SECOND);
    let asked = house.asked;
    for _ in 0..50 {
        assert_eq!(
            house.place(&left),
            1,
            "of the new place, as its ticket is the same"
        );
        house.tick();
    }
    let asked = house.asked - asked;
    assert!(asked <= 1, "{asked} questions for 50 polls");
}

#[test]
fn goodbyes_and_returns_do_not_set_the_pace_at_which_the_gate_is_asked() {
    let mut house = House::new(Policy {
        rate: 0.01,
        ..policy()
    });
    house.join("sale");
    let token = house.join("sale").token;
    house.pass(SECOND);
    let asked = house.asked;
    for _ in 0..50 {
        house.room.leave_softly(house.now, &token);
        assert_eq!(house.place(&token), 1);
        house.tick();
    }
    let asked = house.asked - asked;
    assert!(asked <= 1, "{asked} questions for 50 goodbyes");
}
