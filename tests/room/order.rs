//! Other orders than first come, first called.

use std::time::Duration;

use tidegate::model::{Order, Policy};
use tidegate::room::answer::WaitReason;

use super::house::{House, START, policy};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lottery_draws_those_who_came_before_the_opening() {
    let opens = Some(START.after(60 * SECOND));
    let mut house = House::new(Policy {
        order: Order::Lottery,
        opens,
        paused: true,
        heartbeat_ttl: 500 * SECOND,
        ..policy()
    });
    let early: Vec<_> = (0..40)
        .map(|_| {
            house.pass(SECOND);
            house.join("sale").token
        })
        .collect();
    let before = house.status(&early[0]).unwrap();
    assert_eq!(before.position, 40, "nobody has a place before the draw");
    assert_eq!(before.reason, Some(WaitReason::Calculating));
    house.pass(30 * SECOND);
    let late = house.join("sale").token;
    let places: Vec<_> = early.iter().map(|token| house.place(token)).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(1..=40));
    assert_ne!(places, sorted, "drawn, not in order of arrival");
    assert_eq!(
        house.place(&late),
        41,
        "who comes after the opening stands behind"
    );
}

#[test]
fn before_the_opening_nobody_is_called_and_then_the_line_moves() {
    let opens = Some(START.after(10 * SECOND));
    let mut house = House::new(Policy { opens, ..policy() });
    let first = house.join("sale");
    assert!(first.standing.eta.likely >= 10);
    house.pass(9 * SECOND);
    assert!(house.called.is_empty());
    house.pass(2 * SECOND);
    assert!(house.is_ready(&first.token));
}

#[test]
fn passthrough_lets_everybody_in_at_once() {
    let mut house = House::new(Policy {
        order: Order::Passthrough,
        rate: 0.0,
        ..policy()
    });
    for _ in 0..50 {
        let joined = house.join("sale");
        assert!(joined.standing.ready);
        let first = house.enter(&joined.token).unwrap();
        assert_eq!(
            house.enter(&joined.token).unwrap(),
            first,
            "once, like anywhere"
        );
    }
    let lazy = house.join("sale").token;
    house.pass(20 * SECOND);
    assert!(house.is_ready(&lazy), "a lapsed turn is simply given again");
    house.enter(&lazy).unwrap();
}
