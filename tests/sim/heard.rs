//! What nodes may take for known of each other, one story a test.

use std::time::Duration;

use tidegate::model::{Policy, PolicyPatch};
use tidegate::room::answer::Phase;

use super::fleet::Fleet;
use super::net::{Set, Trouble};
use super::stories::still;
use super::world::Setting;
use crate::room::house::policy;

const STEP: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);

fn two(policy: Policy, partitions: u16, clocks: [(i64, i64); 2]) -> Fleet {
    Fleet::with(Setting {
        nodes: 2,
        partitions,
        policy,
        latency: 0,
        journal: 100_000,
        clocks: clocks.to_vec(),
        seed: 1,
    })
}

/// Quick to lapse and to be over.
fn brisk() -> Policy {
    Policy {
        ready_ttl: SECOND,
        late_grace: 6 * SECOND,
        ..policy()
    }
}

/// Joins at a node and lets the turn lapse untaken, without anybody asking.
fn missed(fleet: &mut Fleet, node: u16) -> String {
    let token = fleet.join(node).token;
    fleet.pass(7 * SECOND / 2);
    token
}

/// A node that reaches all but one of the partitions is heard there, and its visitors are not: nobody
/// may take them for silent.
#[test]
fn who_polls_at_a_node_that_cannot_write_of_it_stays() {
    let policy = Policy {
        heartbeat_ttl: 6 * SECOND,
        ..still()
    };
    let mut fleet = two(policy, 2, [(0, 0); 2]);
    let tokens: Vec<_> = (0..8).map(|_| fleet.join(0).token).collect();
    fleet.pass(SECOND);
    for partition in 0..2 {
        fleet.trouble_in(Trouble::Refused, Set::one(1), Set::one(partition));
        for _ in 0..20 {
            fleet.pass(SECOND);
            let all = tokens.iter().all(|token| fleet.status(1, token).is_ok());
            assert!(all, "somebody is gone");
        }
        fleet.heal();
        fleet.until_heard();
        fleet.pass(SECOND);
    }
    for token in &tokens {
        assert_eq!(fleet.status(0, token).unwrap().phase, Phase::Waiting);
    }
}

/// Who comes back in the last moment, at a node that is cut off since, is not too late at another that
/// has not missed that node yet.
#[test]
fn who_is_back_in_time_is_so_everywhere() {
    for node in 0..2 {
        let mut fleet = two(brisk(), 4, [(0, 0); 2]);
        let token = missed(&mut fleet, node);
        fleet.pass(3 * SECOND);
        fleet.trouble(Trouble::Cut, Set::one(node));
        fleet.status(node, &token).unwrap();
        // The grace is over by now, and the node was heard three seconds ago.
        fleet.pass(2 * SECOND);
        let other = fleet.status(1 - node, &token);
        assert!(other.is_ok(), "{other:?}");
    }
}

/// A process that stood still is asked before it has noticed that it heard nobody meanwhile: another
/// node may have taken back who was late.
#[test]
fn who_comes_to_a_node_that_stood_still_gets_another_chance() {
    for node in 0..2 {
        let mut fleet = two(brisk(), 4, [(0, 0); 2]);
        let token = missed(&mut fleet, node);
        fleet.pass(9 * SECOND / 2);
        let back = fleet.status_late(node, &token, 15 * SECOND);
        assert!(back.is_ok(), "{back:?}");
    }
}

/// A node whose clock is ahead hears nothing that is new enough to act after a gate lost what it knew:
/// the others do not leave the turns to it.
#[test]
fn a_gate_that_lost_all_gives_turns_though_its_home_has_a_clock_that_is_ahead() {
    for node in 0..3_usize {
        let mut clocks = vec![(0, 0); 3];
        clocks[node].0 = 20_000_000;
        let mut fleet = Fleet::with(Setting {
            nodes: 3,
            partitions: 4,
            policy: policy(),
            latency: 0,
            journal: 100_000,
            clocks,
            seed: 1,
        });
        fleet.pass(16 * SECOND);
        (0..200).for_each(|n| drop(fleet.join(n % 3)));
        fleet.pass(SECOND);
        fleet.wipe();
        fleet.pass(5 * SECOND);
        let before = fleet.turns();
        fleet.pass(5 * SECOND);
        let given = fleet.turns() - before;
        assert!(given > 25, "{given} turns, with node {node} ahead");
    }
}

