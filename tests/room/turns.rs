//! Turns: called in order, at the pace, paid for, kept, missed, given to the next.

use std::time::Duration;

use tidegate::model::Policy;
use tidegate::room::answer::{EnterRefusal, NotReady, Phase, TokenRefusal};

use super::house::{House, policy};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_visitor_waits_is_called_and_enters_once() {
    let mut house = House::new(policy());
    let joined = house.join("sale");
    assert_eq!(
        (joined.standing.position, joined.standing.ready),
        (1, false)
    );
    assert!(matches!(
        house.enter(&joined.token),
        Err(EnterRefusal::NotReady { .. })
    ));
    house.pass(Duration::from_millis(50));
    let standing = house.status(&joined.token).unwrap();
    assert!(standing.ready);
    assert_eq!((standing.position, standing.eta.likely), (0, 0));
    assert!(standing.enter_within.unwrap() <= Duration::from_millis(5_100));
    let first = house.enter(&joined.token).unwrap();
    let again = house.enter(&joined.token).unwrap();
    assert_eq!(
        first.pass, again.pass,
        "a lost answer costs nobody their turn"
    );
    assert_eq!(house.status(&joined.token).unwrap().phase, Phase::Entered);
    // The turn could have been used for six seconds, and the pass is good for ten from then.
    house.pass(17 * SECOND);
    let over = house.enter(&joined.token);
    assert!(
        matches!(over, Err(EnterRefusal::Token(TokenRefusal::Gone(_)))),
        "{over:?}"
    );
}

#[test]
fn turns_come_in_order_and_never_faster_than_the_pace() {
    let mut house = House::new(Policy {
        burst: 3,
        ..policy()
    });
    let tokens: Vec<_> = (0..60).map(|_| house.join("sale").token).collect();
    for tenth in 1..=40 {
        house.pass(Duration::from_millis(100));
        let ready: Vec<_> = tokens.iter().map(|token| house.is_ready(token)).collect();
        let called = ready.iter().filter(|ready| **ready).count();
        assert!(
            called <= 3 + tenth,
            "{called} turns after {tenth} tenths of a second"
        );
        assert!(
            called + 2 >= 3 + tenth,
            "{called} turns after {tenth} tenths of a second"
        );
        assert!(ready.is_sorted_by(|a, b| a >= b), "front first");
    }
    assert!((60 - 43..=60 - 42).contains(&house.place(&tokens[59])));
}

#[test]
fn a_missed_turn_goes_to_the_next_and_its_owner_comes_back_to_the_front() {
    let mut house = House::new(Policy {
        rate: 0.14,
        ..policy()
    });
    let late = house.join("sale").token;
    let next = house.join("sale").token;
    let third = house.join("sale").token;
    house.pass(SECOND);
    assert!(house.is_ready(&late));
    // Nobody polls for `late` any more; a turn lapses after 5 s and a second of grace.
    house.pass(6 * SECOND);
    assert!(
        house.is_ready(&next),
        "the turn of the one who did not come"
    );
    let places = house.place(&third);
    let back = house.status(&late).unwrap();
    assert_eq!(
        (back.position, back.ready),
        (1, false),
        "called again at their own place"
    );
    assert_eq!(house.place(&third), places, "nobody's place rises for it");
    let refused = house.enter(&late);
    let missed = NotReady::MissedTurn;
    assert!(
        matches!(refused, Err(EnterRefusal::NotReady { reason, .. }) if reason == missed),
        "{refused:?}"
    );
    house.enter(&next).unwrap();
    house.pass(7 * SECOND);
    assert!(house.is_ready(&late) && !house.is_ready(&third));
    house.enter(&late).unwrap();
}

#[test]
fn who_misses_the_turn_and_the_grace_is_gone() {
    let mut house = House::new(policy());
    let token = house.join("sale").token;
    house.pass(SECOND);
    assert!(house.is_ready(&token));
    house.pass(70 * SECOND);
    assert!(matches!(
        house.status(&token),
        Err(TokenRefusal::Gone(Some(_)))
    ));
}

#[test]
fn a_turn_given_back_by_leaving_is_given_at_once() {
    let mut house = House::new(Policy {
        rate: 0.1,
        ..policy()
    });
    let first = house.join("sale").token;
    let second = house.join("sale").token;
    house.pass(SECOND);
    assert!(house.is_ready(&first) && !house.is_ready(&second));
    house.room.leave(house.now, &first);
    house.pass(Duration::from_millis(300));
    assert!(house.is_ready(&second));
}

