//! What a store that lost something leaves behind, one story a test.

use std::time::Duration;

use tidegate::model::{Outage, Policy};

use super::fleet::Fleet;
use super::net::{Set, Trouble};
use super::stories::still;
use super::world::Setting;
use crate::room::house::policy;

const SECOND: Duration = Duration::from_secs(1);

/// A failover gives the positions of what was lost to what comes next: who has read so far reads them
/// again. The node that wrote what was lost is gone, so that it is not written at its place once more.
#[test]
pub fn what_takes_the_place_of_what_was_lost_is_heard_of() {
    let mut fleet = Fleet::with(Setting {
        nodes: 3,
        partitions: 1,
        policy: still(),
        latency: 0,
        journal: 100_000,
        clocks: vec![(0, 0); 3],
        seed: 1,
    });
    fleet.pass(SECOND);
    let mut tokens = Vec::new();
    let mut join = |fleet: &mut Fleet, node, millis| {
        tokens.push(fleet.join(node).token);
        fleet.pass(Duration::from_millis(millis));
    };
    (0..4).for_each(|_| join(&mut fleet, 2, 300));
    fleet.trouble(Trouble::Deaf, Set::one(1));
    fleet.crash(2);
    fleet.lose(2 * SECOND);
    (0..16).for_each(|_| join(&mut fleet, 0, 120));
    fleet.heal();
    // Soon all is written again that somebody knows.
    fleet.pass(5 * SECOND / 2);
    for (place, token) in (1..).zip(&tokens) {
        assert_eq!(fleet.places(token), [place, place]);
    }
}

/// A lone node writes the last minute of what was acknowledged once more after a failover, though
/// nothing else happens.
#[test]
pub fn what_a_failover_lost_is_written_again() {
    let mut fleet = Fleet::new(1, still());
    let token = fleet.join(0).token;
    fleet.pass(SECOND);
    fleet.lose(2 * SECOND);
    assert_eq!(fleet.line().len(), 0);
    fleet.pass(2 * SECOND);
    assert_eq!(fleet.line().len(), 1);
    assert_eq!(fleet.place(0, &token), 1);
}

/// A store that lost everything gets everything back, of however long ago.
#[test]
pub fn a_wiped_store_is_filled_from_memory() {
    let patient = Policy {
        heartbeat_ttl: Duration::from_secs(3_600),
        ..still()
    };
    let mut fleet = Fleet::with(Setting {
        nodes: 2,
        partitions: 1,
        policy: patient,
        latency: 0,
        journal: 100_000,
        clocks: vec![(0, 0); 2],
        seed: 1,
    });
    let mut join = |node, after| {
        fleet.pass(after);
        fleet.join(node).token
    };
    // The last two come when the first are no more among what was acknowledged lately.
    let of = [(0, 1), (1, 1), (1, 1), (0, 1), (0, 180), (1, 1)];
    let tokens = of.map(|(node, after)| join(node, after * SECOND));
    fleet.pass(SECOND);
    fleet.wipe();
    fleet.notice();
    fleet.pass(10 * SECOND);
    assert_eq!(fleet.line().len(), 6);
    for (place, token) in (1..).zip(&tokens) {
        assert_eq!(fleet.places(token), [place; 2]);
    }
}

/// Who has not asked since the store's clock jumped takes the turns it hears of for longer ones than
/// they are. A gate that was wiped is told of them as they were given all the same.
#[test]
pub fn a_turn_is_told_again_as_it_was_given_though_the_stores_clock_jumped() {
    let short = Policy {
        ready_ttl: 3 * SECOND,
        ..policy()
    };
    let mut fleet = Fleet::with(Setting {
        nodes: 2,
        partitions: 4,
        policy: short,
        latency: 0,
        journal: 100_000,
        clocks: vec![(10_000, 0); 2],
        seed: 1,
    });
    fleet.join(0);
    // By then no turns are put aside for who joins.
    fleet.pass(70 * SECOND);
    fleet.world.jump_store(17_000_000);
    fleet.trouble(Trouble::Unheard, Set::one(1));
    fleet.join(0);
    fleet.pass(SECOND / 2);
    fleet.heal();
    let turns = |fleet: &Fleet| {
        let gates = fleet.store(|store| store.gates());
        let open = gates.into_iter().flat_map(|gate| gate.called);
        open.map(|turn| (turn.id, turn.until)).collect::<Vec<_>>()
    };
    let given = turns(&fleet);
    assert_eq!(given.len(), 1);
    fleet.wipe();
    for _ in 0..100 {
        fleet.pass(SECOND / 10);
        let open = turns(&fleet);
        assert!(
            open.iter().all(|turn| given.contains(turn)),
            "{open:?}, of {given:?}"
        );
    }
}

/// A store comes back empty, and the first to hear it is a node that has just started and knows nothing
/// of what was given.
#[test]
fn who_starts_on_an_emptied_store_gives_no_second_burst() {
    for outage in [Outage::Hold, Outage::Share] {
        let patient = Policy {
            rate: 1.0,
            burst: 30,
            ready_ttl: 600 * SECOND,
            heartbeat_ttl: 3_600 * SECOND,
            outage,
            ..policy()
        };
        let mut fleet = Fleet::new(3, patient);
        fleet.pass(20 * SECOND);
        let tokens: Vec<_> = (0..150).map(|n| fleet.join(n % 3).token).collect();
        fleet.pass(SECOND);
        fleet.trouble(Trouble::Cut, Set::ALL);
        fleet.pass(2 * SECOND);
        fleet.wipe();
        fleet.heal_one(0);
        fleet.start(0);
        for second in 4..30 {
            for token in &tokens {
                let _ = fleet.status(0, token);
            }
            fleet.pass(SECOND);
            if second == 8 {
                fleet.heal();
            }
            assert!(
                fleet.turns() <= 30 + second,
                "{outage:?} in second {second}"
            );
        }
    }
}
