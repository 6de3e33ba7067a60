//! What operators change while people wait; nobody loses a place by it.

use std::time::Duration;

use tidegate::model::{Order, Policy, PolicyPatch, Ruling};
use tidegate::room::answer::{TokenRefusal, WaitReason};

use super::house::{House, event, policy, settings};

const SECOND: Duration = Duration::from_secs(1);

fn patch(json: &str) -> PolicyPatch {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_pause_stops_calls_keeps_turns_and_is_told() {
    let mut house = House::new(policy());
    let tokens: Vec<_> = (0..30).map(|_| house.join("sale").token).collect();
    house.pass(SECOND);
    house
        .room
        .set_patch(
            house.now,
            &event("sale"),
            Some(patch(r#"{"paused": true}"#)),
        )
        .unwrap();
    house.tick();
    let called = house.called.len();
    house.pass(3 * SECOND);
    assert_eq!(house.called.len(), called);
    assert!(house.is_ready(&tokens[0]), "a turn that was given is kept");
    house.enter(&tokens[0]).unwrap();
    let waiting = house.status(&tokens[29]).unwrap();
    assert_eq!(waiting.reason, Some(WaitReason::Paused));
    house
        .room
        .set_patch(house.now, &event("sale"), None)
        .unwrap();
    house.pass(SECOND);
    let after = house.called.len() - called;
    assert!(
        (9..=12).contains(&after),
        "no burst for the time of the pause: {after}"
    );
}

#[test]
fn a_new_rate_counts_from_when_it_is_set() {
    let mut house = House::new(policy());
    let tokens: Vec<_> = (0..300).map(|_| house.join("sale").token).collect();
    house.pass(2 * SECOND);
    let slow = house.called.len();
    assert!((19..=21).contains(&slow), "{slow}");
    house
        .room
        .set_patch(house.now, &event("sale"), Some(patch(r#"{"rate": 50}"#)))
        .unwrap();
    house.pass(2 * SECOND);
    let fast = house.called.len() - slow;
    assert!((95..=101).contains(&fast), "{fast}");
    house
        .room
        .set_patch(house.now, &event("sale"), Some(patch(r#"{"rate": 1}"#)))
        .unwrap();
    let told = house.status(&tokens[299]).unwrap();
    assert_eq!(told.reason, Some(WaitReason::RateLowered));
    house.pass(2 * SECOND);
    assert!(house.called.len() - slow - fast <= 3);
}

#[test]
fn a_policy_out_of_range_is_refused_whole() {
    let house = House::new(policy());
    house.join("sale");
    let wrong = patch(r#"{"rate": -1, "burst": 0}"#);
    let mistakes = house
        .room
        .set_patch(house.now, &event("sale"), Some(wrong))
        .unwrap_err();
    assert_eq!(mistakes.len(), 2);
    assert_eq!(house.room.policy(&event("sale")).unwrap().rate, 10.0);
}

#[test]
fn new_settings_reach_every_event_and_overrides_stay_on_top() {
    let mut house = House::new(policy());
    house.join("a");
    house.join("b");
    house
        .room
        .set_patch(house.now, &event("a"), Some(patch(r#"{"burst": 7}"#)))
        .unwrap();
    house.pass(SECOND);
    house.room.reconfigure(
        house.now,
        settings(Policy {
            rate: 2.0,
            burst: 3,
            ..policy()
        }),
    );
    let of = |name| house.room.policy(&event(name)).unwrap();
    assert_eq!((of("a").rate, of("a").burst), (2.0, 7));
    assert_eq!((of("b").rate, of("b").burst), (2.0, 3));
}

#[test]
fn opening_the_doors_to_all_lets_those_who_wait_through() {
    let mut house = House::new(Policy {
        rate: 0.0,
        ..policy()
    });
    let token = house.join("sale").token;
    house.pass(SECOND);
    let open = Policy {
        order: Order::Passthrough,
        rate: 0.0,
        ..policy()
    };
    house.room.reconfigure(house.now, settings(open));
    assert!(house.is_ready(&token));
    house.enter(&token).unwrap();
}

#[test]
fn a_forgotten_event_voids_its_tokens() {
    let mut house = House::new(policy());
    let token = house.join("sale").token;
    let other = house.join("other").token;
    house.pass(SECOND);
    let ruling = Ruling {
        stamp: house.room.stamp(house.now),
        forgotten: house.room.forgetting(house.now, &event("sale")),
        patch: None,
    };
    let forgotten = house.room.take_ruling(house.now, &event("sale"), &ruling);
    assert_eq!(forgotten, 1);
    assert_eq!(
        house.status(&token).map(|_| ()),
        Err(TokenRefusal::NotFound)
    );
    assert!(house.status(&other).is_ok());
    house.pass(SECOND);
    let fresh = house.join("sale").token;
    assert!(house.status(&fresh).is_ok());
    assert!(house.status(&token).is_err());
}

#[test]
fn an_empty_event_is_dropped_after_a_while_and_may_come_again() {
    let mut house = House::new(Policy {
        ticket_ttl: 100 * SECOND,
        late_grace: 50 * SECOND,
        ..policy()
    });
    let token = house.join("sale").token;
    house.pass(SECOND);
    house.enter(&token).unwrap();
    house.pass(900 * SECOND);
    assert_eq!(house.room.events_held(), 0);
    house.join("sale");
    assert_eq!(house.room.events_held(), 1);
}