#[test]
fn who_comes_while_nobody_waits_is_ready_in_the_joins_own_answer() {
    let mut house = House::new(Policy {
        rate: 100.0,
        burst: 20,
        ..policy()
    });
    let first = house.join("sale").token;
    house.pass(SECOND);
    house.enter(&first).unwrap();
    house.pass(2 * SECOND);
    let joined = house.join("sale");
    assert!(joined.standing.ready);
    assert_eq!(joined.standing.position, 0);
    house.enter(&joined.token).unwrap();
}

#[test]
fn instant_turns_never_pass_the_pace() {
    let mut house = House::new(Policy {
        rate: 10.0,
        burst: 10,
        ..policy()
    });
    let first = house.join("sale").token;
    house.pass(3 * SECOND);
    house.enter(&first).unwrap();
    let since = house.now;
    let mut entered = 0;
    for _ in 0..400 {
        let joined = house.join("sale");
        if joined.standing.ready && house.enter(&joined.token).is_ok() {
            entered += 1;
        }
        house.pass(Duration::from_millis(10));
        let time = house.now.since(since).as_secs_f64();
        let called = house.called.iter().filter(|(at, ..)| *at > since).count();
        assert!(f64::from(entered) + called as f64 <= 11.0 + 10.0 * time);
    }
    assert!(entered > 0);
}

#[test]
fn the_active_cap_is_kept_until_somebody_completes() {
    let mut house = House::new(Policy {
        rate: 100.0,
        burst: 100,
        max_active: 3,
        ..policy()
    });
    let tokens: Vec<_> = (0..6).map(|_| house.join("sale").token).collect();
    house.pass(SECOND);
    let ready = tokens.iter().filter(|token| house.is_ready(token)).count();
    assert_eq!(ready, 3);
    for token in &tokens[..3] {
        house.enter(token).unwrap();
    }
    house.pass(SECOND);
    assert!(!house.is_ready(&tokens[3]));
    let refused = house.enter(&tokens[3]);
    assert!(
        matches!(
            refused,
            Err(EnterRefusal::NotReady {
                reason: NotReady::Capacity,
                ..
            })
        ),
        "{refused:?}"
    );
    let pass = house.enter(&tokens[0]).unwrap().pass;
    let ticket = house.room.pass_claims(house.now, &pass).unwrap().ticket;
    let gate = house.gates.get_mut(&super::house::event("sale")).unwrap();
    assert!(gate.complete(&ticket, &mut Vec::new()));
    house.pass(SECOND);
    assert!(house.is_ready(&tokens[3]) && !house.is_ready(&tokens[4]));
}

#[test]
fn the_rate_is_used_while_people_wait_though_some_do_not_come() {
    let mut house = House::new(Policy {
        rate: 20.0,
        burst: 10,
        ..policy()
    });
    let tokens: Vec<_> = (0..400).map(|_| house.join("sale").token).collect();
    let mut entered = 0u32;
    for step in 0..300 {
        house.pass(Duration::from_millis(100));
        for (n, token) in tokens.iter().enumerate() {
            // Every tenth closed the tab. The others poll once a second, and enter when they may.
            if n % 10 != 9 && n % 10 == step % 10 && house.status(token).is_ok_and(|s| s.ready) {
                entered += u32::from(house.enter(token).is_ok());
            }
        }
    }
    // 360 come, 20 a second: 18 seconds, and the turns of the 40 who do not come are given again.
    assert_eq!(entered, 360);
    let turns = house.called.len() as f64;
    let busy = house
        .called
        .last()
        .unwrap()
        .0
        .since(house.called[0].0)
        .as_secs_f64();
    assert!(turns >= 0.95 * 20.0 * busy, "{turns} turns in {busy} s");
}

/// The answer to a question that was asked before a turn was given may come after the visitor was let in.
#[test]
fn a_turn_that_came_with_a_join_is_not_given_twice_by_an_answer_that_is_older() {
    let mut house = House::new(Policy {
        rate: 0.01,
        burst: 2,
        ..policy()
    });
    let first = house.join("sale").token;
    house.pass(SECOND);
    house.enter(&first).unwrap();
    house.pass(2 * SECOND);
    let mut asking = Vec::new();
    while asking.is_empty() {
        house.now = house.now.after(Duration::from_millis(10));
        house.room.tick(house.now, &mut asking);
    }
    let ask = asking.remove(0);
    let gate = house.gates.get_mut(&ask.request.event).unwrap();
    let answer = gate.advance(house.now, &ask.request, &mut Vec::new());
    assert_eq!(answer.lease, 1);
    let joined = house.join("sale");
    assert!(joined.standing.ready);
    house.enter(&joined.token).unwrap();
    house.room.advanced(house.now, ask, Some(answer));
    assert!(
        !house.join("sale").standing.ready,
        "nothing is left to give"
    );
}
