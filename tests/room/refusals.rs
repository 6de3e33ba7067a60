//! Who is not let in, not let wait, or not believed, and what they are told.

use std::time::Duration;

use tidegate::model::{Order, Policy};
use tidegate::room::answer::{JoinRefusal, TokenRefusal};

use super::house::{House, START, event, policy, settings};

#[test]
fn names_are_checked() {
    let house = House::new(policy());
    let join = |name: &str| house.try_join(name, None, None).map(|_| ());
    assert_eq!(join(""), Err(JoinRefusal::MissingEvent));
    assert!(matches!(
        join("no spaces"),
        Err(JoinRefusal::InvalidEvent(_))
    ));
    assert_eq!(join("fine"), Ok(()));
}

#[test]
fn full_is_an_answer() {
    let house = House::with(
        settings(Policy {
            max_waiting: 2,
            ..policy()
        }),
        1_000_000,
        2,
    );
    house.join("a");
    house.join("a");
    let full = |event: &str| match house.try_join(event, None, None) {
        Err(JoinRefusal::Full { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(full("a"), "the line");
    house.join("b");
    assert_eq!(full("c"), "the number of events");
}

#[test]
fn a_full_journal_refuses_joins_and_nothing_else() {
    let mut house = House::with(settings(policy()), 8, 10);
    house.away = true;
    let tokens: Vec<_> = (0..8).map(|_| house.join("a").token).collect();
    assert!(matches!(
        house.try_join("a", None, None),
        Err(JoinRefusal::Full {
            what: "the journal",
            ..
        })
    ));
    assert_eq!(house.place(&tokens[7]), 8);
    house.room.leave(house.now, &tokens[0]);
    assert_eq!(house.place(&tokens[7]), 7);
    house.flushed();
    house.join("a");
}

#[test]
fn events_need_not_be_made_on_demand() {
    let mut settings = settings(policy());
    settings.create_on_demand = false;
    settings.events.insert(event("known"), policy());
    let house = House::with(settings, 1000, 10);
    house.join("known");
    let refused = house.try_join("unknown", None, None).map(|_| ());
    assert_eq!(refused, Err(JoinRefusal::EventNotFound));
}

#[test]
fn a_closed_event_and_one_that_rejects_take_nobody() {
    let closes = Some(START.after(Duration::from_secs(1)));
    let mut house = House::new(Policy { closes, ..policy() });
    let inside = house.join("sale").token;
    house.pass(Duration::from_secs(2));
    let refused = house.try_join("sale", None, None).map(|_| ());
    assert_eq!(refused, Err(JoinRefusal::EventClosed));
    assert!(house.status(&inside).is_ok());
    let house = House::new(Policy {
        order: Order::Reject,
        ..policy()
    });
    let refused = house.try_join("sale", None, None).map(|_| ());
    assert_eq!(refused, Err(JoinRefusal::EventClosed));
}

#[test]
fn a_key_is_for_one_body() {
    let house = House::new(policy());
    house.try_join("sale", Some("key"), Some("ann")).unwrap();
    house.try_join("sale", Some("key"), Some("ann")).unwrap();
    for (event, user) in [
        ("sale", Some("ben")),
        ("sale", None),
        ("other", Some("ann")),
    ] {
        let refused = house.try_join(event, Some("key"), user).map(|_| ());
        assert_eq!(refused, Err(JoinRefusal::Conflict), "{event} {user:?}");
    }
}

#[test]
fn a_key_with_another_body_is_noticed_by_the_ticket_alone() {
    let house = House::new(policy());
    let token = house
        .try_join("sale", Some("key"), Some("ann"))
        .unwrap()
        .token;
    let house = house.crashed(policy());
    house.status(&token).unwrap();
    let refused = house.try_join("sale", Some("key"), Some("ben")).map(|_| ());
    assert_eq!(refused, Err(JoinRefusal::Conflict));
}

#[test]
fn what_was_not_signed_here_shows_nothing() {
    let house = House::new(policy());
    let token = house.join("sale").token;
    let cut = &token[..token.len() - 1];
    let flipped = format!(
        "{}{}",
        if token.starts_with('A') { 'B' } else { 'A' },
        &token[1..]
    );
    for forged in ["", "x", "wtkn_fallback_1_abc", cut, &flipped] {
        assert_eq!(
            house.status(forged).map(|_| ()),
            Err(TokenRefusal::NotFound),
            "{forged}"
        );
    }
}
