//! Places moved over from another gateway: its tokens stand for tickets here, as memory has them.

use std::time::Duration;

use tidegate::model::token::TicketKeys;
use tidegate::model::{Batch, Gone, Kind, LegacyToken, Micros, NodeId};
use tidegate::model::{Policy, Record, Ruling, TicketId};
use tidegate::room::answer::{EnterRefusal, NotReady, Phase, TokenRefusal};

use super::house::{House, START, event, policy};

const SECOND: Duration = Duration::from_secs(1);
const FIRST: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";
const SECOND_ONE: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const UNKNOWN: &str = "16fd2706-8baf-433b-82eb-8c7fada847da";

fn still() -> Policy {
    Policy {
        paused: true,
        ..policy()
    }
}

/// The ids of a token's lives.
fn ids(token: &str) -> [TicketId; 3] {
    let keys = TicketKeys::new("k1", &[("k1".to_owned(), [7; 32])]).unwrap();
    keys.legacy_ids(&LegacyToken::parse(token).unwrap())
}

/// What an import writes: one record of one ticket.
fn import(house: &House, name: &str, kind: Kind, id: TicketId, at: Micros) {
    house.room.apply(
        house.now,
        &Batch {
            node: NodeId::OUTSIDE,
            epoch: 9,
            seq: 1,
            clock: Micros(0),
            events: vec![(event(name), vec![Record { kind, id, at }])],
        },
    );
}

fn moved(house: &House, name: &str, token: &str, ago: Duration) {
    let at = Micros(START.0 - ago.as_micros() as u64);
    import(house, name, Kind::Joined, ids(token)[0], at);
}

#[test]
fn a_token_of_the_other_gateway_has_its_place_before_those_who_joined_here() {
    let house = House::new(still());
    let here = house.join("sale").token;
    assert_eq!(house.status(FIRST), Err(TokenRefusal::NotFound));
    moved(&house, "sale", SECOND_ONE, SECOND);
    moved(&house, "sale", FIRST, 60 * SECOND);
    moved(&house, "another", UNKNOWN, SECOND);
    assert_eq!(house.place(FIRST), 1);
    assert_eq!(house.place(SECOND_ONE), 2);
    assert_eq!(house.place(&here), 3);
    assert_eq!(house.status(FIRST).unwrap().waited, 60 * SECOND);
    assert_eq!(house.place(UNKNOWN), 1, "an event of its own");
    // An id is no token, however it is written.
    let id = ids(FIRST)[0].to_string();
    let as_uuid = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    assert_eq!(house.status(&as_uuid), Err(TokenRefusal::NotFound));
    assert_eq!(house.room.rank(FIRST), Some(1));
}

#[test]
fn it_enters_in_its_turn_and_leaves_as_anybody() {
    let mut house = House::new(policy());
    moved(&house, "sale", FIRST, 60 * SECOND);
    moved(&house, "sale", SECOND_ONE, SECOND);
    house.pass(SECOND);
    assert!(house.is_ready(FIRST));
    let admission = house.enter(FIRST).unwrap();
    assert_eq!(house.enter(FIRST).unwrap().pass, admission.pass);
    assert_eq!(house.status(FIRST).unwrap().phase, Phase::Entered);
    house.room.leave(house.now, SECOND_ONE);
    let left = Err(TokenRefusal::Gone(Some(Gone::Left)));
    assert_eq!(house.status(SECOND_ONE), left);
    house.room.leave(house.now, UNKNOWN);
    assert_eq!(house.status(UNKNOWN), Err(TokenRefusal::NotFound));
}

#[test]
fn a_soft_leave_is_undone_by_a_poll() {
    let mut house = House::new(still());
    moved(&house, "sale", FIRST, SECOND);
    house.room.leave_softly(house.now, FIRST);
    house.pass(SECOND);
    assert_eq!(house.place(FIRST), 1);
    house.pass(6 * SECOND);
    assert_eq!(house.place(FIRST), 1);
}