/// A node that has started anew is told by no store who is back, and may be the one that asks the gate.
#[test]
fn who_is_back_is_called_though_a_node_has_started_since() {
    for node in 0..2 {
        let policy = Policy {
            heartbeat_ttl: 9 * SECOND,
            late_grace: 60 * SECOND,
            ..brisk()
        };
        let mut fleet = two(policy, 4, [(0, 0); 2]);
        let token = missed(&mut fleet, 1 - node);
        fleet.trouble(Trouble::Blind, Set::ALL);
        fleet.pass(11 * SECOND);
        fleet.status(1 - node, &token).unwrap();
        fleet.pass(SECOND);
        fleet.crash(node);
        fleet.heal();
        fleet.start(node);
        for second in 0.. {
            if fleet.status(1 - node, &token).unwrap().ready {
                break;
            }
            assert!(second < 12, "it is not called");
            fleet.pass(SECOND);
        }
    }
}

/// Words about turns say the same on clocks that are far apart.
#[test]
fn who_is_back_is_called_though_a_clock_is_off() {
    for (off, asked) in [
        (-14_000_000, 0),
        (-14_000_000, 1),
        (14_000_000, 0),
        (14_000_000, 1),
    ] {
        for node in 0..2 {
            let mut clocks = [(0, 0); 2];
            clocks[usize::from(node)].0 = off;
            let policy = Policy {
                late_grace: 8 * SECOND,
                ..brisk()
            };
            let mut fleet = two(policy, 4, clocks);
            // So long a new gate waits for a node whose clock is behind.
            fleet.pass(16 * SECOND);
            let token = missed(&mut fleet, 1 - node);
            fleet.status(asked, &token).unwrap();
            fleet.pass(SECOND);
            let ready = |fleet: &Fleet| fleet.status(1 - node, &token).unwrap().ready;
            assert!(ready(&fleet), "node {node} off by {off} holds it up");
        }
    }
}

/// A goodbye is undone by a poll anywhere, though it was said later by its own node's clock, or far
/// earlier.
#[test]
fn who_is_back_after_a_goodbye_is_called_though_a_clock_is_off() {
    for (off, taker) in [
        (-24_000_000, 0),
        (-24_000_000, 1),
        (24_000_000, 0),
        (24_000_000, 1),
    ] {
        for node in 0..2 {
            let mut clocks = [(0, 0); 2];
            clocks[node].0 = off;
            let mut fleet = two(still(), 4, clocks);
            fleet.pass(16 * SECOND);
            let token = fleet.join(0).token;
            fleet.pass(SECOND);
            (0..100).for_each(|_| drop(fleet.join(0)));
            fleet.leave_softly(taker, &token);
            fleet.pass(SECOND);
            fleet.status(1 - taker, &token).unwrap();
            fleet.pass(SECOND);
            fleet.world.patch(&PolicyPatch {
                paused: Some(false),
                ..PolicyPatch::default()
            });
            fleet.pass(4 * SECOND);
            let standing = fleet.status(1 - taker, &token).unwrap();
            assert!(standing.ready, "node {node} off by {off} holds it up");
        }
    }
}

/// A goodbye for which the journal had no room is told all the same: it may be undone elsewhere.
#[test]
fn who_is_back_after_a_goodbye_that_was_dropped_stays() {
    let mut fleet = Fleet::with(Setting {
        nodes: 2,
        partitions: 1,
        policy: still(),
        latency: 0,
        journal: 8,
        clocks: vec![(0, 0); 2],
        seed: 1,
    });
    let mut others = Vec::new();
    for _ in 0..12 {
        others.push(fleet.join(1).token);
        fleet.pass(SECOND);
    }
    let token = fleet.join(1).token;
    fleet.pass(SECOND);
    fleet.trouble(Trouble::Refused, Set::one(0));
    for other in &others {
        fleet.leave(0, other);
    }
    fleet.leave_softly(0, &token);
    fleet.heal();
    fleet.pass(SECOND);
    fleet.status(1, &token).unwrap();
    fleet.pass(9 * SECOND);
    assert_eq!(fleet.places(&token), [1; 2]);
}

/// A node that is alone hears its gates in the feed, too: its own question may have been answered to
/// nobody.
#[test]
fn a_lone_node_knows_who_is_inside_though_the_answer_was_lost() {
    let mut fleet = Fleet::new(1, policy());
    let token = fleet.join(0).token;
    fleet.pass(SECOND);
    fleet.trouble(Trouble::OneWay, Set::ALL);
    fleet.enter(0, &token).unwrap_err();
    fleet.leave(0, &token);
    fleet.heal();
    fleet.until_heard();
    fleet.pass(SECOND + STEP);
    assert!(fleet.line().is_empty());
    assert_eq!(fleet.status(0, &token).unwrap().phase, Phase::Entered);
}