#[test]
fn who_entered_there_does_not_enter_here() {
    let mut house = House::new(policy());
    moved(&house, "sale", FIRST, 60 * SECOND);
    let long_ago = Micros(house.now.0 - 600_000_000);
    import(&house, "sale", Kind::Entered, ids(FIRST)[0], long_ago);
    import(&house, "sale", Kind::Entered, ids(UNKNOWN)[0], long_ago);
    for token in [FIRST, UNKNOWN] {
        house.pass(SECOND);
        assert_eq!(house.status(token).unwrap().phase, Phase::Entered);
        let entered = EnterRefusal::Token(TokenRefusal::Gone(Some(Gone::Entered)));
        assert_eq!(house.enter(token).unwrap_err(), entered);
    }
}

#[test]
fn who_expired_here_while_polling_there_is_moved_once_more() {
    let mut house = House::new(still());
    moved(&house, "sale", FIRST, 60 * SECOND);
    moved(&house, "sale", SECOND_ONE, SECOND);
    for _ in 0..20 {
        house.pass(SECOND);
        house.status(SECOND_ONE).unwrap();
        // What an import tells of somebody who still polls there.
        import(&house, "sale", Kind::Seen, ids(FIRST)[0], house.now);
    }
    for _ in 0..20 {
        house.pass(SECOND);
        assert_eq!(house.place(SECOND_ONE), 2);
    }
    for _ in 0..20 {
        house.pass(SECOND);
        house.status(SECOND_ONE).unwrap();
    }
    let expired = Err(TokenRefusal::Gone(Some(Gone::Expired)));
    assert_eq!(house.status(FIRST), expired);
    assert_eq!(house.place(SECOND_ONE), 1);
    import(
        &house,
        "sale",
        Kind::Joined,
        ids(FIRST)[1],
        Micros(START.0 - 60_000_000),
    );
    assert_eq!(house.place(FIRST), 1);
    assert_eq!(house.place(SECOND_ONE), 2);
    let not_ready = house.enter(FIRST).unwrap_err();
    assert!(matches!(
        not_ready,
        EnterRefusal::NotReady {
            reason: NotReady::Paused,
            ..
        }
    ));
    house.room.leave(house.now, FIRST);
    let left = Err(TokenRefusal::Gone(Some(Gone::Left)));
    assert_eq!(house.status(FIRST), left);
}

#[test]
fn a_restart_finds_them_and_a_forgotten_event_has_none() {
    let house = House::new(still());
    moved(&house, "sale", FIRST, 60 * SECOND);
    moved(&house, "sale", SECOND_ONE, SECOND);
    house.room.leave(house.now, SECOND_ONE);
    // A node writes none of it again: the import did.
    assert_eq!(house.flushed().len(), 1);
    let fresh = House::new(still());
    let key = |token: &str, ago: u64| tidegate::model::TicketKey {
        arrival: Micros(START.0 - ago),
        id: ids(token)[0],
    };
    let removed = (ids(SECOND_ONE)[0], START, Gone::Left);
    fresh
        .room
        .restore_removed(fresh.now, &event("sale"), &[removed]);
    assert_eq!(
        fresh.status(SECOND_ONE),
        Err(TokenRefusal::Gone(Some(Gone::Left)))
    );
    fresh
        .room
        .restore_live(fresh.now, &event("sale"), &[key(FIRST, 60_000_000)]);
    assert_eq!(fresh.place(FIRST), 1);
    let ruling = Ruling {
        stamp: fresh.now,
        forgotten: fresh.room.forgetting(fresh.now, &event("sale")),
        patch: None,
    };
    fresh.room.take_ruling(fresh.now, &event("sale"), &ruling);
    assert_eq!(fresh.status(FIRST), Err(TokenRefusal::NotFound));
}

#[test]
fn an_import_is_no_node_and_moves_no_clock() {
    let house = House::new(still());
    let before = house.room.stamp(house.now);
    moved(&house, "sale", FIRST, 60 * SECOND);
    assert_eq!(house.room.stamp(house.now).0, before.0 + 1);
    assert_eq!(house.room.clocks_off(), 0);
    let forged = house.room.forged();
    assert_eq!(house.status(UNKNOWN), Err(TokenRefusal::NotFound));
    assert_eq!(house.room.forged(), forged + 1);
}
